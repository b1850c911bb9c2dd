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
    a_files=1,
)


wildcard_constraints:
    stem="[^/]*",


localrules:
    all,
    a,


onstart:
    refuse_beside_service()


onsuccess:
    stop_workers()


onerror:
    stop_workers()


rule all:
    input:
        expand("a/{stem}.out", stem=STEMS),


rule a:
    """Write a text in capitals."""
    input:
        ".tigerflow/input/{stem}.txt",
    output:
        "a/{stem}.out",
    threads: 1
    resources:
        a_files=1,
    params:
        task={
            "text": "plain",
            "empty": "",
            "braces": "{input} {{x}} {",
            "double": 'say "hi"',
            "both": 'it\'s "both"',
            "lines": "one\ntwo\r\n\tthree",
            "unicode": "é 日本 😀 \u2028 \x7f \ud800",
            "joined": "a\n😀",
            "backslash": "C:\\new\\{x}",
            "integer": -3,
            "big": 1000000000000000000000000000000,
            "float": 1e-07,
            "infinite": float("inf"),
            "nothing": None,
            "yes": True,
            "empty_list": [],
            "list": ["a", 1, None],
            "long_list": [
                "value number 0",
                "value number 1",
                "value number 2",
                "value number 3",
                "value number 4",
                "value number 5",
                "value number 6",
                "value number 7",
            ],
            "nested": {
                "a": {
                    "b": [
                        1,
                        {
                            "c": "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd",
                        },
                    ],
                },
                "e": {},
            },
            "key with 'quotes'": 1,
        },
    shell:
        "{RUN} a {input:q} {output:q}"
