# Written at each start of the task.
#
# The jobs in which workers of Slurm tasks run. They are submitted while
# files wait, and get files from the process that submitted them.
from tigerflow.workflow import workers_command


workdir: '/data/it\'s "$(x)" & {y} é\\n%s\n 😀'


WORKERS = workers_command()


rule cpu:
    """Train a model."""
    output:
        ".tigerflow/mailboxes/cpu/{job}/ended",
    threads: 2
    resources:
        mem_mb=2,
        runtime=1440,
    shell:
        "exec {WORKERS} .tigerflow/mailboxes/cpu/{wildcards.job}"


rule shared_gpus:
    """Train a model."""
    output:
        ".tigerflow/mailboxes/shared-gpus/{job}/ended",
    threads: 6
    resources:
        mem_mb=30720,
        runtime=90,
        nodes=1,
        slurm_account="lab",
        slurm_partition="gpu",
        qos="long",
        constraint="x86&ib",
        slurm_extra="--gpus-per-node=h100-sxm:3 --reservation=class --mail-user='a \"b\" {c}@x.org'",
    shell:
        "exec {WORKERS} .tigerflow/mailboxes/shared-gpus/{wildcards.job}"
