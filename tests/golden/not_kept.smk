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
    between_files=1,
    leaf_files=1,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    between,
    leaf,


onstart:
    refuse_beside_service()


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand(".tigerflow/tasks/leaf/{stem}.out", stem=STEMS),


rule between:
    """Write a text in capitals."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        temp(".tigerflow/tasks/between/{stem}.out"),
    threads: 1
    resources:
        between_files=1,
    shell:
        "{RUN} between {input:q} {output:q}"


rule leaf:
    """Write a text in capitals."""
    input:
        ".tigerflow/tasks/between/{stem}.out",
    output:
        ".tigerflow/tasks/leaf/{stem}.out",
    threads: 1
    resources:
        leaf_files=1,
    shell:
        "{RUN} leaf {input:q} {output:q}"
