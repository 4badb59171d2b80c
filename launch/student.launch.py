"""A student on live topics, and RViz where wanted.

    ros2 launch vexkd_ros student.launch.py points:=/your/lidar/points rviz:=true
    ros2 launch vexkd_ros student.launch.py modality:=camera model:=/path/to/student image:=/sensing/{camera}/image_raw
    ros2 launch vexkd_ros student.launch.py --show-args

A launch argument that is given beats the parameter file; one that is not leaves the file's value alone.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vexkd_model.types import MAP_CLASSES
from vexkd_ros.launching import cameras, input_remappings, is_true, sim_time, tf_remappings, value

SHARE = Path(get_package_share_directory("vexkd_ros"))
RESPAWN_S = 2.0
SHIPPED = {modality: SHARE / "models" / f"{modality}_distilled" for modality in ("lidar", "camera")}
SHOWN = (
    "comparison_node/markers",
    "student_node/markers",
    "student_node/map_image",
    *(f"student_node/map/{name}" for name in MAP_CLASSES),
)  # in RViz

ARGUMENTS = [
    DeclareLaunchArgument(
        "modality", default_value="lidar", choices=["lidar", "camera"], description="what the student reads"
    ),
    DeclareLaunchArgument(
        "model",
        default_value="",
        description="folder of the student package; empty: as the "
        "parameter file says, and where that says nothing the student that comes with this package",
    ),
    DeclareLaunchArgument("points", default_value="/lidar/points", description="topic of the point cloud"),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="names of the cameras in the student's order, "
        "separated by commas, nothing between two of them for one that the vehicle lacks; empty: the "
        "parameter file's, which should then be nuScenes' six, cam_front_left,cam_front,…",
    ),
    DeclareLaunchArgument(
        "image",
        default_value="/{camera}/image",
        description="topic of a camera's raw images, "
        "{camera} stands for its name; compressed ones come below it, …/compressed",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        choices=["", "raw", "compressed"],
        description="which of the two the student reads; empty: as the parameter file says",
    ),
    DeclareLaunchArgument(
        "camera_info",
        default_value="/{camera}/camera_info",
        description="topic of a camera's CameraInfo, {camera} stands for its name",
    ),
    DeclareLaunchArgument(
        "reference",
        default_value="",
        description="topic of std_msgs/Header with the stamps for "
        "which a camera student predicts: a trigger, or /keyframe of our bags; empty: whenever the "
        "cameras have images",
    ),
    DeclareLaunchArgument(
        "tf",
        default_value="/tf",
        description="topic of the transforms, of one robot of several: /robot1/tf; static ones are on {tf}_static",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "config" / "node" / "student_node.yaml"),
        description="parameters of the node",
    ),
    DeclareLaunchArgument(
        "device", default_value="", description="auto, cpu, cuda or cuda:N; empty: as the parameter file says"
    ),
    DeclareLaunchArgument(
        "score_threshold",
        default_value="",
        description="least score of a detection, 0.0 for all; -1.0: as the student's card says of each class; "
        "empty: as the parameter file says",
    ),
    DeclareLaunchArgument(
        "input_reliability",
        default_value="",
        choices=["", "best_effort", "reliable"],
        description="quality of service asked of the inputs; empty: as the parameter file says",
    ),
    DeclareLaunchArgument(
        "namespace",
        default_value="",
        description="of the node and so of its outputs: two students side by side take two",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="false",
        choices=["true", "false"],
        description="take the time from /clock, as in a replay or a simulation",
    ),
    DeclareLaunchArgument(
        "respawn",
        default_value="true",
        choices=["true", "false"],
        description="start the node again, two seconds after it ended by itself",
    ),
    DeclareLaunchArgument("rviz", default_value="false", choices=["true", "false"], description="show it in RViz"),
]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *ARGUMENTS,
            OpaqueFunction(function=_student),
            OpaqueFunction(function=_rviz, condition=IfCondition(LaunchConfiguration("rviz"))),
        ]
    )


def _student(context: LaunchContext) -> list[Node]:
    """The node with just those parameters overridden that were given."""
    given: dict[str, object] = {
        name: value(context, name)
        for name in ("model", "device", "image_transport", "input_reliability")
        if value(context, name)
    }
    if value(context, "score_threshold"):
        given["score_threshold"] = float(value(context, "score_threshold"))
    if value(context, "cameras"):
        given["cameras"] = cameras(context)
    modality = value(context, "modality")
    if modality == "camera" and value(context, "reference"):
        given["use_reference"] = True
    # Of two values rcl takes that of the node name which it met last: for every node, as the file says, this node.
    shipped = ["-p", f"model:={SHIPPED[modality]}"]
    return [
        Node(
            package="vexkd_ros",
            executable="student_node",
            name="student_node",
            output="screen",
            namespace=value(context, "namespace"),
            remappings=input_remappings(context),
            ros_arguments=shipped,
            respawn=is_true(context, "respawn"),
            respawn_delay=RESPAWN_S,
            parameters=[value(context, "params_file"), given | sim_time(context)],
        )
    ]


def _rviz(context: LaunchContext) -> list[Node]:
    """RViz with our configuration, whose topics are those of a student without a namespace."""
    namespace = value(context, "namespace").strip("/")
    moved = [(f"/{topic}", f"/{namespace}/{topic}") for topic in SHOWN] if namespace else []
    moved += tf_remappings(context)
    return [
        Node(
            package="rviz2",
            executable="rviz2",
            name="rviz2",
            arguments=["-d", str(SHARE / "config/rviz/vexkd.rviz")],
            parameters=[sim_time(context)],
            remappings=[("/lidar/points", value(context, "points")), *moved],
        )
    ]
