"""Command of the demo: all steps in their order.

Node, player and recorder are separate processes that talk over DDS, as on a vehicle.
"""

import argparse
import os
import shlex
import signal
import sys
import time
import webbrowser
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from vexkd_model.command import make_parser, positive_number, run_command
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.card import read_card
from vexkd_model.files import locked, write_json
from vexkd_ros.bags.view.command import write_view
from vexkd_ros.children import STOPPING
from vexkd_ros.demo.inputs import (
    Dataset,
    forget_other_data,
    frame_index,
    scene_bags,
    split_with_scenes,
    synthetic_scenes,
)
from vexkd_ros.demo.replay import replay_and_score
from vexkd_ros.demo.results import compare, draw_fullest_keyframe
from vexkd_ros.demo.steps import PRODUCTS, REPORT, earlier_report, identity, keep_report, say
from vexkd_ros.share import share_path

STUDENT = "models/lidar_distilled"
COMPARED = ("models/lidar_plain", STUDENT, "models/camera_plain", "models/camera_distilled")
DEFAULT_RATES = (0.25, 0.1)  # 20 Hz sweeps come at 5 Hz, for two idle cores; at 2 Hz where those were too busy
HELP = """\
Replay driving scenes to the student node over DDS, record what it publishes and score it with the official metrics.
Without --dataroot the scenes are synthetic. Without --student, the plain and distilled students that ship are compared
afterwards. It ends with a page for the browser. Complete steps of an earlier run in OUT are used again."""
EXAMPLE = """\
examples:
  python -m vexkd_ros.demo
  python -m vexkd_ros.demo --dataroot data/nuscenes --version v1.0-mini --out out/demo-nuscenes"""


def demo(
    out: Path, dataset: Dataset | None, student: Path, rates: Sequence[float], compared: Sequence[Path] = ()
) -> None:
    """Run every step and write OUT/metrics.json, OUT/picture.png, OUT/page.html and the bag OUT/published.

    rates: speeds of the replay, tried in turn until the node keeps up; KeyframesMissing where it does at none.
    compared: packages that are evaluated on the same keyframes afterwards, for the page, OUT/comparison.json and .png.
    Where an earlier run made all of it from the same data, packages and program, its report is printed again.
    """
    card = read_card(student)[1]
    dataset = dataset or synthetic_scenes(out / "data")
    split = split_with_scenes(dataset)
    forget_other_data(out, dataset)
    made_from = identity(out, [student, *compared], rates)
    report = earlier_report(out, made_from)
    if report is not None:
        print(report)
        say(f"all of it is kept from an earlier run; to do it again, remove {out / REPORT}")
        return
    index = frame_index(dataset, split, out / "index")
    bags = scene_bags(dataset, split, out / "bags")
    for result in (REPORT, *PRODUCTS, "comparison.json", "comparison.png"):
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
    draw_fullest_keyframe(out / "picture.png", index, evaluation, card)
    print(f"\n{evaluation.tables()}\n", flush=True)
    comparison, students = compare(compared, index, out) if compared else ("", [])
    say("write the page")
    write_view(out / "page.html", [*bags, out / "published"], students=students)
    pointers = f"{comparison}{where_to_look(out, dataset, student, index)}"
    print(pointers)
    keep_report(out, made_from, f"\n{evaluation.tables()}\n\n{pointers}")


def where_to_look(out: Path, dataset: Dataset, student: Path, index: FrameIndex) -> str:
    """Name what the demo has made, and the command that makes the same figures without ROS."""
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
    return (
        f"picture: {out / 'picture.png'}\nmetrics: {out / 'metrics.json'}\n"
        f"recorded: {out / 'published'} (inputs: {out / 'bags'}, log of the node: {out / 'log'})\n"
        f"the same figures without ROS:\n"
        f"  {shlex.join(map(str, following))}\n"
        f"to look at, in a browser: {(out / 'page.html').resolve().as_uri()}"
    )


def open_page(page: Path) -> None:
    """Open the page where somebody sits at a desktop: a terminal, and a display to draw on."""
    if sys.stdout.isatty() and (sys.platform == "darwin" or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()):
        webbrowser.open(page.resolve().as_uri())


def sole_user(folder: Path) -> AbstractContextManager[None]:
    """Hold `folder` for this process; UserError where another demo is at work in it."""
    return locked(folder / ".lock", f"{folder}: another demo is running in it; wait for it or choose another --out")


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
        open_page(arguments.out / "page.html")

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
