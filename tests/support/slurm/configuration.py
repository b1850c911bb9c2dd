"""The files that tell Slurm what the cluster is."""

import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

#: Much more than the machine has: Slurm believes it.
CPUS_A_NODE = 16
MEMORY_MB_A_NODE = 64_000
#: What jobs can ask for with --constraint.
FEATURE = "fast"
GPUS_A_NODE = {"n1": ("a100", 2), "n2": ("a100", 2), "n3": ("v100", 4)}

NODES = ("n1", "n2", "n3", "n4")
HEAD = "head"
CLUSTER = "throwaway"
PARTITION = "main"

#: One node, one minute: what asks for more is rejected.
TINY_PARTITION = "tiny"
ACCOUNTS = ("lab", "other")
#: Beside the one that jobs have by default, `normal`.
QOS = "long"

#: Older ones do not know the word, and do not start.
_CAN_DO_WITHOUT_CGROUPS = (24, 5)

_SLURM = """\
ClusterName={cluster}
SlurmctldHost={head}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job is not started again before its old credential has expired.
AuthInfo=socket={directory}/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={directory}/ctld
SlurmdSpoolDir={directory}/spool/%n
SlurmctldPidFile={directory}/ctld/pid
SlurmdPidFile={directory}/spool/%n.pid
MailProg=/bin/true
MpiDefault=none
ReturnToService=2

# Processes are found and counted in /proc; and no cgroups are needed.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill

SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
GresTypes=gpu
EnforcePartLimits=ALL
DefMemPerCPU=100
KillWait=3
# A node that does not answer for so long is down.
SlurmdTimeout=5
MessageTimeout=5
InactiveLimit=0

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={directory}/munge/socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu

"""

_NODE = (
    "NodeName={name} NodeHostname={name} NodeAddr=127.0.0.1 Port={port}"
    " CPUs={cpus} RealMemory={memory} Feature={feature}{gres}\n"
)

_PARTITIONS = """
PartitionName={main} Nodes=ALL Default=YES MaxTime=1-0 DefaultTime=10
PartitionName={tiny} Nodes={tiny_node} MaxTime=1 MaxCPUsPerNode=2
"""

_SLURMDBD = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={dbd_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
PidFile={directory}/dbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
"""

_ACCOUNTS = """\
Cluster - '{cluster}':QOS='normal,{qos}'
Parent - 'root'
Account - '{main}'
Account - '{other}'
Parent - '{main}'
User - 'root':DefaultAccount='{main}'
Parent - '{other}'
User - 'root'
"""


@dataclass(frozen=True)
class Ports:
    """Where the daemons listen on 127.0.0.1."""

    ctld: int
    dbd: int
    nodes: tuple[int, ...]

    @classmethod
    def claim(cls, claims: ExitStack) -> "Ports":
        """Choose free ports; no other cluster has them until `claims` is closed."""
        ctld, dbd, *nodes = islice(_free_ports(claims), 2 + len(NODES))
        return cls(ctld, dbd, tuple(nodes))


def write(directory: Path, ports: Ports, version: tuple[int, int]) -> None:
    """Write the configuration of the cluster in `directory`, of a version of Slurm."""
    values = {
        "directory": directory,
        "cluster": CLUSTER,
        "head": HEAD,
        "ctld_port": ports.ctld,
        "dbd_port": ports.dbd,
    }
    etc = directory / "etc"
    parts = {"main": PARTITION, "tiny": TINY_PARTITION, "tiny_node": NODES[-1]}
    (etc / "slurm.conf").write_text(
        _SLURM.format(**values) + _nodes(ports.nodes) + _PARTITIONS.format(**parts)
    )
    (etc / "gres.conf").write_text(_gpus(directory))
    if version >= _CAN_DO_WITHOUT_CGROUPS:
        # They look for them even where nothing uses them.
        (etc / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    (etc / "hosts").write_text(f"127.0.0.1 localhost {HEAD} {' '.join(NODES)}\n")
    dbd = etc / "slurmdbd.conf"
    dbd.touch(mode=0o600)
    dbd.write_text(_SLURMDBD.format(**values))


def accounts() -> str:
    """Return what the database is to know, in the form of `sacctmgr load`."""
    main, other = ACCOUNTS
    return _ACCOUNTS.format(cluster=CLUSTER, qos=QOS, main=main, other=other)


def gpu_files(directory: Path) -> list[Path]:
    """Return the files that stand for GPUs."""
    most = max(count for _model, count in GPUS_A_NODE.values())
    return [directory / "dev" / f"gpu{number}" for number in range(most)]


def _nodes(ports: Sequence[int]) -> str:
    lines = []
    for name, port in zip(NODES, ports, strict=True):
        model, count = GPUS_A_NODE.get(name, ("", 0))
        gres = f" Gres=gpu:{model}:{count}" if count else ""
        lines.append(
            _NODE.format(
                name=name,
                port=port,
                cpus=CPUS_A_NODE,
                memory=MEMORY_MB_A_NODE,
                feature=FEATURE,
                gres=gres,
            )
        )
    return "".join(lines)


def _gpus(directory: Path) -> str:
    lines = []
    for name, (model, count) in GPUS_A_NODE.items():
        files = f"{directory}/dev/gpu[0-{count - 1}]"
        lines.append(f"NodeName={name} Name=gpu Type={model} File={files}\n")
    return "".join(lines)


def _free_ports(claims: ExitStack) -> Iterator[int]:
    # Below those of outgoing connections.
    for port in random.sample(range(20_000, 32_000), 12_000):
        # A name in the kernel, which goes with the process that has it.
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0slurm of tests, port {port}")
        except OSError:
            claim.close()
            continue
        claims.enter_context(claim)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                yield port
