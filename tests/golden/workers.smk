# Generated from pipeline.yaml by `tigerflow compile`.
# Edit that file and compile again: changes made here are overwritten.
from tigerflow.workflow import (
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
    cpu_files=4,
    shared_gpus_files=4,
    here_files=1,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    here,


onstart:
    refuse_beside_service()


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand("cpu/{stem}.out", stem=STEMS),
        expand("shared-gpus/{stem}.out", stem=STEMS),
        expand("here/{stem}.out", stem=STEMS),


rule cpu:
    """Train a model."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "cpu/{stem}.out",
    threads: 2
    resources:
        cpu_files=1,
        mem_mb=2,
        runtime=1440,
    shell:
        "{RUN} cpu {input:q} {output:q}"


rule shared_gpus:
    """Train a model."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "shared-gpus/{stem}.out",
    threads: 2
    resources:
        shared_gpus_files=1,
        mem_mb=10240,
        runtime=90,
        nodes=1,
        slurm_account="lab",
        slurm_partition="gpu",
        qos="long",
        constraint="x86&ib",
        slurm_extra="--gpus-per-node=h100-sxm:1 --reservation=class --mail-user='a \"b\" {c}@x.org'",
    shell:
        "{RUN} shared-gpus {input:q} {output:q}"


rule here:
    """Write a text in capitals."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "here/{stem}.out",
    threads: 1
    resources:
        here_files=1,
    shell:
        "{RUN} here {input:q} {output:q}"
