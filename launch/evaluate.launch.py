"""Bags through a student, recorded and scored with the official metrics: one command from a bag to figures.

    ros2 launch vexkd_ros evaluate.launch.py bags:="bags/scene-0103 bags/scene-0916" out:=published \\
        dataroot:=/data/nuscenes version:=v1.0-mini split:=mini_val
    ros2 launch vexkd_ros evaluate.launch.py --show-args

The player waits for the student and the recorder; the recorder ends with the last bag, then the figures are printed.
Where a step fails, the launch ends with an error.
"""

import shlex
import signal
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import Action, LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown, matches_action
from launch.events.process import ProcessExited, SignalProcess
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

from vexkd_model.types import MAP_CLASSES
from vexkd_ros.launching import first_input, value

SHARE = Path(get_package_share_directory("vexkd_ros"))
LAST_FRAME_S = 5.0  # for the student to finish what came last, and for the recorder to write it
RECORDED = ("detections", "markers", "debug/latency", *(f"map/{name}" for name in MAP_CLASSES))

ARGUMENTS = [
    DeclareLaunchArgument(
        "bags", description="bag folders, separated by spaces, as nuscenes_to_bag writes them: all scenes of the split"
    ),
    DeclareLaunchArgument("dataroot", description="the nuScenes folder that the bags were made of, prepared"),
    DeclareLaunchArgument("version", description="v1.0-mini, v1.0-trainval, …"),
    DeclareLaunchArgument("split", default_value="", description="official split; empty: mini_val or val"),
    DeclareLaunchArgument(
        "index", default_value="", description="folder of the frame index; empty: DATAROOT/vexkd/VERSION"
    ),
    DeclareLaunchArgument(
        "out", default_value="published", description="bag folder for what the student publishes; must not exist"
    ),
    DeclareLaunchArgument("json", default_value="", description="file to write the figures to, too"),
    DeclareLaunchArgument(
        "rate",
        default_value="0.25",
        description="speed of the bags: 1.0 where the student keeps up with the sensor, slower on a CPU",
    ),
    # The defaults of student.launch.py are those of a vehicle.
    DeclareLaunchArgument(
        "reference",
        default_value="/keyframe",
        description="topic of std_msgs/Header with the "
        "stamps for which a camera student predicts: those that are scored",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="compressed",
        choices=["", "raw", "compressed"],
        description="which images the student reads; bags of ours hold compressed ones",
    ),
    DeclareLaunchArgument(
        "score_threshold", default_value="0.0", description="least score of a detection; the metrics want all of them"
    ),
    DeclareLaunchArgument(
        "respawn",
        default_value="false",
        choices=["true", "false"],
        description="start the student again where it ended by itself; false: the launch ends",
    ),
    DeclareLaunchArgument(
        "input_reliability",
        default_value="reliable",
        choices=["", "best_effort", "reliable"],
        description="quality of service asked of the inputs; reliable: no frame of a bag gets lost",
    ),
]


def generate_launch_description() -> LaunchDescription:
    student = PythonLaunchDescriptionSource(str(SHARE / "launch" / "student.launch.py"))
    return LaunchDescription(
        [
            *ARGUMENTS,
            IncludeLaunchDescription(student),
            OpaqueFunction(function=_chain),
            RegisterEventHandler(OnProcessExit(on_exit=_end_on_failure)),
        ]
    )


def _chain(context: LaunchContext) -> list:
    """Recorder and player; when the player ends the recorder is stopped, when that ends the evaluator starts."""
    node = "/".join(("", *filter(None, (value(context, "namespace").strip("/"), "student_node"))))
    topics = [f"{node}/{name}" for name in RECORDED]
    recorder = _command("bag_recorder", *topics, "/diagnostics", "--out", value(context, "out"))
    player = _command(
        "bag_player",
        *shlex.split(value(context, "bags")),
        "--rate",
        value(context, "rate"),
        "--wait-for-subscribers",
        first_input(context),
        *topics,
    )
    options = [
        word
        for name in ("split", "index", "json")
        if value(context, name)
        for word in (f"--{name}", value(context, name))
    ]
    evaluator = _command(
        "bag_evaluator",
        value(context, "out"),
        "--dataroot",
        value(context, "dataroot"),
        "--version",
        value(context, "version"),
        "--node",
        node,
        *options,
    )
    stop_recorder = TimerAction(
        period=LAST_FRAME_S,
        actions=[EmitEvent(event=SignalProcess(signal_number=signal.SIGINT, process_matcher=matches_action(recorder)))],
    )
    return [
        recorder,
        player,
        _after(player, stop_recorder),
        _after(recorder, evaluator),
        _after(evaluator, EmitEvent(event=Shutdown(reason="scored"))),
    ]


def _command(name: str, *arguments: str) -> Node:
    return Node(package="vexkd_ros", executable=name, name=name, output="screen", arguments=list(arguments))


def _after(process: Node, following: Action) -> RegisterEventHandler:
    """`following` when the process has ended well."""

    def go_on(event: ProcessExited, context: LaunchContext) -> Action | None:
        return None if event.returncode or context.is_shutdown else following

    return RegisterEventHandler(OnProcessExit(target_action=process, on_exit=go_on))


def _end_on_failure(event: ProcessExited, context: LaunchContext) -> None:
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}; see its message above")
