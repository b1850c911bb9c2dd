# Generated from pipeline.yaml by `tigerflow compile`.
# Edit that file and compile again: changes made here are overwritten.
from tigerflow.workflow import (
    allow_local_jobs,
    find_stems,
    limit_files,
    refuse_beside_service,
    run_command,
    stop_workers,
)


workdir: "/data/results"


# Hands one file to a worker of the task, and waits for the result.
RUN = run_command(workflow, ".tigerflow/workflow")

STEMS = find_stems(".tigerflow/input", ".txt")

# The most files in flight, unless a profile or --resources sets a limit.
limit_files(
    workflow,
    embed_files=32,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    embed,


onstart:
    refuse_beside_service()
    # Jobs that only wait for a worker need no core, but they count as jobs.
    allow_local_jobs(workflow, 32)


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand("embed/{stem}.out", stem=STEMS),


rule embed:
    """Make vectors of texts, of several at once."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "embed/{stem}.out",
    threads: 0
    resources:
        embed_files=1,
    shell:
        "{RUN} embed {input:q} {output:q}"
