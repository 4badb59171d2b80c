"""Training progress as plain lines, for logs and CI."""

import sys
import time

import lightning
from torch import Tensor

LINE_INTERVAL_S = 30.0


class LogProgress(lightning.Callback):
    """One line every half minute and at each epoch's end: epoch, step, loss, steps a second, time left."""

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        self._start, self._first_step = time.monotonic(), trainer.global_step
        self._last = self._start

    def on_train_batch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule,
                           outputs: dict[str, Tensor], __: object, batch_number: int) -> None:
        now = time.monotonic()
        if now - self._last < LINE_INTERVAL_S and not trainer.is_last_batch:
            return
        self._last = now
        steps = trainer.global_step - self._first_step
        rate = steps / (now - self._start)
        left = (trainer.estimated_stepping_batches - trainer.global_step) / max(rate, 1e-9)
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} step {batch_number + 1}/"
              f"{trainer.num_training_batches} loss {outputs['loss'].item():.3f}, {rate:.2f} steps/s, "
              f"{left / 60:.0f} min left", file=sys.stderr, flush=True)
