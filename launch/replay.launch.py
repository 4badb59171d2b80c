"""Bags through a student, beside what is true, in RViz.

    ros2 launch vexkd_ros replay.launch.py bags:=bags/scene-0103
    ros2 launch vexkd_ros replay.launch.py bags:="bags/scene-0103 bags/scene-0916" rate:=0.25 start_offset:=5.0
    ros2 launch vexkd_ros replay.launch.py --show-args

Time is the bags' own (/clock). Latched messages, /tf_static among them, come from the start offset on, too, which
`ros2 bag play --start-offset` leaves out. Ends with the last bag, or with Ctrl-C.
"""

import shlex
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vexkd_ros.launching import first_input, is_true, sim_time, value

SHARE = Path(get_package_share_directory("vexkd_ros"))
# Stamps of a pair: the annotations bear the LiDAR's, a camera student the mean of its images' [s].
STAMP_TOLERANCE = {"lidar": 0.0, "camera": 0.1}

ARGUMENTS = [
    DeclareLaunchArgument("bags", description="bag folders, separated by spaces, as nuscenes_to_bag writes them"),
    DeclareLaunchArgument("rate", default_value="1.0", description="speed; 0.25 is four times slower"),
    DeclareLaunchArgument("start_offset", default_value="0.0", description="seconds of each bag to leave out"),
    DeclareLaunchArgument(
        "loop", default_value="false", choices=["true", "false"], description="start again after the last bag"
    ),
    DeclareLaunchArgument(
        "comparison",
        default_value="true",
        choices=["true", "false"],
        description="show hits, false alarms and misses where the bags hold the annotations",
    ),
    # The defaults of student.launch.py are those of a vehicle.
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="true",
        choices=["true", "false"],
        description="take the time from /clock, which the player publishes",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="compressed",
        choices=["", "raw", "compressed"],
        description="which images the student reads; bags of ours hold compressed ones",
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
    DeclareLaunchArgument("rviz", default_value="true", choices=["true", "false"], description="show it in RViz"),
]


def generate_launch_description() -> LaunchDescription:
    student = PythonLaunchDescriptionSource(str(SHARE / "launch" / "student.launch.py"))
    return LaunchDescription(
        [
            *ARGUMENTS,
            IncludeLaunchDescription(student),
            OpaqueFunction(function=_player),
            OpaqueFunction(function=_comparison, condition=IfCondition(LaunchConfiguration("comparison"))),
            RegisterEventHandler(OnProcessExit(on_exit=_end_on_failure)),
        ]
    )


def _player(context: LaunchContext) -> list[Node]:
    """Starts when the student listens."""
    return [
        Node(
            package="vexkd_ros",
            executable="bag_player",
            name="bag_player",
            output="screen",
            on_exit=[EmitEvent(event=Shutdown(reason="the bags are over"))],
            arguments=[
                *shlex.split(value(context, "bags")),
                "--rate",
                value(context, "rate"),
                "--clock",
                "--start-offset",
                value(context, "start_offset"),
                "--wait-for-subscribers",
                first_input(context),
                *(["--loop"] if is_true(context, "loop") else []),
            ],
        )
    ]


def _comparison(context: LaunchContext) -> list[Node]:
    return [
        Node(
            package="vexkd_ros",
            executable="comparison_node",
            name="comparison_node",
            output="screen",
            namespace=value(context, "namespace"),
            remappings=[("detections", "student_node/detections"), ("ground_truth", "/ground_truth")],
            parameters=[{"stamp_tolerance": STAMP_TOLERANCE[value(context, "modality")]}, sim_time(context)],
        )
    ]


def _end_on_failure(event: ProcessExited, context: LaunchContext) -> None:
    """Without its student or its player a replay shows nothing."""
    if event.returncode and not context.is_shutdown:
        raise RuntimeError(f"{event.process_name} ended with exit code {event.returncode}; see its message above")
