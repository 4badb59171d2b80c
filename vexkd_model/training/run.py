"""Run folder: read the configuration, checkpoints and record of one training."""

import json
import pickle
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vexkd_model.config import ModelConfig, load_config
from vexkd_model.data.identity import data_identity
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.machine_made import machine_made
from vexkd_model.deploy.card import StudentCard, read_card
from vexkd_model.deploy.package import CARD, load_package
from vexkd_model.deploy.predictor import Predictor, Runtime
from vexkd_model.errors import UserError
from vexkd_model.model import BevModel, build_model
from vexkd_model.types import Precision

CONFIG, RECORD, EVALUATION = "model.yaml", "run.json", "evaluation.json"
EVALUATION_WITHOUT = "evaluation_without_{}.json"  # without lidar or camera
LAST_CHECKPOINT, BEST_CHECKPOINT = Path("checkpoints", "last.ckpt"), Path("checkpoints", "best.ckpt")
SYNTH_MANIFEST = "synth.json"
INITIAL_WEIGHTS = "initial_weights"  # of a run's record and a card's trained_on


def describe_data(index: FrameIndex) -> dict[str, Any]:
    """Describe the data for a card: synthetic with preset and seed, or nuScenes schema; version, split, frames.

    Also, of a version of `vexkd autolabel`, which model made its boxes.
    """
    manifest = index.dataroot / SYNTH_MANIFEST
    origin = {"dataset": "nuScenes schema, not made by vexkd synth"}
    if manifest.is_file():
        made = json.loads(manifest.read_text())
        origin = {
            "dataset": "synthetic (vexkd synth)",
            **{key: made[key] for key in ("preset", "seed", "generator", "sensors") if key in made},
        }
    made = machine_made(index.dataroot, index.version)
    labels = {"boxes_made_by": made.get("teacher", {}).get("name", "a model")} if made else {}
    return {**origin, **labels, "version": index.version, "split": index.split, "frames": len(index)}


def trained_on(run: Path, index: FrameIndex) -> bool:
    """Check that an index is of any split of the dataset on which this run was trained."""

    def dataset(described: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in described.items() if key not in ("split", "frames")}

    record = json.loads((run / RECORD).read_text())
    tables = record.get("identity", {}).get("tables", index.tables)  # runs before identities had none
    return dataset(record["data"]) == dataset(describe_data(index)) and tables == index.tables


def training_index(run: Path, index_dir: Path | None = None) -> FrameIndex:
    """Open the index of the split that a run was trained on; UserError if it is missing or holds other data now.

    index_dir: its folder, if it is no longer where the run recorded it.
    """
    record = json.loads((run / RECORD).read_text())
    index = FrameIndex.open(index_dir or Path(record["index"]).parent, record["data"]["split"])
    identity = data_identity(index)._asdict()
    if record.get("identity", identity) != identity:
        raise UserError(
            f"{index.folder}: not the data that {run} was trained on, or changed since; give the index of "
            "that with --index"
        )
    return index


def load_run(run: Path, name: Path = LAST_CHECKPOINT) -> tuple[BevModel, ModelConfig, int]:
    """Load the model of a run's last or best checkpoint, its configuration, and the number of epochs until then.

    UserError where the run has no whole checkpoint of its configuration.
    """
    config = load_config(run / CONFIG)
    checkpoint, student = read_checkpoint(run, name), build_model(config)
    load_part(student, checkpoint, "model", run)
    return student, config, checkpoint["epoch"] + 1


def read_checkpoint(run: Path, name: Path = LAST_CHECKPOINT) -> dict[str, Any]:
    """Read a run's last or best checkpoint to the CPU; UserError where there is none yet or it is damaged."""
    path = run / name
    if not path.is_file():
        first = "it follows the first epoch" if name == LAST_CHECKPOINT else "training.validation keeps it"
        raise UserError(f"{path}: no checkpoint yet; {first}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError):
        raise UserError(f"{path}: damaged checkpoint; train again") from None


def load_part(module: nn.Module, checkpoint: Mapping[str, Any], name: str, run: Path) -> None:
    """Load the weights of `model` or `distiller`, as `name` says, from a run's checkpoint into a module.

    UserError if they are of another configuration.
    """
    prefix = f"{name}."
    weights = {
        key.removeprefix(prefix): tensor for key, tensor in checkpoint["state_dict"].items() if key.startswith(prefix)
    }
    try:
        module.load_state_dict(weights)
    except RuntimeError:
        raise UserError(
            f"{run / LAST_CHECKPOINT}: its weights do not fit {CONFIG} beside it; restore it, or train again"
        ) from None


def is_run(folder: Path) -> bool:
    """Check that a folder is a run, not a package."""
    return (folder / RECORD).is_file() and (folder / CONFIG).is_file()


def load_trained(folder: Path) -> tuple[BevModel, ModelConfig]:
    """Load the model and configuration of a run's last checkpoint, or of a package; UserError for any other folder."""
    if is_run(folder):
        return load_run(folder)[:2]
    if not (folder / CARD).is_file():
        raise UserError(f"{folder}: neither a run nor a package; `vexkd train` makes a run")
    return load_package(folder)[:2]


def load_predictor(
    folder: Path, device: str = "cpu", precision: Precision = "float32", runtime: Runtime = "torch"
) -> Predictor:
    """Load the predictor of a run's last checkpoint, or of a package, which alone has graphs and calibrated scores.

    UserError for any other folder.
    """
    if runtime == "torch" and not (folder / CARD).is_file():
        return Predictor(*load_trained(folder), card=None, device=device, precision=precision)
    return Predictor.load(folder, device, precision, runtime)


def describe_initial_weights(package: Path, card: StudentCard) -> dict[str, Any]:
    """Describe the package with whose weights a training begins, for the record of its run."""
    return {"from": str(package), "weights_sha256": card.weights_sha256, "trained_on": card.trained_on}


def describe_training(record: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a training by its run's record: data and their identity, teacher, initial weights."""
    return {**record["data"], **{key: record[key] for key in ("identity", "teacher", INITIAL_WEIGHTS) if key in record}}


def trainings_of(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Describe the trainings of a run or package, the last one first: its own, and those of its initial weights.

    Yields nothing where nobody recorded any.
    """
    described: Mapping[str, Any] = {}
    if is_run(folder):
        described = describe_training(json.loads((folder / RECORD).read_text()))
    elif (folder / CARD).is_file():
        described = read_card(folder)[1].trained_on
    while described:
        yield described
        described = described.get(INITIAL_WEIGHTS, {}).get("trained_on", {})


def taught_by(folder: Path) -> str | None:
    """Name of the last teacher of a run or package, or of its initial weights; None where nobody taught them."""
    return next((training["teacher"]["name"] for training in trainings_of(folder) if "teacher" in training), None)


def source_revision() -> str:
    """Git commit of this code, "+changes" when files differ from it, "unknown" outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str | Path) -> str:
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout

    try:
        return git("rev-parse", "HEAD").strip() + ("+changes" if git("status", "--porcelain", "--", folder) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
