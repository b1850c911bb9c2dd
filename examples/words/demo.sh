#!/bin/sh
# Compile the words pipeline, run it with plain Snakemake, show what came out.
#
#     sh examples/words/demo.sh OUTPUT_DIR [DIRECTORY_OF_THE_PROGRAMS]
set -eu
here=$(dirname "$0")
out=$1
# Without this, `tigerflow` and `snakemake` are those of the active environment.
PATH=${2:+$2:}$PATH

show() {
    printf '\n$ %s\n' "$*"
    "$@"
}

show tigerflow compile "$here/pipeline.yaml" "$here/texts" "$out"

status=0
show snakemake -s "$out/.tigerflow/workflow/Snakefile" \
    --profile "$out/.tigerflow/workflow/profiles/local" --quiet all || status=$?
if [ "$status" -eq 1 ] && [ -e "$out/count/scan_0042.err" ]; then
    printf '\nSnakemake ended with 1: one of the files is a picture, not a text.\n'
else
    printf '\nSnakemake ended with %s, which this demo does not expect.\n' "$status"
    exit 1
fi

show ls "$out" "$out/count"
show cat "$out/count/scan_0042.err"
show python "$here/show.py" "$out/words.duckdb"

printf '\nEvery file has its result (count/*.json) or its error (count/*.err).\n'
printf 'The rules that Snakemake ran: %s\n' "$out/.tigerflow/workflow/Snakefile"
