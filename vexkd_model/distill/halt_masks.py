"""The end of mask generation."""

import lightning


class HaltMasks(lightning.Callback):
    """Masks learn in the first `epochs` epochs and then stay as they are, while the student goes on."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_train_epoch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.current_epoch >= self.epochs:
            module.distiller.halt_masks()
