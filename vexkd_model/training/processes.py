"""Distributed training: the number of processes, and Lightning's strategy for them."""

import os
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.plugins.layer_sync import LayerSync
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from vexkd_model.errors import UserError
from vexkd_model.machine import choose_device
from vexkd_model.training.slurm import SrunEnvironment, SrunStep, srun_step
from vexkd_model.training.sync_batch_norm import in_one_process, over_processes


class SyncedBatchNorms(LayerSync):
    """Lightning plugin that synchronises batch norms over processes on CPUs."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise the batch norms of a model, in place."""
        return over_processes(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Put the model's own batch norms back, in place."""
        return in_one_process(model)


def trainer_arguments(devices: int, nodes: int, idle_parameters: bool, device: str = "auto") -> dict[str, Any]:
    """Arguments of `lightning.Trainer` for `devices` processes on each of `nodes` machines, one per GPU, or on CPUs.

    Lightning starts those of one machine itself by running the same command again; on several machines the command is
    given on each of them with MASTER_ADDR, MASTER_PORT and NODE_RANK set, or by torchrun or srun, which start all of
    them. Of srun's processes, devices and nodes need not be given. idle_parameters: whether some trained parameters
    have no gradient in some steps. device: of `choose_device`. UserError names numbers of processes
    that cannot be.
    """
    for option, number in (("--devices", devices), ("--nodes", nodes)):
        if number < 1:
            raise UserError(f"{option} {number}: must be at least 1")
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    step = None if by_torchrun else srun_step()
    if step:
        devices, nodes = _of_step(step, devices, nodes)
    started = int(os.environ["WORLD_SIZE"]) if by_torchrun else devices * nodes
    if started != devices * nodes:
        raise UserError(
            f"--devices {devices} --nodes {nodes}: torchrun started {started} processes; give --devices "
            "what its --nproc-per-node is, and --nodes what its --nnodes is"
        )
    gpus = torch.cuda.device_count() if choose_device(device).type == "cuda" else 0
    own_gpu = step is not None and gpus == 1  # srun's --gpus-per-task hides the others
    if gpus and devices > gpus and not own_gpu:
        raise UserError(f"--devices {devices}: this machine has {gpus} GPU(s); give at most as many")
    environment = SrunEnvironment(step, own_gpu) if step else LightningEnvironment()
    # Lightning would look for SLURM itself, and take a lone process of a job for one of several.
    plugins = [] if by_torchrun else [environment]
    arguments = {
        "accelerator": "gpu" if gpus else "cpu",
        "devices": 1 if own_gpu else devices,
        "num_nodes": nodes,
        "use_distributed_sampler": False,
    }
    if devices * nodes == 1:
        environment.set_global_rank(0)  # SLURM_PROCID or RANK in the environment may say otherwise
        return arguments | {"plugins": plugins}
    norms = {"sync_batchnorm": True} if gpus else {}
    plugins += [] if gpus else [SyncedBatchNorms()]
    return arguments | norms | {"plugins": plugins, "strategy": DDPStrategy(find_unused_parameters=idle_parameters)}


def _of_step(step: SrunStep, devices: int, nodes: int) -> tuple[int, int]:
    """Return processes on each machine, and machines, of a job step; UserError if others were asked for."""
    if step.processes % step.nodes:
        raise UserError(
            f"srun: {step.processes} processes on {step.nodes} nodes; give --ntasks-per-node, so that "
            "every node has as many"
        )
    of_step = step.processes // step.nodes, step.nodes
    if (devices, nodes) not in ((1, 1), of_step):
        raise UserError(
            f"--devices {devices} --nodes {nodes}: srun started {step.processes} processes on {step.nodes} "
            "node(s), one a device; leave both options out"
        )
    return of_step
