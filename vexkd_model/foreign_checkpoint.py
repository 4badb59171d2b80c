"""Read checkpoints of others without running any code of theirs.

PyTorch's restricted reader takes tensors, numbers, texts and containers, and refuses a file with anything else. Many
hold more beside their weights: histories of a training, arguments, NumPy's numbers. Here an object of an unknown class
becomes an empty one, or a plain container where it is filled like one.
"""

import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch

UNKNOWN = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")
# What the reader says where an unknown object is filled like a dictionary or a list; "_" begins its name, see _empty.
FILLED = (
    (re.compile(r"Can only SETITEMS? for dict.*but got <class '_\.([^']+)'>", re.DOTALL), OrderedDict),
    (re.compile(r"Can only (?:append to|extend) lists, but got <class '_\.([^']+)'>"), list),
)


def read_checkpoint_data(path: Path) -> Any:
    """Read a .pth, .pt or .ckpt file to the CPU; objects of unknown classes are empty.

    pickle.UnpicklingError where a file wants what PyTorch never allows, such as a function of `os`; the errors of
    torch.load where it is damaged.
    """
    empty: dict[str, type] = {}
    while True:
        allowed: list[Any] = [(stand_in, name) for name, stand_in in empty.items()]
        try:
            with torch.serialization.safe_globals(allowed):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            if not _admit(str(error), empty):
                raise


def _admit(reason: str, empty: dict[str, type]) -> bool:
    """Add a stand-in for the object at which reading stopped; False if it stopped for another reason."""
    if unknown := UNKNOWN.search(reason):
        name = unknown[1]
        if name in empty:  # PyTorch shows names of `builtins` without their module
            name = f"builtins.{name}"
        if name in empty:
            return False
        empty[name] = _empty(name)
        return True
    for pattern, container in FILLED:
        if (filled := pattern.search(reason)) and not issubclass(empty[filled[1]], _Container):
            empty[filled[1]] = type(filled[1], (_Container,), {"container": container})
            return True
    return False


class _Empty:
    """Object that takes any arguments and any state and keeps nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


class _Container:
    """Class whose objects are plain containers."""

    container: type

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return cls.container()


def _empty(name: str) -> type:
    return type(name, (_Empty,), {"__module__": "_"})
