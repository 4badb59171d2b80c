"""Format and message types of our bags for `rosbags`: those of ROS 2 and vision_msgs. Needs no ROS."""

from functools import cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vexkd_model.errors import UserError
from vexkd_ros.share import REPOSITORY, installed_shares

# distribution: its message types, and the newest format of metadata.yaml that its rosbag2 reads. Humble refuses 9,
# whose quality of service is written in words; what Humble reads, all later ones read, too.
DISTRIBUTIONS = {"humble": (Stores.ROS2_HUMBLE, 8), "jazzy": (Stores.ROS2_JAZZY, 9), "kilted": (Stores.ROS2_KILTED, 9)}
OLDEST = "humble"
BAG_FORMAT = DISTRIBUTIONS[OLDEST][1]


@cache
def bag_typestore(distro: str = "kilted") -> Typestore:
    """Types of a distribution, with vision_msgs. What we use has the same fields in all of them; comments and constants
    in the definitions, which bags carry with them, differ a little."""
    store = get_typestore(DISTRIBUTIONS[distro][0])
    definitions = {}
    for path in sorted(_vision_msgs_folder().glob("*.msg")):
        definitions |= get_types_from_msg(path.read_text(), f"vision_msgs/msg/{path.stem}")
    store.register(definitions)
    return store


@cache
def message_type(name: str) -> type:
    """The class of a message, "std_msgs/msg/Header", whose fields are its arguments in their order."""
    return bag_typestore().types[name]


def _vision_msgs_folder() -> Path:
    for share in (*installed_shares("vision_msgs"), REPOSITORY / "interfaces" / "vision_msgs"):
        folder = share / "msg"
        if (folder / "Detection3DArray.msg").is_file():
            return folder
    raise UserError("vision_msgs/msg/Detection3DArray.msg: not found on AMENT_PREFIX_PATH; "
                    "install vision_msgs or source its workspace")
