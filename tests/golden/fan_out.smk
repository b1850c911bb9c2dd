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
    read_files=1,
    left_files=1,
    all__files=1,
    if__files=1,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    read,
    left,
    all_,
    if_,


onstart:
    refuse_beside_service()


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand("read/{stem}.out", stem=STEMS),
        expand("left/{stem}.out", stem=STEMS),
        expand("all/{stem}.out", stem=STEMS),
        expand("if/{stem}.out", stem=STEMS),


rule read:
    """Write a text in capitals."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "read/{stem}.out",
    threads: 1
    resources:
        read_files=1,
    shell:
        "{RUN} read {input:q} {output:q}"


rule left:
    """Write a text in capitals."""
    input:
        "read/{stem}.out",
    output:
        "left/{stem}.out",
    threads: 1
    resources:
        left_files=1,
    shell:
        "{RUN} left {input:q} {output:q}"


rule all_:
    """Write a text in capitals."""
    input:
        "read/{stem}.out",
    output:
        "all/{stem}.out",
    threads: 1
    resources:
        all__files=1,
    shell:
        "{RUN} all {input:q} {output:q}"


rule if_:
    """Write a text in capitals."""
    input:
        "all/{stem}.out",
    output:
        "if/{stem}.out",
    threads: 1
    resources:
        if__files=1,
    shell:
        "{RUN} if {input:q} {output:q}"
