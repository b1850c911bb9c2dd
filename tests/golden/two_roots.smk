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

STEMS = find_stems(".tigerflow/input", ".tar.gz")

# The most files in flight, unless a profile or --resources sets a limit.
limit_files(
    workflow,
    one_files=1,
    two_files=1,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    one,
    two,


onstart:
    refuse_beside_service()


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand("one/{stem}.out", stem=STEMS),
        expand("two/{stem}.out", stem=STEMS),


rule one:
    """Write a text in capitals."""
    input:
        ".tigerflow/input/{stem}.tar.gz",
    output:
        "one/{stem}.out",
    threads: 1
    resources:
        one_files=1,
    shell:
        "{RUN} one {input:q} {output:q}"


rule two:
    """A "doc" with \\ and \"\"\"quotes" that ends in a "quote" """
    input:
        ".tigerflow/input/{stem}.tar.gz",
    output:
        "two/{stem}.out",
    threads: 1
    resources:
        two_files=1,
    shell:
        "{RUN} two {input:q} {output:q}"
