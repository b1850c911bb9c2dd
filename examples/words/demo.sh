#!/bin/sh
# Serve a directory of texts, to which one more comes, and show what came out.
#
#     sh examples/words/demo.sh DIRECTORY [DIRECTORY_OF_THE_PROGRAMS]
set -eu
here=$(dirname "$0")
texts=$1/texts
out=$1/results
# Without this, `tigerflow` and `python` are those of the active environment.
PATH=${2:+$2:}$PATH

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

# For a minute at most: the demo ends in any case.
wait_for() {
    for _ in $(seq 300); do
        [ -e "$1" ] && break
        sleep 0.2
    done
    sleep 1
}

# What somebody else does, in another terminal.
meanwhile() {
    wait_for "$out/.tigerflow/tasks/load/worker.out"
    printf 'One more text, which comes later than the others.\n' >"$texts/late.txt"
    wait_for "$out/.tigerflow/tasks/load/late.out"
    tigerflow stop "$out" >/dev/null
}

mkdir -p "$1"
cp -R "$here/texts" "$texts"

printf 'While this runs, late.txt comes; then "tigerflow stop %s" ends it.\n' "$out"
meanwhile &
status=0
show tigerflow run "$here/pipeline.yaml" "$texts" "$out" || status=$?
kill $! 2>/dev/null || true
if [ "$status" -ne 143 ]; then
    printf '\nIt ended with %s, not with 143, as after "tigerflow stop".\n' "$status"
    exit 1
fi

show tigerflow report "$out"
show cat "$out/count/scan_0042.err"
show python "$here/show.py" "$out/words.duckdb"

printf '\nEvery file has its result (count/*.json) or its error (count/*.err).\n'
printf 'The rules that Snakemake ran: %s\n' "$out/.tigerflow/workflow/Snakefile"
