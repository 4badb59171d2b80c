"""Command bag_view: shows bags in any browser as one HTML file, or in the Rerun viewer, without ROS, network or GPU."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from vexkd_model.command import make_parser, positive_int, run_command
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file
from vexkd_ros.bags.reading import bag_paths
from vexkd_ros.bags.view.document import make_document
from vexkd_ros.bags.view.recording import POINTS, TF, Recording, read_recording
from vexkd_ros.bags.view.students import ViewedStudent, recorded_student, replayed_student

HELP = """\
Bags in a browser: one HTML file that needs neither ROS nor a network. It shows what student nodes published, and,
with --student, what a package finds on the bags' inputs, run here. Two students stand side by side. With an --out that
ends in .rrd, the same in 3D for the Rerun viewer."""
EXAMPLE = """examples:
  vexkd-bag-view bags/scene-0103 --student models/lidar_distilled --out view.html
  vexkd-bag-view bags/scene-0103 --student models/lidar_plain --student models/lidar_distilled --out both.html
  vexkd-bag-view bags/scene-0103 out/demo/published --out view.html
  vexkd-bag-view bags/scene-0103 --student models/lidar_distilled --out view.rrd && rerun view.rrd"""
PAGE = ("view.html", "drawing.js", "page.js")
MOMENTS = 100  # of about 0.3 MB each


def write_view(
    path: Path,
    bags: Sequence[Path],
    nodes: Sequence[str] | None = None,
    points: str | None = None,
    most: int = MOMENTS,
    tf: str = TF,
    packages: Sequence[Path] = (),
    students: Sequence[ViewedStudent] = (),
) -> int:
    """Write an HTML file, or one for Rerun, as the suffix of `path` says; return how many moments it shows.

    UserError where the bags hold nothing to see, or Rerun is not installed.

    bags: what students published and the bags that they were given, in any order. nodes: of students; None for all that
    published. points: topic of the clouds; None for /lidar/points, or the only one. most: moments, evenly chosen.
    tf: topic of the transforms; static ones are on tf + "_static". packages: run here on the bags' inputs. students:
    shown, too, with predictions by the stamps of the moments.
    """
    write = _writer(path)
    bags = bag_paths(bags)
    recording = read_recording(bags, nodes, points, most, tf)
    shown = [
        *(recorded_student(recording, node) for node in recording.nodes),
        *(replayed_student(recording, package, tf) for package in packages),
        *students,
    ]
    with atomic_file(path) as partial:
        notes = write(partial, ", ".join(Path(bag).name for bag in bags), recording, shown)
    for note in notes:
        print(note, file=sys.stderr)
    return len(recording.moments)


def _writer(path: Path) -> Callable[[Path, str, Recording, Sequence[ViewedStudent]], list[str]]:
    """Choose what writes `path`. UserError names a suffix of neither, or what is not installed."""
    suffix = Path(path).suffix.lower()
    if suffix == ".html":
        return write_page
    if suffix != ".rrd":
        raise UserError(f"--out {path}: choose view.html, for a browser, or view.rrd, for Rerun")
    try:
        from rerun import GridMap  # noqa: F401  # pyright: ignore[reportMissingImports]  # older versions have none
    except ImportError as error:
        # Its metadata ask for NumPy 2, which nuscenes-devkit refuses; NumPy 1.26 is enough for what is used here.
        cure = "pip install --no-deps 'rerun-sdk>=0.41' psutil"
        raise UserError(f"--out {path}: the Rerun SDK is missing ({error}); {cure}") from None
    from vexkd_ros.bags.view.rerun_file import write_rerun

    return write_rerun


def write_page(path: Path, title: str, recording: Recording, students: Sequence[ViewedStudent]) -> list[str]:
    """Write the page; return what was left out, a line each."""
    document = make_document(title, recording, students)
    # A "</script>" in a name would end the data.
    text = json.dumps(document, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    page, *scripts = (files("vexkd_ros.bags.view").joinpath(name).read_text(encoding="utf-8") for name in PAGE)
    path.write_text(page.replace("@SCRIPT@", "\n".join(scripts)).replace("@DATA@", text), encoding="utf-8")
    return document["notes"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("vexkd-bag-view", HELP, EXAMPLE)
    parser.add_argument(
        "bags", type=Path, nargs="+", metavar="BAG", help="bag folders: sensors' messages, and what students published"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="view.html for a browser, or view.rrd for the Rerun viewer",
    )
    parser.add_argument(
        "--student",
        type=Path,
        action="append",
        default=[],
        metavar="PACKAGE",
        help="run this student on the bags' inputs; may be given twice or more",
    )
    parser.add_argument(
        "--node", action="append", metavar="NAME", help="student node whose outputs are shown (default: all there are)"
    )
    parser.add_argument(
        "--points", metavar="TOPIC", help=f"of the point clouds (default: {POINTS}, or the only one there is)"
    )
    parser.add_argument(
        "--tf",
        default=TF,
        metavar="TOPIC",
        help=f"of the transforms, beside TOPIC_static; /robot1/tf where a bag holds several robots (default: {TF})",
    )
    parser.add_argument(
        "--moments",
        type=positive_int,
        default=MOMENTS,
        metavar="N",
        help=f"show at most so many, evenly chosen (default: {MOMENTS})",
    )

    def command(arguments: argparse.Namespace) -> None:
        count = write_view(
            arguments.out,
            arguments.bags,
            arguments.node,
            arguments.points,
            arguments.moments,
            arguments.tf,
            arguments.student,
        )
        size = arguments.out.stat().st_size / 1e6
        opened = "a browser" if arguments.out.suffix.lower() == ".html" else f"`rerun {arguments.out}`"
        print(f"{arguments.out}: {count} moments, {size:.1f} MB; open it with {opened}")

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
