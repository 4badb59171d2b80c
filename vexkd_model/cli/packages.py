"""`vexkd export`, `import-weights`, `graph`, `calibrate`: student packages, and what is added to them."""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vexkd_model.cli.arguments import (
    add_command,
    add_config_argument,
    add_dataroot_argument,
    add_dataset_arguments,
    add_set_argument,
    open_index,
)
from vexkd_model.command import DEVICE_HELP
from vexkd_model.errors import UserError

if TYPE_CHECKING:
    from vexkd_model.config import ModelConfig
    from vexkd_model.sensor_check.statistics import InputStatistics


def export(arguments: argparse.Namespace) -> None:
    from vexkd_model.deploy.package import save_package
    from vexkd_model.training.run import BEST_CHECKPOINT, LAST_CHECKPOINT, RECORD, describe_training, load_run

    student, config, epochs = load_run(arguments.run, BEST_CHECKPOINT if arguments.best else LAST_CHECKPOINT)
    record = json.loads((arguments.run / RECORD).read_text())
    trained_on = {**describe_training(record), "command": record["command"], "epochs": epochs}
    save_package(
        arguments.out,
        student,
        config,
        trained_on,
        _metrics(arguments, record["data"]["version"]),
        record["source_revision"],
        _inputs_of(arguments.run, arguments.index, config),
        arguments.half,
    )
    print(
        f"{arguments.out}: student package complete; next, thresholds and calibrated scores: "
        f"vexkd calibrate {shlex.quote(str(arguments.out))} --dataroot DATAROOT --version {record['data']['version']}"
    )


def _metrics(arguments: argparse.Namespace, version: str) -> dict[str, Any]:
    """Figures for the card: those of --evaluation, else the run's own; none, and a line that says so, without them."""
    from vexkd_model.training.run import EVALUATION
    from vexkd_model.training.saved_evaluation import figures_of_file

    own = arguments.run / EVALUATION
    if arguments.evaluation:
        return figures_of_file(arguments.evaluation)
    if arguments.best:
        print(f"{own}: is of the last checkpoint, so the card of the best one will state no metrics")
        return {}
    if own.is_file():
        return figures_of_file(own)
    words = ["vexkd", "evaluate", str(arguments.run), "--dataroot", "DATAROOT", "--version", version]
    print(f"{own}: absent, so the card will state no metrics; `{shlex.join(words)}` writes it", file=sys.stderr)
    return {}


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


def calibrate(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.requirements import check_evaluable
    from vexkd_model.deploy.package import write_card
    from vexkd_model.deploy.predictor import Predictor
    from vexkd_model.evaluation.measure_reliability import measure_reliability, tabulate
    from vexkd_model.evaluation.report import reliability_table
    from vexkd_model.evaluation.split import predict_split
    from vexkd_model.process import set_up_process
    from vexkd_model.training.run import describe_data

    set_up_process()
    package: Path = arguments.package
    predictor = Predictor.load(package, arguments.device, "auto", "auto", calibrated=False)
    index, config, card = open_index(arguments, default=-1), predictor.config, predictor.card
    assert card is not None
    if config.detection is None:
        raise UserError(f"{package}: {config.name} detects nothing, so there is no score to calibrate")
    for remark in check_evaluable(config, index, predictions_alone=True):
        print(remark, file=sys.stderr)
    data = describe_data(index)
    if data.items() <= card.trained_on.items():
        print(
            f"{index.split}: {package} was trained on it, so the figures flatter; give another split", file=sys.stderr
        )
    command = " ".join(["vexkd", *sys.argv[1:]])
    table = tabulate(predict_split(predictor, index), index)
    reliability = measure_reliability(table, data, command, predictor.runtime)
    write_card(package, card.model_copy(update={"reliability": reliability}))
    print(reliability_table(reliability))
    if left_out := [name for name in card.detection_classes if name not in reliability.classes]:
        print(f"too few hits to measure, scores stay and all are shown: {', '.join(left_out)}")
    print(f"{package}: card written")


def add_commands(commands: argparse._SubParsersAction) -> None:
    _add_export(commands)
    _add_import_weights(commands)
    _add_graph(commands)
    _add_calibrate(commands)


def _add_export(commands: argparse._SubParsersAction) -> None:
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
        "--evaluation",
        type=Path,
        metavar="FILE",
        help="what `vexkd evaluate RUN --json FILE` measured on other data than the run's, for the card to state "
        "(default: the run's own evaluation)",
    )
    command.add_argument(
        "--half",
        action="store_true",
        help="store weights in float16, at half the size; they are computed with in float32 again",
    )


def _add_import_weights(commands: argparse._SubParsersAction) -> None:
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


def _add_graph(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        graph,
        "add ONNX graphs to a student package, for ONNX Runtime and others",
        "vexkd graph models/my_student --dataroot data --version v1.0-mini",
    )
    command.add_argument("student", type=Path, metavar="STUDENT", help="package, to which the graphs are added")
    add_dataroot_argument(command)
    add_dataset_arguments(command)
    command.add_argument(
        "--precision",
        choices=("int8", "float32"),
        default="int8",
        help="int8 is calibrated on forty frames of the split (default: int8)",
    )


def _add_calibrate(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        calibrate,
        "measure on a validation split what scores and boxes of a student package are worth, for its card",
        "vexkd calibrate models/my_student --dataroot data --version v1.0-trainval --split val",
    )
    command.add_argument("package", type=Path, metavar="PACKAGE", help="of vexkd export, with its graphs if any")
    add_dataroot_argument(command)
    add_dataset_arguments(command)
    command.add_argument("--device", default="auto", help=DEVICE_HELP)
