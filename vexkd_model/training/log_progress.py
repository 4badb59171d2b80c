"""Training progress as plain lines, for logs and CI."""

import sys
import time
from typing import cast

import lightning

LINE_INTERVAL_S = 30.0


class LogProgress(lightning.Callback):
    """Callback that prints epoch, batch, loss, speed and time left, every half minute and at each epoch's end."""

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, by which the speed of this start is told."""
        self._start, self._batches = time.monotonic(), 0
        self._last = self._start

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Print a line on rank 0, where one is due."""
        self._batches += 1
        now = time.monotonic()
        if not trainer.is_global_zero or (now - self._last < LINE_INTERVAL_S and not trainer.is_last_batch):
            return
        self._last = now
        rate = self._batches / (now - self._start)
        epochs = cast(int, trainer.max_epochs)  # of the configuration
        left = (epochs - trainer.current_epoch) * trainer.num_training_batches - batch_idx - 1
        print(
            f"epoch {trainer.current_epoch + 1}/{epochs} step {batch_idx + 1}/"
            f"{trainer.num_training_batches} loss {trainer.callback_metrics['loss'].item():.3f}, {rate:.2f} steps/s, "
            f"{left / max(rate, 1e-9) / 60:.0f} min left",
            file=sys.stderr,
            flush=True,
        )
