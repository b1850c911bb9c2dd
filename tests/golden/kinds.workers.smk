# Made from pipeline.yaml by `tigerflow compile`: change that
# file and compile again; what is changed here is lost then.
#
# The jobs in which workers of Slurm tasks run. Whoever submits them, while
# files wait, gives them files until they end.
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
