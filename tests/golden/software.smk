# Generated from pipeline.yaml by `tigerflow compile`.
# Edit that file and compile again: changes made here are overwritten.
from tigerflow.workflow import (
    find_stems,
    keep_apart,
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
    read_files=1,
    train_files=2,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    read,


onstart:
    refuse_beside_service()
    # Workers load their task's software themselves, whatever --sdm says.
    keep_apart(workflow)


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand("read/{stem}.out", stem=STEMS),
        expand("train/{stem}.out", stem=STEMS),


rule read:
    """Write a text in capitals."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "read/{stem}.out",
    conda:
        "speech"
    envmodules:
        "ffmpeg/6.0",
        "cuda/12.4",
    threads: 1
    resources:
        read_files=1,
    shell:
        "{RUN} read {input:q} {output:q}"


rule train:
    """Train a model."""
    input:
        "read/{stem}.out",
    output:
        "train/{stem}.out",
    container:
        "docker://ghcr.io/lab/train:1.2"
    threads: 1
    resources:
        train_files=1,
        mem_mb=1024,
        runtime=60,
        nodes=1,
        gpu=1,
    shell:
        "{RUN} train {input:q} {output:q}"
