"""Progress of a training in words: as one changing line on a terminal, as plain lines in logs and CI."""

import sys
import time
from typing import cast

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from tqdm import tqdm

from vexkd_model.training.read_losses import SUM, TERM
from vexkd_model.training.validation import SCORE

LINE_INTERVAL_S, BAR_INTERVAL_S = 30.0, 0.5
SHOWN_TERMS = 3  # the largest; the log and TensorBoard have them all


class LogProgress(lightning.Callback):
    """Callback that tells epoch, step, losses, speed and the time left of the whole training, on rank 0.

    interactive: in one line with a bar, which changes; else in a line every half minute and at each epoch's end. Each
    validation has a line of its own.
    """

    def __init__(self, interactive: bool) -> None:
        self.interactive = interactive
        self._bar: tqdm | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock, by which the speed of this start is told."""
        self._start, self._batches = time.monotonic(), 0
        self._last = self._start
        if self.interactive and trainer.is_global_zero:
            total = cast(int, trainer.max_epochs) * int(trainer.num_training_batches)
            done = trainer.current_epoch * int(trainer.num_training_batches)
            form = "{percentage:3.0f}% |{bar:12}| {desc}"
            self._bar = tqdm(total=total, initial=done, bar_format=form, dynamic_ncols=True, file=sys.stderr)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Tell where the training is, where that is due."""
        self._batches += 1
        if self._bar is not None:
            self._bar.update()
        now = time.monotonic()
        interval = BAR_INTERVAL_S if self.interactive else LINE_INTERVAL_S
        if not trainer.is_global_zero or (now - self._last < interval and not trainer.is_last_batch):
            return
        self._last = now
        self._tell(in_words(trainer, batch_idx, self._batches / (now - self._start)))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the scores of a validation."""
        scores = {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith(SCORE)}
        if not trainer.is_global_zero or SCORE not in scores:
            return
        keepers = [kept for kept in trainer.checkpoint_callbacks if isinstance(kept, ModelCheckpoint) and kept.monitor]
        best = next((kept.best_model_score for kept in keepers if kept.best_model_score is not None), None)
        parts = ", ".join(f"{name.partition('/')[2]} {value:.3f}" for name, value in scores.items() if name != SCORE)
        verdict = (
            f"; the best had a mean of {best:.3f}"
            if best is not None and scores[SCORE] <= best
            else "; the best so far"
        )
        frames = int(sum(trainer.num_val_batches)) * trainer.world_size
        text = f"validation after epoch {trainer.current_epoch + 1} on {frames} frames: {parts}{verdict}"
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            self._tell(text)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave the last state of the bar on the terminal."""
        self._close()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Leave the bar as it is, above the error."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _tell(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_description_str(text)
        else:
            print(text, file=sys.stderr, flush=True)


def in_words(trainer: lightning.Trainer, batch: int, rate: float) -> str:
    """Describe the state after a batch of the running epoch; rate: batches a second."""
    epochs, batches = cast(int, trainer.max_epochs), int(trainer.num_training_batches)
    left = (epochs - trainer.current_epoch) * batches - batch - 1
    metrics = trainer.callback_metrics
    terms = {name.removeprefix(TERM): value.item() for name, value in metrics.items() if name.startswith(TERM)}
    largest = sorted(terms, key=lambda name: -terms[name])[:SHOWN_TERMS]
    shares = ", ".join(f"{name.replace('_', ' ')} {terms[name]:.3f}" for name in largest)
    return (
        f"epoch {trainer.current_epoch + 1}/{epochs} step {batch + 1}/{batches} "
        f"loss {metrics[SUM].item():.3f} ({shares}), {rate:.2f} steps/s, {duration(left / max(rate, 1e-9))} left"
    )


def duration(seconds: float) -> str:
    """Write a duration for people: seconds, minutes, or hours and minutes."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
