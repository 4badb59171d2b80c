"""Demo: scenes → bags → the student as a ROS 2 node → official metrics of what it published.

Node, player and recorder are separate processes that talk over DDS, as on a vehicle.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vexkd_model.command import make_parser, positive_number, run_command
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.data.schema import open_nuscenes, scenes_of_split
from vexkd_model.data.splits import split_names
from vexkd_model.data.tables import tables_digest
from vexkd_model.deploy.package import load_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.report import comparison_table
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.figures.bev_figure import bev_figure
from vexkd_model.figures.comparison_figure import StudentPanel, comparison_figure
from vexkd_model.figures.scene import load_scene
from vexkd_model.files import locked, write_json
from vexkd_model.synth import synthesise
from vexkd_model.types import MAP_CLASSES
from vexkd_ros.bags.evaluator import NODE, Evaluation, KeyframesMissing, evaluate_bag
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.bags.scene.selection import Selection
from vexkd_ros.children import STOPPING, Children
from vexkd_ros.dds import free_domain, this_machine
from vexkd_ros.share import share_path

STUDENT = "models/lidar_distilled"
COMPARED = ("models/lidar_plain", STUDENT, "models/camera_plain", "models/camera_distilled")
SEED = 7  # never a seed that the student was trained on
DEFAULT_RATES = (0.25, 0.1)  # 20 Hz sweeps come at 5 Hz, for two idle cores; at 2 Hz where those were too busy
PLAYED = Selection(topics=("/lidar/points", "/tf", "/tf_static", "/odom", "/keyframe", "/ground_truth"))
START_S = 120.0  # the most that the node may take until it listens
LAST_FRAME_S = 1.0  # for the node to finish what came last, and for the recorder to write it
TOPICS = [
    f"{NODE}/{name}" for name in ("detections", "markers", *(f"map/{name}" for name in MAP_CLASSES), "debug/latency")
]
HELP = """\
Replay driving scenes to the student node over DDS, record what it publishes and score it with the official metrics.
Without --dataroot the scenes are synthetic. Without --student, the plain and distilled students that ship are compared
afterwards. Complete steps of an earlier run in OUT are used again."""
EXAMPLE = """\
examples:
  python -m vexkd_ros.demo
  python -m vexkd_ros.demo --dataroot data/nuscenes --version v1.0-mini --out out/demo-nuscenes"""


@dataclass(frozen=True)
class Dataset:
    """NuScenes folder and its version, v1.0-mini."""

    dataroot: Path
    version: str


def demo(
    out: Path, dataset: Dataset | None, student: Path, rates: Sequence[float], compared: Sequence[Path] = ()
) -> None:
    """Run every step and write OUT/metrics.json, OUT/picture.png and the bag OUT/published.

    rates: speeds of the replay, tried in turn until the node keeps up; KeyframesMissing where it does at none.
    compared: packages that are evaluated on the same keyframes afterwards, for OUT/comparison.json and .png.
    """
    name = load_package(student)[2].name
    dataset = dataset or synthetic_scenes(out / "data")
    split = split_with_scenes(dataset)
    forget_other_data(out, dataset)
    index = frame_index(dataset, split, out / "index")
    bags = scene_bags(dataset, split, out / "bags")
    for result in ("metrics.json", "picture.png", "comparison.json", "comparison.png"):
        (out / result).unlink(missing_ok=True)
    rate, evaluation = replay_and_score(bags, student, rates, out, index)
    write_json(
        out / "metrics.json",
        {
            "data": {"dataroot": str(index.dataroot), "version": index.version, "split": index.split},
            "student": str(student),
            "rate": rate,
            **evaluation.to_dict(),
        },
    )
    draw_fullest_keyframe(out / "picture.png", index, evaluation, name)
    print(f"\n{evaluation.tables()}\n")
    if compared:
        compare(compared, index, out)
    following = [
        os.path.relpath(Path(sys.executable).with_name("vexkd")),
        "evaluate",
        student,
        "--dataroot",
        dataset.dataroot,
        "--version",
        dataset.version,
        "--split",
        index.split,
        "--index",
        out / "index",
    ]
    print(
        f"picture: {out / 'picture.png'}\nmetrics: {out / 'metrics.json'}\n"
        f"recorded: {out / 'published'} (inputs: {out / 'bags'}, log of the node: {out / 'log'})\n"
        f"next, the same figures without ROS:\n"
        f"  {shlex.join(map(str, following))}"
    )


def replay_and_score(
    bags: Sequence[Path], student: Path, rates: Sequence[float], out: Path, index: FrameIndex
) -> tuple[float, Evaluation]:
    """Return the first of the rates at which the node publishes every keyframe, and its score."""
    for rate in rates:
        replay(bags, student, rate, out / "published", out / "log")
        say("score what the node published")
        try:
            return rate, evaluate_bag(out / "published", index)
        except KeyframesMissing as error:
            if rate == rates[-1]:
                raise
            say(f"this machine was too busy ({error}); once more")
    raise ValueError("no rates")


def synthetic_scenes(dataroot: Path) -> Dataset:
    """Make the validation scenes of the demo's synthetic world."""
    say("make synthetic scenes")
    synthesise(dataroot, "demo", SEED, split="mini_val", workers=os.cpu_count() or 1)
    return Dataset(dataroot, "v1.0-mini")


