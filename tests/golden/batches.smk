# Made from pipeline.yaml by `tigerflow compile`: change that
# file and compile again; what is changed here is lost then.
from tigerflow.workflow import (
    allow_local_jobs,
    find_stems,
    limit_files,
    refuse_beside_service,
    run_command,
    stop_workers,
)


workdir: "/data/results"


# Hands one file to the task's worker, and waits for it.
RUN = run_command(workflow, ".tigerflow/workflow")

STEMS = find_stems(".tigerflow/input", ".txt")

# Files in flight at once, unless a profile or --resources says otherwise.
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
    # Files that only wait hold no core, but a place among the jobs.
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
