"""The student node, and RViz where wanted.

    ros2 launch vexkd_ros student.launch.py points:=/lidar/points rviz:=true
    ros2 launch vexkd_ros student.launch.py model:=/path/to/student params_file:=my.yaml device:=cuda

A launch argument that is given beats the parameter file; one that is not leaves the file's value alone.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

SHARE = Path(get_package_share_directory("vexkd_ros"))


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([
        DeclareLaunchArgument("model", default_value="", description="student package; empty: as the parameter file "
                              "says, and where that says nothing the student that comes with this package"),
        DeclareLaunchArgument("points", default_value="/lidar/points", description="topic of the point cloud"),
        DeclareLaunchArgument("params_file", default_value=str(SHARE / "config" / "node" / "student_node.yaml")),
        DeclareLaunchArgument("device", default_value="", description="cpu, cuda or cuda:N"),
        DeclareLaunchArgument("use_sim_time", default_value="false", choices=["true", "false"]),
        DeclareLaunchArgument("rviz", default_value="false", choices=["true", "false"]),
        OpaqueFunction(function=_student),
        Node(package="rviz2", executable="rviz2", name="rviz2", arguments=["-d", str(SHARE / "config/rviz/vexkd.rviz")],
             parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time")}],
             remappings=[("/lidar/points", LaunchConfiguration("points"))],
             condition=IfCondition(LaunchConfiguration("rviz"))),
    ])


def _student(context: LaunchContext) -> list[Node]:
    """The node with just those parameters overridden that were given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("model", "device")}
    given = {name: value for name, value in given.items() if value}
    shipped = {"model": str(SHARE / "models" / "lidar_pillar_small")}
    return [Node(
        package="vexkd_ros", executable="student_node", name="student_node", output="screen",
        parameters=[shipped, LaunchConfiguration("params_file").perform(context), given,
                    {"use_sim_time": LaunchConfiguration("use_sim_time").perform(context) == "true"}],
        remappings=[("points", LaunchConfiguration("points"))])]