def split_with_scenes(dataset: Dataset) -> str:
    """Return the validation split, or the other one where the dataset has no scene of it."""
    nusc = open_nuscenes(dataset.dataroot, dataset.version)
    names = split_names(dataset.dataroot, dataset.version)
    for split in reversed(names):
        if scenes_of_split(nusc, split):
            return split
    raise UserError(f"{dataset.dataroot}: {dataset.version} holds no scene of the splits {', '.join(names)}")


def forget_other_data(out: Path, dataset: Dataset) -> None:
    """Remove index and bags in OUT unless they were made from the very tables that the dataset has now."""
    digest, record = tables_digest(dataset.dataroot, dataset.version), out / "source.txt"
    source = f"{dataset.dataroot.resolve()} {dataset.version} {digest} {PLAYED.to_dict()}\n"
    if not record.is_file() or record.read_text() != source:
        for folder in (out / "index", out / "bags"):
            shutil.rmtree(folder, ignore_errors=True)
        record.write_text(source)


def frame_index(dataset: Dataset, split: str, index_dir: Path) -> FrameIndex:
    """Open the index of a split; a damaged one is written anew."""
    say("index the keyframes")
    try:
        index = FrameIndex.open(index_dir, split)
        _ = index[len(index) - 1], index.map_mask(len(index) - 1)
        damaged = False
    except (UserError, OSError, ValueError, pa.ArrowException):
        damaged = True
    prepare(dataset.dataroot, dataset.version, index_dir, [split], force=damaged)
    return FrameIndex.open(index_dir, split)


def scene_bags(dataset: Dataset, split: str, folder: Path) -> list[Path]:
    """Write one bag a scene; a damaged one is written anew."""
    say("write bags")
    for bag in folder.glob("scene-*"):
        try:
            with open_bag(bag, whole=True):
                pass
        except UserError:
            shutil.rmtree(bag)
    return convert(dataset.dataroot, dataset.version, folder, split=split, selection=PLAYED)


def replay(bags: Sequence[Path], student: Path, rate: float, published: Path, logs: Path) -> None:
    """Play the bags to a student node and record what it publishes; UserError as soon as one of the three fails."""
    seconds = sum(_duration_s(bag) for bag in bags) / rate
    say(f"play to the student node over DDS, {seconds:.0f} s at rate {rate:g}")
    shutil.rmtree(published, ignore_errors=True)
    logs.mkdir(parents=True, exist_ok=True)
    with Children(os.environ | this_machine(free_domain())) as children:
        children.start(
            "student_node",
            _module(
                "student_node",
                "--ros-args",
                "-r",
                "points:=/lidar/points",
                "-p",
                f"model:={student.resolve()}",
                "-p",
                "autostart:=true",
                "-p",
                "input_reliability:=reliable",
            ),
            logs / "student_node.log",
        )
        children.start(
            "bag_recorder",
            _module("bags.recorder", *TOPICS, "/diagnostics", "--out", str(published)),
            logs / "bag_recorder.log",
        )
        children.start(
            "bag_player",
            _module(
                "bags.player", *map(str, bags), "--rate", str(rate), "--wait-for-subscribers", "/lidar/points", *TOPICS
            ),
        )
        children.watch(START_S + 2 * seconds, until_end_of="bag_player")
        children.stop("bag_player")
        children.watch(LAST_FRAME_S)
        children.stop("bag_recorder")
        children.stop("student_node")


