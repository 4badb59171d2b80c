"""Random numbers of the network itself, such as dropout's, that a resumed training draws as one never stopped."""

import lightning
import numpy as np
import torch


class StepSeed(lightning.Callback):
    """Seeds PyTorch anew for every batch; each process, which has other frames, draws numbers of its own."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: lightning.Trainer, _: lightning.LightningModule, __: object,
                             batch_number: int) -> None:
        mixed = np.random.SeedSequence((self.seed, trainer.current_epoch, batch_number, trainer.global_rank))
        torch.manual_seed(int(mixed.generate_state(1)[0]))
