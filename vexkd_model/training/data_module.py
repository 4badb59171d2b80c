"""Lightning data module: one process's training batches, from any epoch on, and its frames to validate on."""

from typing import cast

import lightning
import torch

from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import Batch
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.loader import training_loader, validation_loader
from vexkd_model.data.sampling import ShardSampler
from vexkd_model.data.splits import split_names
from vexkd_model.data.worker_loader import WorkerLoader
from vexkd_model.distributed import Shard, broadcast_error
from vexkd_model.errors import UserError


class TrainingDataModule(lightning.LightningDataModule):
    """Training batches of one process.

    first_epoch: where a resumed training goes on, otherwise 0. teacher: read its sensors, too, into Batch.teacher.
    unlabelled: as of `training_loader`.
    total_steps: optimiser steps of the whole training. UserError if the split has fewer frames than a batch, and where
    there is nothing to validate on.
    """

    def __init__(
        self,
        config: ModelConfig,
        index: FrameIndex,
        workers: int,
        shard: Shard,
        first_epoch: int = 0,
        teacher: ModelConfig | None = None,
        unlabelled: FrameIndex | None = None,
    ) -> None:
        super().__init__()
        settings = config.training
        self.loader = training_loader(config, index, workers, shard, teacher, unlabelled)
        if not len(self.loader):
            raise UserError(
                f"{index.folder}: {len(index)} frames do not fill one batch of "
                f"{settings.batch_size * shard.processes}; lower training.batch_size"
            )
        # Lightning lets the loader's workers begin before it tells the sampler which epoch it is.
        cast(ShardSampler, self.loader.sampler).set_epoch(first_epoch)
        self.total_steps = settings.epochs * -(-len(self.loader) // settings.accumulate)

        self.validation: WorkerLoader | list = []
        if settings.validation is not None:
            self.validation = validation_loader(config, settings.validation, validation_index(index), workers, shard)

    def val_dataloader(self) -> WorkerLoader | list:
        """Return the loader of the frames to validate on; an empty one without validation."""
        return self.validation

    def train_dataloader(self) -> WorkerLoader:
        """Return the loader of this process, the same for every epoch."""
        return self.loader

    def transfer_batch_to_device(self, batch: Batch | UserError, device: torch.device, dataloader_idx: int) -> Batch:
        """Copy a batch to the model's device. If any rank has an error in its place, raise it on every rank."""
        if error := broadcast_error(batch if isinstance(batch, UserError) else None, device):
            raise error
        whole = cast(Batch, batch)
        # A GPU copies pageable memory when all steps before are done, and this process would wait for that.
        return (whole if device.type == "cpu" else whole.pin_memory()).to(device)


def validation_index(index: FrameIndex) -> FrameIndex:
    """Open the last split of the dataset of an index; UserError if the index is of that one itself."""
    split = split_names(index.dataroot, index.version)[-1]
    if split == index.split:
        raise UserError(
            f"training.validation: {index.version} has no split beside {split}, which is trained on; set it to null"
        )
    return FrameIndex.open(index.folder.parent, split, index.dataroot, index.version)
