"""`vexkd train`, `distill`, `extend`, `export`, `graph`, `describe`, `import-weights`: configuration to package."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexkd_model.cli.arguments import (
    add_command,
    add_config_argument,
    add_dataset_arguments,
    add_set_argument,
    open_index,
)
from vexkd_model.command import positive_int
from vexkd_model.errors import UserError
from vexkd_model.files import write_json

# What is heavy is imported only after a configuration has been checked: a misspelt key is told within a second.

if TYPE_CHECKING:
    from vexkd_model.config import ModelConfig
    from vexkd_model.data.index import FrameIndex
    from vexkd_model.sensor_check.statistics import InputStatistics


def train(arguments: argparse.Namespace) -> None:
    from vexkd_model.config import load_config

    config = load_config(arguments.config, arguments.set)
    index = open_index(arguments, default=0)

    from vexkd_model.process import set_up_process
    from vexkd_model.training.train import quiet_lightning, train

    set_up_process()
    quiet_lightning()
    first = train(
        config,
        index,
        arguments.out,
        arguments.workers,
        arguments.resume,
        interactive=sys.stderr.isatty(),
        weights=arguments.weights,
        devices=arguments.devices,
        nodes=arguments.nodes,
        device=arguments.device,
    )
    if first:
        print(_trained(arguments))


def distill(arguments: argparse.Namespace) -> None:
    from vexkd_model.config import load_config

    config = load_config(arguments.config, arguments.set)
    index = open_index(arguments, default=0)

    from vexkd_model.process import set_up_process
    from vexkd_model.training.distill import distill
    from vexkd_model.training.train import quiet_lightning

    set_up_process()
    quiet_lightning()
    first = distill(
        config,
        arguments.teacher,
        index,
        arguments.out,
        arguments.workers,
        arguments.resume,
        interactive=sys.stderr.isatty(),
        cache=arguments.cache,
        devices=arguments.devices,
        nodes=arguments.nodes,
        device=arguments.device,
        unlabelled=index if arguments.unlabelled == "" else _unlabelled(arguments),
    )
    if first:
        print(_trained(arguments))


def _unlabelled(arguments: argparse.Namespace) -> "FrameIndex | None":
    """Open the frames of --unlabelled DATAROOT[:VERSION[:SPLIT]], None without it."""
    from vexkd_model.data.index import FrameIndex, index_folder
    from vexkd_model.data.splits import split_names

    if arguments.unlabelled is None:
        return None
    place, version, split, *rest = [*arguments.unlabelled.split(":"), "", ""]
    if any(rest):
        raise UserError(f"--unlabelled {arguments.unlabelled}: must be DATAROOT, DATAROOT:VERSION or with :SPLIT")
    version = version or arguments.version
    split = split or split_names(Path(place), version)[0]
    return FrameIndex.open(index_folder(Path(place), version), split, Path(place), version)


def _trained(arguments: argparse.Namespace) -> str:
    following = [
        "vexkd",
        "evaluate",
        arguments.out,
        "--dataroot",
        arguments.dataroot,
        "--version",
        arguments.version,
        *(["--index", arguments.index] if arguments.index else []),
    ]
    return f"{arguments.out}: trained; next: {shlex.join(map(str, following))}"


def extend(arguments: argparse.Namespace) -> None:
    from vexkd_model.process import set_up_process
    from vexkd_model.training.distill import distill
    from vexkd_model.training.extend import extend_run
    from vexkd_model.training.run import RECORD, training_index
    from vexkd_model.training.train import quiet_lightning, train

    set_up_process()
    quiet_lightning()
    run: Path = arguments.run
    config = extend_run(run, arguments.epochs)
    record, index = json.loads((run / RECORD).read_text()), training_index(run, arguments.index)
    how: dict[str, Any] = {"resume": True, "interactive": sys.stderr.isatty(), "devices": record.get("processes", 1)}
    if "teacher" in record:
        teacher = arguments.teacher or Path(record["teacher"]["from"])
        first = distill(config, teacher, index, run, arguments.workers, **how)
    else:
        first = train(config, index, run, arguments.workers, **how)
    if first:
        print(f"{run}: trained for {arguments.epochs} epochs; next: vexkd evaluate {run} --dataroot … --version …")


def export(arguments: argparse.Namespace) -> None:
    from vexkd_model.deploy.package import save_package
    from vexkd_model.training.run import BEST_CHECKPOINT, EVALUATION, LAST_CHECKPOINT, RECORD, load_run
    from vexkd_model.training.saved_evaluation import DETAILS

    student, config, epochs = load_run(arguments.run, BEST_CHECKPOINT if arguments.best else LAST_CHECKPOINT)
    record = json.loads((arguments.run / RECORD).read_text())
    evaluation = arguments.run / EVALUATION
    if arguments.best:
        print(f"{evaluation}: is of the last checkpoint, so the card of the best one will state no metrics")
    elif not evaluation.is_file():
        writer = [
            "vexkd",
            "evaluate",
            str(arguments.run),
            "--dataroot",
            "DATAROOT",
            "--version",
            record["data"]["version"],
        ]
        print(
            f"{evaluation}: absent, so the card will state no metrics; `{shlex.join(writer)}` writes it",
            file=sys.stderr,
        )
    metrics = json.loads(evaluation.read_text()) if evaluation.is_file() and not arguments.best else {}
    metrics.pop(DETAILS, None)
    teacher = {"teacher": record["teacher"]} if "teacher" in record else {}
    identity = {"identity": record["identity"]} if "identity" in record else {}
    trained_on = {**record["data"], **identity, "command": record["command"], "epochs": epochs, **teacher}
    save_package(
        arguments.out,
        student,
        config,
        trained_on,
        metrics,
        record["source_revision"],
        _inputs_of(arguments.run, arguments.index, config),
        arguments.half,
    )
    print(
        f"{arguments.out}: student package complete; next, thresholds and calibrated scores: "
        f"vexkd calibrate {shlex.quote(str(arguments.out))} --dataroot DATAROOT --version {record['data']['version']}"
    )


def graph(arguments: argparse.Namespace) -> None:
    from vexkd_model.deploy.add_graphs import add_graphs
    from vexkd_model.deploy.graph import check_exporter
    from vexkd_model.process import set_up_process

    check_exporter()
    set_up_process()
    add_graphs(arguments.student, open_index(arguments, default=0), arguments.precision)
    print(
        f"{arguments.student}: graphs added; next: vexkd evaluate {arguments.student} --runtime onnx "
        f"--dataroot {arguments.dataroot} --version {arguments.version}"
    )


def _inputs_of(run: Path, index_dir: Path | None, config: "ModelConfig") -> "InputStatistics | None":
    """None, and a line that says so, where the training split is not at hand and nobody asked for it."""
    from vexkd_model.sensor_check.measure_split import measure_inputs
    from vexkd_model.training.run import training_index

    try:
        return measure_inputs(training_index(run, index_dir), config)
    except UserError as error:
        if index_dir is not None:
            raise
        print(
            f"{error}; the card will not state what the sensors were like, so that nobody can check whether a "
            "vehicle's fit; --index says where the training split's index is",
            file=sys.stderr,
        )
        return None


def describe(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vexkd_model.config import load_config

    config = load_config(arguments.config, arguments.set)

    from vexkd_model.describe import as_text, describe

    described = describe(config)
    print(as_text(described))
    if arguments.json:
        write_json(arguments.json, {**asdict(described), "layers": [layer._asdict() for layer in described.layers]})
        print(f"{arguments.json}: written")


def import_weights(arguments: argparse.Namespace) -> None:
    from vexkd_model.config import load_config

    config = load_config(arguments.config, arguments.set)

    from vexkd_model.deploy.package import save_package
    from vexkd_model.import_weights.importer import import_weights
    from vexkd_model.training.run import source_revision

    model, config, report = import_weights(arguments.checkpoint, config)
    print(report.text(lines=None if arguments.all else 5))
    trained_on = {"imported": arguments.checkpoint.name, "family": report.family, "notes": list(report.notes)}
    save_package(arguments.out, model, config, trained_on, metrics={}, source_revision=source_revision())
    package = shlex.quote(str(arguments.out))
    whole = not (report.missing or report.differing)
    node = f"vexkd-student-node --ros-args -p model:={package}"
    tune = f"vexkd train {package}/model.yaml --weights {package} --dataroot DATAROOT --version VERSION --out RUN"
    print(f"{arguments.out}: student package complete; next: {node if whole else tune}")


def _add_training_arguments(command: argparse.ArgumentParser) -> None:
    add_config_argument(command)
    command.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")
    add_dataset_arguments(command)
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of this run")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint of RUN")
    command.add_argument("--workers", type=int, default=1, help="processes that load data (default: 1)")
    command.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto: cuda where it can be used, else cpu (default: auto)",
    )
    command.add_argument(
        "--devices",
        type=positive_int,
        default=1,
        help="GPUs, or processes on a machine without, that train together (default: 1)",
    )
    command.add_argument(
        "--nodes",
        type=positive_int,
        default=1,
        help="machines that train together, each started with the same command or by torchrun (default: 1)",
    )
    add_set_argument(command)


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        train,
        "train a student or a teacher on its tasks",
        "vexkd train config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-mini --out run",
    )
    _add_training_arguments(command)
    command.add_argument("--weights", type=Path, metavar="STUDENT", help="begin with the weights of this package")

    command = add_command(
        commands,
        distill,
        "train a student on its tasks and on a teacher's BEV maps",
        "vexkd distill config/model/lidar_pillar_small.yaml --teacher runs/teacher "
        "--dataroot data --version v1.0-mini --out run",
    )
    _add_training_arguments(command)
    command.add_argument(
        "--unlabelled",
        nargs="?",
        const="",
        metavar="DATAROOT[:VERSION[:SPLIT]]",
        help="prepared frames that the teacher alone teaches, mixed with those of --dataroot (default: their VERSION, "
        "its first split); without a value, those of --dataroot themselves: no annotation is looked at",
    )
    command.add_argument(
        "--teacher",
        type=Path,
        required=True,
        metavar="RUN_OR_PACKAGE",
        help="of vexkd train, for example with config/model/vexkd_teacher_small.yaml",
    )
    command.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="compute the teacher's maps once and keep them here (about 5 MB a frame for the small "
        "teacher); needs a training without augmentation",
    )

    command = add_command(
        commands,
        extend,
        "go on with a finished run to more epochs, where it was trained",
        "vexkd extend runs/first --epochs 30",
    )
    command.description = (
        "Go on with a finished run to more epochs. The learning rate goes on where a schedule over all N epochs would "
        "be by then, so that it rises once more and falls again; so does augmentation that is off for the last epochs. "
        "Epochs go on from the checkpoint, with the state of the optimiser. Interrupted, the same command goes on."
    )
    command.add_argument("run", type=Path, metavar="RUN", help="of vexkd train or vexkd distill")
    command.add_argument("--epochs", type=positive_int, required=True, metavar="N", help="in all, old ones included")
    command.add_argument("--workers", type=int, default=1, help="processes that load data (default: 1)")
    command.add_argument("--index", type=Path, metavar="DIR", help="folder of the frame index (default: where it was)")
    command.add_argument(
        "--teacher",
        type=Path,
        metavar="RUN_OR_PACKAGE",
        help="where the run's teacher lies now (default: where it lay)",
    )

    command = add_command(commands, export, "make a student package of a run", "vexkd export run models/my_student")
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument("out", type=Path, metavar="OUT", help="folder of the package; an older package is replaced")
    command.add_argument(
        "--index",
        type=Path,
        metavar="DIR",
        help="folder of the frame index of the data that the run "
        "was trained on (default: where it was then); the card says what its sensors were like",
    )
    command.add_argument(
        "--best",
        action="store_true",
        help="of the best validation, instead of the last checkpoint; needs a training with training.validation",
    )
    command.add_argument(
        "--half",
        action="store_true",
        help="store weights in float16, at half the size; they are computed with in float32 again",
    )

    command = add_command(
        commands,
        graph,
        "add ONNX graphs to a student package, for ONNX Runtime and others",
        "vexkd graph models/my_student --dataroot data --version v1.0-mini",
    )
    command.add_argument("student", type=Path, metavar="STUDENT", help="package, to which the graphs are added")
    command.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")
    add_dataset_arguments(command)
    command.add_argument(
        "--precision",
        choices=("int8", "float32"),
        default="int8",
        help="int8 is calibrated on forty frames of the split (default: int8)",
    )

    command = add_command(
        commands,
        describe,
        "modules of a model, shapes at every hop, parameters, GFLOPs and memory",
        "vexkd describe config/model/bevdet_r50.yaml",
    )
    add_config_argument(command)
    add_set_argument(command)
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")

    command = add_command(
        commands,
        import_weights,
        "make a student package of weights published by others",
        "vexkd import-weights centerpoint.pth config/model/centerpoint_voxel.yaml imported/centerpoint",
    )
    command.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="of mmdetection3d, CenterPoint, BEVDet or BEVFusion: .pth, .pt, .ckpt or .safetensors",
    )
    add_config_argument(command)
    command.add_argument("out", type=Path, metavar="OUT", help="folder of the package; an older package is replaced")
    add_set_argument(command)
    command.add_argument("--all", action="store_true", help="name every tensor, not the first five of each group")
