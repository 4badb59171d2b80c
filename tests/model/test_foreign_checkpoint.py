"""Checkpoints of others are read with whatever lies beside their weights, and nothing of theirs runs."""

import argparse
import os
import pickle
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from vexkd_model.foreign_checkpoint import read_checkpoint_data

RAN = []


def run(*arguments):
    RAN.append(arguments)


class Runs:
    """Object that runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def elsewhere(monkeypatch):
    """Classes of a library that the reader of their objects does not have."""
    library = types.ModuleType("some_engine.history")
    for name, base in (("HistoryBuffer", object), ("ConfigDict", dict), ("Names", list)):
        setattr(library, name, type(name, (base,), {"__module__": library.__name__}))
    monkeypatch.setitem(sys.modules, "some_engine", library)
    monkeypatch.setitem(sys.modules, library.__name__, library)
    return library


@pytest.mark.parametrize("as_zip", [True, False])
def test_weights_are_read_beside_histories_numbers_and_arguments(elsewhere, tmp_path, as_zip):
    history, settings, grown = elsewhere.HistoryBuffer(), elsewhere.ConfigDict(rate=0.1), defaultdict(list)
    history.log, history.last = np.arange(3.0), np.float64(2)
    grown["loss"].append(1.0)
    meta = {
        "history": history,
        "settings": settings,
        "names": elsewhere.Names(["car"]),
        "grown": grown,
        "arguments": argparse.Namespace(out=Path("out"), rate=np.float32(1)),
        "version": "1.0",
    }
    weights = OrderedDict(weight=torch.arange(3.0))
    torch.save(
        {"meta": meta, "state_dict": weights, "later": Runs(run, "unpickled")},
        tmp_path / "c.pth",
        _use_new_zipfile_serialization=as_zip,
    )
    for name in [name for name in sys.modules if name.startswith("some_engine")]:
        del sys.modules[name]
    content = read_checkpoint_data(tmp_path / "c.pth")
    assert torch.equal(content["state_dict"]["weight"], torch.arange(3.0))
    meta = content["meta"]
    assert (meta["version"], meta["settings"], meta["names"], meta["grown"]) == (
        "1.0",
        {"rate": 0.1},
        ["car"],
        {"loss": [1.0]},
    )
    assert vars(meta["history"]) == {} and RAN == [] and "some_engine" not in sys.modules


@pytest.mark.parametrize("function", [eval, exec, getattr, __import__])
def test_what_would_run_code_is_an_empty_object(tmp_path, function):
    torch.save({"x": Runs(function, "RAN.append(1)"), "state_dict": {"weight": torch.ones(1)}}, tmp_path / "c.pth")
    assert read_checkpoint_data(tmp_path / "c.pth")["state_dict"]["weight"] == 1 and RAN == []


def test_functions_of_the_operating_system_are_refused(tmp_path):
    torch.save({"x": Runs(os.system, "exit 1")}, tmp_path / "c.pth")
    with pytest.raises(pickle.UnpicklingError, match=r"posix\.system"):
        read_checkpoint_data(tmp_path / "c.pth")
