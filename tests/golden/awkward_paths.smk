# Generated from 'my\npipeline \xe9.yaml' by `tigerflow compile`.
# Edit that file and compile again: changes made here are overwritten.
from tigerflow.workflow import (
    find_stems,
    limit_files,
    refuse_beside_service,
    run_command,
    stop_workers,
)


workdir: '/data/it\'s "$(x)" & {y} é\\n%s\n 😀'


# Hands one file to a worker of the task, and waits for the result.
RUN = run_command(workflow, '/data/{w} "it\'s" $(x)')

STEMS = find_stems(".tigerflow/input", ".txt")

# The most files in flight, unless a profile or --resources sets a limit.
limit_files(
    workflow,
    first_files=1,
    second_one_files=1,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    first,
    second_one,


onstart:
    refuse_beside_service()


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand("first/{stem}.out", stem=STEMS),
        expand("second-one/{stem}.tar.gz", stem=STEMS),


rule first:
    """Write a text in capitals."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "first/{stem}.out",
    threads: 1
    resources:
        first_files=1,
    shell:
        "{RUN} first {input:q} {output:q}"


rule second_one:
    """Write a text in capitals."""
    input:
        "first/{stem}.out",
    output:
        "second-one/{stem}.tar.gz",
    threads: 1
    resources:
        second_one_files=1,
    shell:
        "{RUN} second-one {input:q} {output:q}"
