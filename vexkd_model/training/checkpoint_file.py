"""Checkpoint files that a kill, a full disk or a power failure never leaves in part.

Lightning stages a checkpoint in the system's temporary folder. Where the run lies on another file system, it is then
copied over the previous one, and a process that is killed meanwhile leaves neither.
"""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from vexkd_model.files import atomic_file


class CheckpointFile(TorchCheckpointIO):
    """Lightning plugin that writes a checkpoint beside its target and then moves it into place."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint; the previous one stays until it is whole. UserError names a disk that is full."""
        # Into memory first: where the disk is full, PyTorch's own writer hides the reason.
        content = io.BytesIO()
        torch.save(checkpoint, content)
        with atomic_file(Path(path), durable=True) as partial:
            partial.write_bytes(content.getbuffer())
