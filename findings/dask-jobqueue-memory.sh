#!/usr/bin/env bash
# dask-jobqueue 0.9.0 asks Slurm for whole gibibytes, rounded up, once it is more than one:
# up to twice the memory that it was given, and that its worker is then held to.
#
# Guess: memory="1.1GiB" is --mem=1127M, as 900MB is --mem=859M.
# Seen: --mem=2G, with --memory-limit 1.10GiB.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq dask-jobqueue==0.9.0 dask==2026.8.0 distributed==2026.8.0
cd "$place"
"$place/venv/bin/python" - <<'CODE'
import re

from dask_jobqueue import SLURMCluster


def asked(memory):
    with SLURMCluster(
        cores=1, memory=memory, scheduler_options={"host": "127.0.0.1"}
    ) as cluster:
        script = cluster.job_script()
    job = re.search(r"--mem=(\S+)", script)[1]
    limit = re.search(r"--memory-limit (\S+)", script)[1]
    print(f"{memory}: --mem={job}, --memory-limit {limit}")
    return job, limit


assert asked("900MB") == ("859M", "858.31MiB")
assert asked("1.1GiB") == ("2G", "1.10GiB")
assert asked("1.9GiB") == ("2G", "1.90GiB")
CODE
