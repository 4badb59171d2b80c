"""Arguments of our launch files, and the topics that a student reads."""

from launch import LaunchContext  # pyright: ignore[reportAttributeAccessIssue]  # comes with ROS alone
from launch.substitutions import LaunchConfiguration  # pyright: ignore[reportMissingImports]

from vexkd_model.types import CAMERAS


def value(context: LaunchContext, name: str) -> str:
    """Return a launch argument as it was given, or its default."""
    return LaunchConfiguration(name).perform(context)


def is_true(context: LaunchContext, name: str) -> bool:
    return value(context, name) == "true"


def cameras(context: LaunchContext) -> list[str]:
    """List the names of the cameras in the student's order, "" for one that the vehicle lacks.

    nuScenes' six where the argument `cameras` is empty.
    """
    given = value(context, "cameras")
    return [name.strip() for name in given.split(",")] if given else [name.lower() for name in CAMERAS]


def input_remappings(context: LaunchContext) -> list[tuple[str, str]]:
    """Map the node's own names of its inputs to the topics that the launch arguments give."""
    remappings = [("points", value(context, "points")), *tf_remappings(context)]
    if value(context, "reference"):
        remappings.append(("reference", value(context, "reference")))
    for camera in filter(None, cameras(context)):
        image = value(context, "image").replace("{camera}", camera)
        remappings += [
            (f"{camera}/image", image),
            (f"{camera}/image/compressed", f"{image}/compressed"),
            (f"{camera}/camera_info", camera_info_topic(context, camera)),
        ]
    return remappings


def tf_remappings(context: LaunchContext) -> list[tuple[str, str]]:
    """Map /tf and /tf_static to the topics that the launch argument `tf` gives."""
    tf = value(context, "tf")
    return [("/tf", tf), ("/tf_static", f"{tf}_static")]


def camera_info_topic(context: LaunchContext, camera: str) -> str:
    return value(context, "camera_info").replace("{camera}", camera)


def first_input(context: LaunchContext) -> str:
    """Return a topic that the student subscribes to as soon as it is ready."""
    if value(context, "modality") == "lidar":
        return value(context, "points")
    return camera_info_topic(context, next(filter(None, cameras(context))))


def sim_time(context: LaunchContext) -> dict[str, bool]:
    """Return the parameter use_sim_time."""
    return {"use_sim_time": is_true(context, "use_sim_time")}
