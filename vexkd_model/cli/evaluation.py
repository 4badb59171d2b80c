"""`vexkd evaluate`, `compare`: the worth of models, alone and side by side."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vexkd_model.cli.arguments import add_command, add_dataroot_argument, add_dataset_arguments, open_index
from vexkd_model.command import DEVICE_HELP
from vexkd_model.errors import UserError
from vexkd_model.files import write_json

if TYPE_CHECKING:
    from vexkd_model.config import ModelConfig
    from vexkd_model.data.index import FrameIndex


def evaluate(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.requirements import check_evaluable
    from vexkd_model.evaluation.error_sources import ErrorCounter
    from vexkd_model.evaluation.report import errors_table, metrics_table, tracking_table
    from vexkd_model.evaluation.split import predict_split, score_split
    from vexkd_model.evaluation.tracked_split import TrackedSplit
    from vexkd_model.process import set_up_process
    from vexkd_model.training.run import load_predictor
    from vexkd_model.training.saved_evaluation import own_file, remembers, report_of

    set_up_process()
    target: Path = arguments.run_or_student
    predictor = load_predictor(target, arguments.device, arguments.precision, arguments.runtime)
    index, drop = open_index(arguments, default=-1), arguments.drop
    config = predictor.config
    _check_options(arguments, config)
    if remembers(target, index):
        print(_seen_before(target, index), file=sys.stderr)
    for remark in check_evaluable(config, index, drop, predictions_alone=arguments.submission is not None):
        print(remark, file=sys.stderr)
    predictions, tracked, counted = predict_split(predictor, index, drop), TrackedSplit(index), ErrorCounter()
    if arguments.tracks:
        predictions = tracked.follow(predictions)
    if arguments.errors:
        predictions = counted.follow(predictions, index)
    result = score_split(
        predictions,
        index,
        arguments.submission,
        detects=config.detection is not None,
        sensors=set(config.sensors) - {drop},
    )
    if arguments.submission:
        print(f"{arguments.submission}: written")
    print(predictor.place)
    if drop:
        print(f"without {drop}: no frame of {index.split} has its input")
    print(metrics_table(result.detection, result.maps) or f"{index.split}: without annotations, nothing to score")
    tracking = tracked.score() if arguments.tracks else None
    if tracking:
        print(f"\n{tracking_table(tracking)}")
    errors = counted.result() if arguments.errors and result.detection else None
    if errors:
        print(f"\n{errors_table(errors)}")
    report = report_of(result, index, drop, predictor.runtime)
    own, reason = own_file(target, index, drop, predictor.runtime)
    if reason:
        print(reason)
    further = {"tracking": tracking, "errors": errors}
    whole = report | {name: part.to_dict() for name, part in further.items() if part}
    for path, content in ((own, report), (arguments.json, whole)):
        if path:
            write_json(path, content)
            print(f"{path}: written")


def _check_options(arguments: argparse.Namespace, config: "ModelConfig") -> None:
    """Raise UserError for an option that is about detections, of a model that makes none, or that lacks a library."""
    from vexkd_model.evaluation.tracking import check_installed

    options = {"--submission": arguments.submission, "--tracks": arguments.tracks, "--errors": arguments.errors}
    for option, given in options.items():
        if given and config.detection is None:
            raise UserError(f"{option}: {config.name} detects nothing; give a model that does")
    if arguments.tracks:
        check_installed()


def _seen_before(target: Path, index: "FrameIndex") -> str:
    return f"note: {target} was trained on {index.split} itself; on frames that it has not seen, it will do worse"


def compare(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.bev_axes import check_format

    if arguments.out:
        check_format(arguments.out)
    if arguments.dataroot and not arguments.version:
        raise UserError("--dataroot: give --version, too, for example --version v1.0-mini")

    from vexkd_model.evaluation.report import comparison_table
    from vexkd_model.figures.losses_figure import short_names
    from vexkd_model.figures.scores_figure import plot_scores
    from vexkd_model.process import set_up_process
    from vexkd_model.training.comparison import evaluations_of
    from vexkd_model.training.saved_evaluation import remembers

    set_up_process()
    models: list[Path] = arguments.models
    index = open_index(arguments, default=-1) if arguments.dataroot else None
    if index is not None:
        for model in (model for model in models if model.is_dir() and remembers(model, index)):
            print(_seen_before(model, index), file=sys.stderr)
    evaluations = evaluations_of(models, index, arguments.device)
    results = {name: found.result for name, found in zip(short_names(models), evaluations, strict=True)}
    print(", ".join(f"{key} {value}" for key, value in evaluations[0].data.items()))
    print(comparison_table(results))
    if arguments.out:
        plot_scores(arguments.out, results)
        print(f"{arguments.out}: written")
    for name, result in results.items() if arguments.out else ():
        if result.detection and not result.details:
            print(f"{name}: its evaluation holds no curves and no errors by distance; --dataroot makes them")


def add_commands(commands: argparse._SubParsersAction) -> None:
    _add_evaluate(commands)
    _add_compare(commands)


def _add_evaluate(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        evaluate,
        "official detection metrics and map mIoU of a run or student package",
        "vexkd evaluate models/lidar_distilled --dataroot data --version v1.0-mini",
    )
    command.add_argument("run_or_student", type=Path, metavar="RUN_OR_STUDENT")
    add_dataroot_argument(command)
    add_dataset_arguments(command)
    command.add_argument("--drop", choices=("lidar", "camera"), help="every frame loses this sensor's input")
    command.add_argument("--device", default="auto", help=DEVICE_HELP)
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="float32",
        help="auto: bfloat16 where the device has instructions for it (default: float32)",
    )
    command.add_argument(
        "--runtime",
        choices=("auto", "torch", "onnx", "openvino", "tensorrt"),
        default="torch",
        help="torch; of a package with graphs, another; auto: the fastest that is installed (default: torch)",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    command.add_argument(
        "--tracks", action="store_true", help="also follow the detections from keyframe to keyframe: AMOTA"
    )
    command.add_argument(
        "--errors",
        action="store_true",
        help="also say what AP loses to wrong classes, wrong places, background and misses, and what is reversed",
    )
    command.add_argument(
        "--submission", type=Path, metavar="FILE", help="also write the detections here, in nuScenes' submission format"
    )


def _add_compare(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        compare,
        "table and figure of the evaluations of several models, side by side",
        "vexkd compare models/lidar_plain models/lidar_distilled --out compare.png",
    )
    command.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="RUN_OR_PACKAGE_OR_RESULTS",
        help="run or package, with the evaluation saved in it, or a JSON of vexkd evaluate",
    )
    command.add_argument(
        "--out", type=Path, metavar="FILE.png", help="also draw them, in the format of the suffix: .png, .pdf or .svg"
    )
    command.add_argument(
        "--dataroot",
        type=Path,
        help="prepared nuScenes folder; evaluates what was saved of other data, or without curves (all packages)",
    )
    add_dataset_arguments(command, required=False)
    command.add_argument("--device", default="auto", help=DEVICE_HELP)
