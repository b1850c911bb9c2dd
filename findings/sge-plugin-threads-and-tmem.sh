#!/usr/bin/env bash
# snakemake-executor-plugin-sge 0.6.31 asks Grid Engine for one slot whatever `threads` a
# rule has, also with a parallel environment; and, for `mem_mb`, for a resource `tmem` that
# a site has to have defined itself.
#
# Guess: `threads: 4` with --sge-pe smp is `-pe smp 4`; mem_mb is h_vmem or mem_free alone.
# Seen: … -pe smp 1 -l h_rt=00:05:00 -l h_vmem=1000M -l tmem=1000M …
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq snakemake==9.27.1 snakemake-executor-plugin-sge==0.6.31
cd "$place"
mkdir bin
# In place of Grid Engine: notes what it is asked for, and takes no job.
printf '#!/bin/sh\nprintf "%%s\\n" "$*" >> asked\nexit 1\n' > bin/qsub
for name in qstat qacct qdel; do printf '#!/bin/sh\nexit 0\n' > "bin/$name"; done
chmod +x bin/*
cat > Snakefile <<'RULE'
rule count:
    output: "a.out"
    threads: 4
    resources: mem_mb=1000, runtime=5
    shell: "nproc > {output}"
RULE
PATH="$place/bin:$place/venv/bin:$PATH" HOME="$place" \
    snakemake --executor sge --sge-pe smp --jobs 4 > log 2>&1 || true
grep -o -- '-pe .*' asked
grep -q -- '-pe smp 1 ' asked
grep -q -- '-l tmem=1000M' asked
