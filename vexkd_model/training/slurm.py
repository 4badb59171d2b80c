"""SLURM job steps: the processes that `srun` starts to train one model together."""

import os
from typing import NamedTuple

from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from typing_extensions import override

from vexkd_model.errors import UserError

TASKS, NODES, HOSTS = "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NUM_NODES", "SLURM_STEP_NODELIST"
PORTS = range(15000, 30000)  # below those that Linux gives to clients


class SrunStep(NamedTuple):
    """Place of this process among those of its job step. local_rank: among those of its node."""

    processes: int
    nodes: int
    rank: int
    local_rank: int
    node: int


def srun_step() -> SrunStep | None:
    """Return this process's place if `srun` started several; None for a process that trains alone.

    SLURM sets many of its variables in any shell or script of a job, where nobody else would join the training: a step
    of several tasks is the only sign. UserError for a step whose variables are incomplete.
    """
    if os.environ.get(TASKS, "1") == "1":
        return None
    names = (TASKS, NODES, "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID")
    values = [os.environ.get(name, "") for name in names]
    for name, value in zip(names, values, strict=True):
        if not value.isdecimal():
            raise UserError(
                f"{name}={value}: no number, though {TASKS}={values[0]}; start the training by srun, or "
                f"unset {TASKS} to train in one process"
            )
    return SrunStep(*map(int, values))


class SrunEnvironment(ClusterEnvironment):
    """Lightning's view of a job step, from which every rank finds the others.

    Not Lightning's SLURMEnvironment: it takes any process of a job as one of the job's tasks, refuses `srun -n`, and
    requeues jobs at a signal. own_gpu: each process sees only its own GPU.
    """

    def __init__(self, step: SrunStep, own_gpu: bool) -> None:
        super().__init__()
        self._step, self._own_gpu = step, own_gpu

    @property
    @override
    def creates_processes_externally(self) -> bool:
        return True

    @property
    @override
    def main_address(self) -> str:
        if self._step.nodes == 1:
            return "127.0.0.1"
        hosts = os.environ.get(HOSTS, "")
        return os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(hosts)

    @property
    @override
    def main_port(self) -> int:
        """Port that all processes of the step derive alike, and those of another step hardly ever."""
        if "MASTER_PORT" in os.environ:
            return int(os.environ["MASTER_PORT"])
        job, step = (int(os.environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        return PORTS[(101 * job + step) % len(PORTS)]

    @staticmethod
    @override
    def detect() -> bool:
        return srun_step() is not None

    @override
    def world_size(self) -> int:
        return self._step.processes

    @override
    def set_world_size(self, size: int) -> None:
        """Do nothing: srun has set it."""

    @override
    def global_rank(self) -> int:
        return self._step.rank

    @override
    def set_global_rank(self, rank: int) -> None:
        """Do nothing: srun has set it."""

    @override
    def local_rank(self) -> int:
        return 0 if self._own_gpu else self._step.local_rank

    @override
    def node_rank(self) -> int:
        return self._step.node