def fullest_keyframe(index: FrameIndex) -> int:
    """Find the keyframe with the most annotated boxes and return its number."""
    return max(range(len(index)), key=lambda i: len(index[i].boxes))


def draw_fullest_keyframe(path: Path, index: FrameIndex, evaluation: Evaluation, student: str) -> None:
    """Draw the keyframe with the most annotated boxes from above."""
    fullest = fullest_keyframe(index)
    record = index[fullest]
    bev_figure(
        path,
        record.load_points(sweeps=1),
        record.seen_boxes,
        evaluation.predictions[fullest],
        index.map_mask(fullest),
        f"{student} over ROS 2: {record.scene}, keyframe {record.token[:8]}",
    )


def compare(packages: Sequence[Path], index: FrameIndex, out: Path) -> None:
    """Evaluate packages on the keyframes without ROS; write OUT/comparison.json and a picture, print a table."""
    results, answers, fullest = {}, [], fullest_keyframe(index)
    for package in packages:
        say(f"evaluate {package.name} for comparison, without ROS")
        predictor = Predictor.load(package, precision="auto", runtime="auto")
        try:
            results[package.name] = score_split(predict_split(predictor, index), index)
        except UserError as error:  # a dataset without cameras is good for the LiDAR students
            say(f"{package.name} is left out: {error}")
            continue
        answers.append(StudentPanel(package.name, predictor.predict(load_frame(index, fullest, predictor.config))))
    write_json(out / "comparison.json", {name: result.to_dict() for name, result in results.items()})
    comparison_figure(out / "comparison.png", load_scene(index, fullest), answers)
    print(f"{comparison_table(results)}\n\ncomparison: {out / 'comparison.png'}")


def say(step: str) -> None:
    """Announce a step."""
    print(f"demo: {step}", file=sys.stderr, flush=True)


def sole_user(folder: Path) -> AbstractContextManager[None]:
    """Hold `folder` for this process; UserError where another demo is at work in it."""
    return locked(folder / ".lock", f"{folder}: another demo is running in it; wait for it or choose another --out")


def _duration_s(bag: Path) -> float:
    with open_bag(bag, whole=True) as reader:
        return reader.duration * 1e-9


def _module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"vexkd_ros.{name}", *arguments]


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("python -m vexkd_ros.demo", HELP, EXAMPLE)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for everything (default: out/demo)")
    parser.add_argument("--dataroot", type=Path, help="nuScenes folder (default: synthetic scenes)")
    parser.add_argument("--version", help="v1.0-mini or v1.0-trainval; with --dataroot")
    parser.add_argument(
        "--rate",
        type=positive_number,
        help=f"speed of the replay (default: {DEFAULT_RATES[0]}, and "
        f"{DEFAULT_RATES[1]} where the node does not keep up)",
    )
    parser.add_argument(
        "--student",
        type=Path,
        help=f"student package (default: {STUDENT}, and a comparison with its plain twin and the camera students)",
    )

    def command(arguments: argparse.Namespace) -> None:
        if bool(arguments.dataroot) != bool(arguments.version):
            parser.error("--dataroot and --version go together")
        for number in STOPPING:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, signal.default_int_handler)
        dataset = Dataset(arguments.dataroot, arguments.version) if arguments.dataroot else None
        rates = DEFAULT_RATES if arguments.rate is None else (arguments.rate,)
        start = time.monotonic()
        with sole_user(arguments.out):
            demo(
                arguments.out,
                dataset,
                arguments.student or share_path(STUDENT),
                rates,
                compared=() if arguments.student else [share_path(package) for package in COMPARED],
            )
        say(f"done in {time.monotonic() - start:.0f} s")

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
