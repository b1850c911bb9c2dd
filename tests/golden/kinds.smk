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
    train_files=3,
    fetch_files=30,
    store_files=1,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    fetch,
    store,


onstart:
    refuse_beside_service()
    # Jobs that only wait for a worker need no core, but they count as jobs.
    allow_local_jobs(workflow, 30)


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand("train/{stem}.out", stem=STEMS),
        expand("fetch/{stem}.out", stem=STEMS),
        expand("store/{stem}.out", stem=STEMS),


rule train:
    """Train a model."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "train/{stem}.out",
    threads: 4
    resources:
        train_files=1,
        mem_mb=16384,
        runtime=720,
        nodes=1,
        gpu=2,
        gpu_model="a100",
        slurm_account="lab",
        slurm_extra="--reservation=class",
    shell:
        "{RUN} train {input:q} {output:q}"


rule fetch:
    """Ask a service about a text."""
    input:
        "train/{stem}.out",
    output:
        "fetch/{stem}.out",
    threads: 0
    resources:
        fetch_files=1,
    shell:
        "{RUN} fetch {input:q} {output:q}"


rule store:
    """Write a text in capitals."""
    input:
        "fetch/{stem}.out",
    output:
        "store/{stem}.out",
    threads: 1
    resources:
        store_files=1,
    shell:
        "{RUN} store {input:q} {output:q}"
