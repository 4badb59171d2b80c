"""The student on one frame, or on less of it where memory does not suffice."""

import gc
from dataclasses import replace

import torch

from vexkd_model.deploy.predictor import Predictor
from vexkd_model.types import Frame, Prediction

LESS = ("out of memory: predicted from the newest sweep alone and without history; use a smaller student or fewer "
        "points, or free memory")
DT = 4  # column of Frame.points


class OutOfMemory(MemoryError):
    """Not even the least of the frame could be computed."""


def predict(predictor: Predictor, frame: Frame) -> tuple[Prediction, str]:
    """The prediction, and why it was made from less than the whole frame, or ''. Raises OutOfMemory."""
    try:
        return predictor.predict(frame), ""
    except (RuntimeError, MemoryError) as error:
        if not _is_memory(error):
            raise
    _release(predictor)
    less = _less_of(frame)
    try:
        return predictor.predict(less), LESS
    except (RuntimeError, MemoryError) as error:
        if not _is_memory(error):
            raise
        _release(predictor)
        raise OutOfMemory("out of memory: the frame cannot be predicted; use a smaller student, fewer points, or free "
                          "memory") from None


def _less_of(frame: Frame) -> Frame:
    return replace(frame, points=frame.points[frame.points[:, DT] == 0], past=())


def _is_memory(error: BaseException) -> bool:
    """PyTorch has a class of its own for the GPU's memory only."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error).lower()


def _release(predictor: Predictor) -> None:
    gc.collect()
    if predictor.device.type == "cuda":
        torch.cuda.empty_cache()
