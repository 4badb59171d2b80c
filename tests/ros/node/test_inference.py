"""Tests of frames for which memory does not suffice, with a predictor that fails as PyTorch does."""

import numpy as np
import pytest
import torch

from vexkd_model.types import Frame
from vexkd_ros.inference import LESS, OutOfMemory, predict

CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate"


class FailingPredictor:
    """Fails on more than `enough` points."""

    device = torch.device("cpu")

    def __init__(self, error: BaseException, enough: int) -> None:
        self._error, self._enough = error, enough

    def predict(self, frame: Frame) -> int:
        if len(frame.points) > self._enough:
            raise self._error
        return len(frame.points)


@pytest.fixture
def frame() -> Frame:
    """Two points of the newest sweep and one of the sweep before."""
    return Frame(np.array([[1, 0, 0, 9, 0], [2, 0, 0, 9, 0], [3, 0, 0, 9, 0.05]], np.float32), 0)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU), RuntimeError("std::bad_alloc")],
    ids=str,
)
def test_out_of_memory_the_newest_sweep_alone_is_predicted(frame: Frame, error: BaseException) -> None:
    assert predict(FailingPredictor(error, enough=2), frame) == (2, LESS)
    with pytest.raises(OutOfMemory, match="the frame cannot be predicted"):
        predict(FailingPredictor(error, enough=1), frame)


@pytest.mark.parametrize("said", ["unsupported memory format option Preserve", "shape '[3]' is invalid for input"])
def test_another_error_is_no_lack_of_memory(frame: Frame, said: str) -> None:
    with pytest.raises(RuntimeError, match=r"unsupported|invalid"):
        predict(FailingPredictor(RuntimeError(said), enough=2), frame)


def test_what_pytorch_says_where_a_cpu_lacks_memory_is_understood(frame: Frame) -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert predict(FailingPredictor(error.value, enough=2), frame) == (2, LESS)
