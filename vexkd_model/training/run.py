"""Run folder: the configuration, checkpoints, loss curve and record of one training."""

import json
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vexkd_model.config import ModelConfig, dump_config, load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.package import CARD, load_package
from vexkd_model.errors import UserError
from vexkd_model.files import whole_file, write_json
from vexkd_model.machine import machine_kind
from vexkd_model.model import BevModel, build_model

CONFIG, RECORD, EVALUATION = "model.yaml", "run.json", "evaluation.json"
EVALUATION_WITHOUT = "evaluation_without_{}.json"  # without lidar or camera
LAST_CHECKPOINT = Path("checkpoints", "last.ckpt")
SYNTH_MANIFEST = "synth.json"


def claim_run_folder(run: Path, config: ModelConfig, index: FrameIndex, resume: bool,
                     circumstances: Mapping[str, Any]) -> None:
    """Make a new run folder, or check that `run` is one to be resumed with the same configuration.

    circumstances: further entries of the record that a resumed training must repeat: the number of `processes`, on
    which the steps of an epoch depend, and the `teacher`, if any.
    """
    stored = run / CONFIG
    if stored.is_file():
        if not resume:
            raise UserError(f"{run}: holds a run already; add --resume to go on, or choose another --out")
        if load_config(stored) != config:
            raise UserError(f"{stored}: differs from the given configuration; resume with the one the run began with")
        _check_circumstances(run / RECORD, circumstances)
        return
    # A record alone was written by a training that was killed before its configuration followed.
    if run.exists() and any(path.name != RECORD for path in run.iterdir()):
        raise UserError(f"{run}: is neither empty nor a run; choose another --out")
    run.mkdir(parents=True, exist_ok=True)
    record = {"command": " ".join(["vexkd", *sys.argv[1:]]), "data": describe_data(index),
              "index": str(index.folder.resolve()), "source_revision": source_revision(),
              "torch": torch.__version__, "machine": machine_kind(), **circumstances}  # fmt: skip
    write_json(run / RECORD, record)
    with whole_file(stored) as partial:
        partial.write_text(dump_config(config))


def _check_circumstances(path: Path, now: Mapping[str, Any]) -> None:
    began = json.loads(path.read_text())
    if began.get("processes", 1) != now["processes"]:
        raise UserError(f"{path}: the run began with {began['processes']} processes, not {now['processes']}; choose "
                        f"--devices and --nodes so that it has {began['processes']} again")
    before, after = (circumstances.get("teacher", {}) for circumstances in (began, now))
    if before.get("fingerprint") != after.get("fingerprint"):
        raise UserError(f"{path}: the run began with {_named(before)}, not with {_named(after)}; resume with the same")


def _named(teacher: Mapping[str, str]) -> str:
    return f"the teacher {teacher['from']} ({teacher['fingerprint'][:8]})" if teacher else "no teacher"


def describe_data(index: FrameIndex) -> dict[str, Any]:
    """Describe the data for a card: synthetic with preset and seed, or nuScenes schema; version, split, frames."""
    manifest = index.dataroot / SYNTH_MANIFEST
    origin = {"dataset": "nuScenes schema, not made by vexkd synth"}
    if manifest.is_file():
        made = json.loads(manifest.read_text())
        origin = {"dataset": "synthetic (vexkd synth)", **{key: made[key] for key in ("preset", "seed", "generator")}}
    return {**origin, "version": index.version, "split": index.split, "frames": len(index)}


def trained_on(run: Path, data: Mapping[str, Any]) -> bool:
    """Check that `data`, of `describe_data`, is any split of the dataset on which this run was trained."""
    def dataset(described: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in described.items() if key not in ("split", "frames")}

    return dataset(json.loads((run / RECORD).read_text())["data"]) == dataset(data)


def training_index(run: Path, index_dir: Path | None = None) -> FrameIndex:
    """Open the index of the split that a run was trained on; UserError if it is missing.

    index_dir: its folder, if it is no longer where the run recorded it.
    """
    record = json.loads((run / RECORD).read_text())
    if index_dir is not None:
        return FrameIndex.open(index_dir, record["data"]["split"])
    if "index" not in record:
        raise UserError(f"{run / RECORD}: does not say where the training split's index is; give it with --index")
    return FrameIndex.open(Path(record["index"]).parent, record["data"]["split"])


def load_run(run: Path) -> tuple[BevModel, ModelConfig, int]:
    """Load the model of a run's last checkpoint, its configuration, and the number of finished epochs."""
    config = load_config(run / CONFIG)
    checkpoint, student = read_checkpoint(run), build_model(config)
    load_part(student, checkpoint, "model", run)
    return student, config, checkpoint["epoch"] + 1


def read_checkpoint(run: Path) -> dict[str, Any]:
    """Read a run's last checkpoint."""
    path = run / LAST_CHECKPOINT
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint yet; it follows the first epoch")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        raise UserError(f"{path}: damaged checkpoint; train again") from None


def load_part(module: nn.Module, checkpoint: Mapping[str, Any], name: str, run: Path) -> None:
    """Load the weights of `model` or `distiller`, as `name` says, from a run's checkpoint into a module."""
    prefix = f"{name}."
    weights = {key.removeprefix(prefix): tensor for key, tensor in checkpoint["state_dict"].items()
               if key.startswith(prefix)}
    try:
        module.load_state_dict(weights)
    except RuntimeError:
        raise UserError(f"{run / LAST_CHECKPOINT}: its weights do not fit {CONFIG} beside it; restore it, or train "
                        "again") from None


def is_run(folder: Path) -> bool:
    """Check that a folder is a run, not a package."""
    return (folder / RECORD).is_file() and (folder / CONFIG).is_file()


def load_trained(folder: Path) -> tuple[BevModel, ModelConfig]:
    """Load the model and configuration of a run's last checkpoint, or of a package."""
    if is_run(folder):
        return load_run(folder)[:2]
    if not (folder / CARD).is_file():
        raise UserError(f"{folder}: neither a run nor a package; `vexkd train` makes a run")
    return load_package(folder)[:2]


def teacher_of(folder: Path) -> dict[str, str] | None:
    """Teacher in the record of a run or the card of a package; None for a model trained without one."""
    if is_run(folder):
        return json.loads((folder / RECORD).read_text()).get("teacher")
    return load_package(folder)[2].trained_on.get("teacher")


def source_revision() -> str:
    """Git commit of this code, "+changes" when files differ from it, "unknown" outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain", "--", folder) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
