# Generated from pipeline.yaml by `tigerflow compile`.
# Edit that file and compile again: changes made here are overwritten.
#
# The jobs in which workers of Slurm tasks run. They are submitted while
# files wait, and get files from the process that submitted them.
from tigerflow.workflow import workers_command


workdir: "/data/results"


WORKERS = workers_command()


rule train:
    """Train a model."""
    output:
        ".tigerflow/mailboxes/train/{job}/ended",
    threads: 4
    resources:
        mem_mb=16384,
        runtime=720,
        nodes=1,
        gpu=2,
        gpu_model="a100",
        slurm_account="lab",
        slurm_extra="--reservation=class",
    shell:
        "exec {WORKERS} .tigerflow/mailboxes/train/{wildcards.job}"
