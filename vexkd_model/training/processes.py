"""Distributed training: the number of processes, and Lightning's strategy for them."""

import os
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.plugins.layer_sync import LayerSync
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from vexkd_model.errors import UserError
from vexkd_model.training.sync_batch_norm import in_one_process, over_processes


class SyncedBatchNorms(LayerSync):
    """Lightning plugin that synchronises batch norms over processes on CPUs."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Synchronise the batch norms of a model, in place."""
        return over_processes(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Put the model's own batch norms back, in place."""
        return in_one_process(model)


def trainer_arguments(devices: int, nodes: int, idle_parameters: bool) -> dict[str, Any]:
    """Arguments of `lightning.Trainer` for `devices` processes on each of `nodes` machines, one per GPU, or on CPUs.

    Lightning starts those of one machine itself by running the same command again; on several machines the command is
    given on each of them with MASTER_ADDR, MASTER_PORT and NODE_RANK set, or by torchrun, which starts all of them.
    idle_parameters: whether some trained parameters have no gradient in some steps. UserError names numbers of
    processes that cannot be.
    """
    for option, number in (("--devices", devices), ("--nodes", nodes)):
        if number < 1:
            raise UserError(f"{option} {number}: must be at least 1")
    started = int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else devices * nodes
    if started != devices * nodes:
        raise UserError(f"--devices {devices} --nodes {nodes}: torchrun started {started} processes; give --devices "
                        "what its --nproc-per-node is, and --nodes what its --nnodes is")
    gpus = torch.cuda.device_count()
    if gpus and devices > gpus:
        raise UserError(f"--devices {devices}: this machine has {gpus} GPU(s); give at most as many")
    arguments = {
        "accelerator": "gpu" if gpus else "cpu",
        "devices": devices,
        "num_nodes": nodes,
        "use_distributed_sampler": False,
    }
    if devices * nodes == 1:
        # A scheduler's variables, such as SLURM_NTASKS in a batch job, would make Lightning wait for other processes.
        alone = LightningEnvironment()
        alone.set_global_rank(0)  # or SLURM_PROCID is taken for the rank, and others than 0 write no log
        return {**arguments, "plugins": [alone]}
    norms = {"sync_batchnorm": True} if gpus else {"plugins": [SyncedBatchNorms()]}
    return arguments | norms | {"strategy": DDPStrategy(find_unused_parameters=idle_parameters)}
