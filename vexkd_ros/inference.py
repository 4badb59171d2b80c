"""Inference on one frame, or on less of it where memory does not suffice."""

import gc
from dataclasses import replace

import torch

from vexkd_model.deploy.predictor import Predictor
from vexkd_model.types import Frame, Prediction

LESS = (
    "out of memory: predicted from the newest sweep alone and without history; use a smaller student or fewer "
    "points, or free memory"
)
NOTHING = "out of memory: the frame cannot be predicted; use a smaller student, fewer points, or free memory"
DT = 4  # column of Frame.points
# A RuntimeError that is about memory has a class of its own for the GPU's allocator only. The others, by what PyTorch's
# allocator for CPUs, the CUDA driver, cuBLAS and the C++ library say; "memory" alone is in "memory format", too.
ALLOCATORS_SAY = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc")


class OutOfMemory(MemoryError):
    """Memory that does not suffice for the least of a frame."""


def predict(predictor: Predictor, frame: Frame) -> tuple[Prediction, str]:
    """Predict; also return why it was from less than the whole frame, or ''. Raises OutOfMemory."""
    try:
        return predictor.predict(frame), ""
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    _release(predictor)
    less = _less_of(frame)
    try:
        return predictor.predict(less), LESS
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        _release(predictor)
        raise OutOfMemory(NOTHING) from None


def _less_of(frame: Frame) -> Frame:
    return replace(frame, points=frame.points[frame.points[:, DT] == 0], past=())


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        words in str(error) for words in ALLOCATORS_SAY
    )


def _release(predictor: Predictor) -> None:
    gc.collect()
    if predictor.device.type == "cuda":
        torch.cuda.empty_cache()
