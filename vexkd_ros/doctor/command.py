"""`doctor`: its command line."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vexkd_model.command import make_parser, positive_number, run_command
from vexkd_model.errors import UserError
from vexkd_model.files import write_json
from vexkd_model.findings import any_failed, summary
from vexkd_model.types import CAMERAS
from vexkd_ros.doctor.observation import Observation

if TYPE_CHECKING:
    from vexkd_ros.doctor.examine import Student, Wiring

HELP = """\
Say what would keep a student from seeing, before it runs, on live topics or in a bag (--bag needs no ROS).

Topics, types and quality of service; rates and gaps; stamps; fields of clouds; images and their CameraInfo; frames,
transforms and odometry at the stamps that need them; and, with --student, whether the sensors are like those of its
training. One line a check: ok, warn (it runs, worse than it could) or fail; exit code 1 where anything failed."""
EXAMPLE = """\
examples:
  vexkd-doctor --student models/lidar_distilled --points /velodyne_points
  vexkd-doctor --bag bags/scene-0103 --student models/lidar_distilled
  vexkd-doctor --student students/cameras --camera CAM_FRONT=/front --camera CAM_BACK=/rear
  vexkd-doctor --bag bags/scene-0103 --sensors-out sensors.yaml"""
SECONDS = 10.0  # as long as transforms are remembered


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("vexkd-doctor", HELP, EXAMPLE)
    parser.add_argument("--bag", type=Path, help="look into this bag, folder or file, instead of at live topics")
    parser.add_argument("--student", type=Path, metavar="PACKAGE", help="the student that is to run on these topics")
    parser.add_argument("--points", metavar="TOPIC", help="the LiDAR's (default: /points, or the only one there is)")
    parser.add_argument(
        "--camera",
        type=_camera,
        action="append",
        default=[],
        metavar="NAME=PREFIX",
        help="where a camera's topics are, of PREFIX/camera_info and PREFIX/image… (default: CAM_FRONT "
        "is at /cam_front)",
    )
    parser.add_argument("--base-frame", default="base_link", help="the vehicle's frame (default: base_link)")
    parser.add_argument("--odom-frame", default="odom", help="the odometry's frame (default: odom)")
    parser.add_argument(
        "--tf",
        default="/tf",
        metavar="TOPIC",
        help="transforms, of one robot of several: /robot1/tf; static ones are on TOPIC_static",
    )
    parser.add_argument(
        "--input-reliability",
        choices=("best_effort", "reliable"),
        default="best_effort",
        help="what the node will ask for (default: best_effort, as the node's)",
    )
    parser.add_argument(
        "--seconds",
        type=positive_number,
        default=SECONDS,
        help=f"how long to listen, or of the bag to read (default: {SECONDS:.0f})",
    )
    parser.add_argument(
        "--sensors-out",
        type=Path,
        metavar="FILE",
        help="measure the sensors (beams, mounting, rate, intensity, cameras) and write their description, "
        "sensors.yaml, which vexkd synth --like imitates",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the findings here")

    def command(arguments: argparse.Namespace) -> int:
        # Imported here: --help must answer at once, and a bag needs no ROS.
        from vexkd_model.process import set_up_process
        from vexkd_ros.doctor.examine import Wiring, examine

        set_up_process()
        student = _load(arguments.student) if arguments.student else None
        wiring = Wiring(
            arguments.points,
            dict(arguments.camera),
            arguments.base_frame,
            arguments.odom_frame,
            arguments.input_reliability == "reliable",
            arguments.tf,
        )
        if arguments.bag:
            from vexkd_ros.doctor.from_bag import observe_bag

            seen = observe_bag(arguments.bag, arguments.seconds, arguments.tf)
        else:
            seen = _listen(arguments.seconds, arguments.tf, sys.argv[1:] if argv is None else argv)
        findings = examine(seen, wiring, student)
        print("\n".join(map(str, findings)))
        print(summary(findings), file=sys.stderr)
        if arguments.json:
            write_json(arguments.json, {"source": seen.source, "findings": [asdict(found) for found in findings]})
        if arguments.sensors_out:
            _write_sensors(seen, wiring, arguments.sensors_out)
        return int(any_failed(findings))

    return run_command(parser, command, argv)


def _write_sensors(seen: Observation, wiring: "Wiring", path: Path) -> None:
    from vexkd_model.config.sensors import dump_sensors
    from vexkd_model.files import atomic_file
    from vexkd_ros.doctor.measure_sensors import measure_sensors

    sensors, remarks = measure_sensors(seen, wiring)
    with atomic_file(path) as partial:
        partial.write_text(dump_sensors(sensors))
    print("\n".join(remarks))
    print(f"{path}: written; next: vexkd synth DATA --like {shlex.quote(str(path))}")


def _listen(seconds: float, tf: str, arguments: Sequence[str]) -> Observation:
    try:
        from vexkd_ros.doctor.live import observe_live
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name}: not installed; source a ROS 2 installation, or look into a --bag") from None
    try:
        return observe_live(seconds, tf, ["doctor", *arguments])
    except RuntimeError as error:  # of rclpy: wrong --ros-args, no middleware
        raise UserError(f"ROS: {' '.join(str(error).split())}") from None


def _load(package: Path) -> "Student":
    """Load a student's configuration and card, not its weights; UserError where the package is damaged."""
    from vexkd_model.deploy.card import read_card
    from vexkd_ros.doctor.examine import Student

    return Student(package, *read_card(package))


def _camera(text: str) -> tuple[str, str]:
    name, separator, prefix = text.partition("=")
    if name not in CAMERAS or not separator:
        raise argparse.ArgumentTypeError(f"{text}: write NAME=PREFIX, with NAME one of {', '.join(CAMERAS)}")
    return name, "/" + prefix.strip("/")


if __name__ == "__main__":
    sys.exit(main())
