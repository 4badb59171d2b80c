"""`vexkd evaluate`, `calibrate`, `compare`, `ablate`, `record`, `tables`: the worth of models, alone and compared."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vexkd_model.cli.arguments import add_command, add_dataset_arguments, open_index
from vexkd_model.command import DEVICE_HELP, positive_int
from vexkd_model.errors import UserError
from vexkd_model.files import write_json

if TYPE_CHECKING:
    from vexkd_model.ablation.run import Jobs
    from vexkd_model.data.index import FrameIndex


def evaluate(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.requirements import check_evaluable
    from vexkd_model.evaluation.report import metrics_table, tracking_table
    from vexkd_model.evaluation.split import predict_split, score_split
    from vexkd_model.evaluation.tracked_split import TrackedSplit
    from vexkd_model.evaluation.tracking import check_installed
    from vexkd_model.process import set_up_process
    from vexkd_model.training.run import load_predictor
    from vexkd_model.training.saved_evaluation import own_file, remembers, report_of

    set_up_process()
    target: Path = arguments.run_or_student
    predictor = load_predictor(target, arguments.device, arguments.precision, arguments.runtime)
    index, drop = open_index(arguments, default=-1), arguments.drop
    config = predictor.config
    if arguments.submission and config.detection is None:
        raise UserError(f"--submission {arguments.submission}: {config.name} detects nothing; give a model that does")
    if arguments.tracks:
        check_installed()
    if arguments.tracks and config.detection is None:
        raise UserError(f"--tracks: {config.name} detects nothing; give a model that does")
    if remembers(target, index):
        print(_seen_before(target, index), file=sys.stderr)
    for remark in check_evaluable(config, index, drop, predictions_alone=arguments.submission is not None):
        print(remark, file=sys.stderr)
    predictions, tracked = predict_split(predictor, index, drop), TrackedSplit(index)
    result = score_split(
        tracked.follow(predictions) if arguments.tracks else predictions,
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
    report = report_of(result, index, drop, predictor.runtime)
    own, reason = own_file(target, index, drop, predictor.runtime)
    if reason:
        print(reason)
    if own:
        write_json(own, report)
        print(f"{own}: written")
    if arguments.json:
        write_json(arguments.json, report | ({"tracking": tracking.to_dict()} if tracking else {}))
        print(f"{arguments.json}: written")


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


def _plan_path(text: str) -> Path:
    from vexkd_model.ablation.plan import find_plan

    return find_plan(text)


def ablate(arguments: argparse.Namespace) -> None:
    from vexkd_model.ablation.plan import load_plan
    from vexkd_model.ablation.records import Records
    from vexkd_model.ablation.run import ablate, unfinished_runs
    from vexkd_model.ablation.table import CSV, MARKDOWN

    plan = load_plan(arguments.plan)
    records = Records(arguments.records or arguments.out / "records", plan, arguments.plan.stem)
    if arguments.dry_run:
        for run in unfinished_runs(plan, arguments.out, records):
            for words in run.commands():
                print(shlex.join(["vexkd", *words]))
        return
    ablate(plan, arguments.out, records, _jobs(arguments))
    print((arguments.out / MARKDOWN).read_text(), end="")
    print(f"{arguments.out / MARKDOWN}, {arguments.out / CSV}: written; records in {records.folder}")


def _jobs(arguments: argparse.Namespace) -> "Jobs":
    if arguments.slurm is None:
        from vexkd_model.ablation.local_jobs import LocalJobs

        if arguments.sbatch:
            raise UserError(f"--sbatch {arguments.sbatch[0]}: belongs to --slurm MINUTES")
        return LocalJobs(arguments.jobs or 1)
    try:
        from vexkd_model.ablation.slurm_jobs import SlurmJobs
    except ModuleNotFoundError:
        raise UserError("--slurm: submitit is not installed; pip install submitit") from None
    return SlurmJobs(arguments.out, arguments.slurm, arguments.sbatch, arguments.jobs or sys.maxsize)


def record(arguments: argparse.Namespace) -> None:
    from vexkd_model.ablation.make_record import make_record
    from vexkd_model.ablation.run_record import write_record

    row = arguments.row or arguments.run.resolve().name
    made = make_record(
        arguments.run, row, arguments.plan, arguments.evaluation, arguments.teacher, arguments.teacher_row
    )
    write_record(arguments.out, made)
    print(f"{arguments.out}: written")


def tables(arguments: argparse.Namespace) -> None:
    from vexkd_model.ablation.study import read_studies
    from vexkd_model.ablation.study_report import write_study

    for study in read_studies(arguments.records):
        for path in write_study(arguments.out, study):
            print(f"{path}: written")


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        evaluate,
        "official detection metrics and map mIoU of a run or student package",
        "vexkd evaluate models/lidar_distilled --dataroot data --version v1.0-mini",
    )
    command.add_argument("run_or_student", type=Path, metavar="RUN_OR_STUDENT")
    command.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")
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
        "--submission", type=Path, metavar="FILE", help="also write the detections here, in nuScenes' submission format"
    )

    command = add_command(
        commands,
        calibrate,
        "measure on a validation split what scores and boxes of a student package are worth, for its card",
        "vexkd calibrate models/my_student --dataroot data --version v1.0-trainval --split val",
    )
    command.add_argument("package", type=Path, metavar="PACKAGE", help="of vexkd export, with its graphs if any")
    command.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")
    add_dataset_arguments(command)
    command.add_argument("--device", default="auto", help=DEVICE_HELP)

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

    command = add_command(
        commands,
        ablate,
        "train and evaluate a table of configurations with several seeds",
        "vexkd ablate masks_lidar --out ablations",
    )
    command.add_argument(
        "plan",
        type=_plan_path,
        metavar="PLAN",
        help="a plan's YAML, or the bare name of a shipped one, for example study_lidar",
    )
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of runs and tables; what is finished there is kept, what had begun goes on",
    )
    command.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="folder of the records, DIR/PLAN/ROW-seedN.json; a run with a record is finished, "
        "wherever it was trained (default: OUT/records)",
    )
    command.add_argument(
        "--jobs",
        type=positive_int,
        metavar="N",
        help="runs side by side, with a part of the cores and one of the GPUs each (default: 1); "
        "with --slurm: jobs in its queue (default: all)",
    )
    command.add_argument(
        "--slurm",
        type=positive_int,
        metavar="MINUTES",
        help="make each run a job of SLURM, which goes on after this command has ended, and which "
        "starts again where it was when MINUTES are over",
    )
    command.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of sbatch for these jobs, for example partition=gpu, gpus=1 or cpus-per-task=4; may be repeated",
    )
    command.add_argument("--dry-run", action="store_true", help="only print the commands that remain to be run")

    command = add_command(
        commands,
        record,
        "write the record of a run that was trained and evaluated by hand",
        "vexkd record runs/plain --plan study_lidar --out docs/results/runs/study_lidar/plain-seed1.json",
    )
    command.add_argument("run", type=Path, metavar="RUN", help="of vexkd train or vexkd distill")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="record to write")
    command.add_argument("--row", metavar="NAME", help="row of the tables (default: name of the run folder)")
    command.add_argument("--plan", metavar="NAME", help="plan that the row belongs to")
    command.add_argument(
        "--evaluation", type=Path, metavar="FILE", help="JSON of vexkd evaluate (default: RUN/evaluation.json)"
    )
    command.add_argument(
        "--teacher",
        type=Path,
        metavar="RUN_OR_PACKAGE",
        help="where the teacher of the run lies now (default: where it lay)",
    )
    command.add_argument("--teacher-row", metavar="NAME", help="row of the teacher (default: name of its folder)")

    command = add_command(
        commands,
        tables,
        "rebuild tables and plots of a study from the records of its runs alone",
        "vexkd tables docs/results/runs/study_lidar --out docs/results",
    )
    command.add_argument(
        "records", type=Path, nargs="+", metavar="DIR", help="folder of records of a plan, or of several such folders"
    )
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where NAME.md, NAME.csv and pictures go, NAME is the plan's",
    )
