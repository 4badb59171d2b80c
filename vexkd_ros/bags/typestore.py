"""Format and message types of our bags for `rosbags`: those of ROS 2 and vision_msgs. Needs no ROS."""

from functools import cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vexkd_model.errors import UserError
from vexkd_ros.share import REPOSITORY, installed_shares

BAG_FORMAT = 8  # read by rosbag2 of Humble and of everything later; Humble cannot read 9


@cache
def bag_typestore() -> Typestore:
    """Types of ROS 2 Kilted, whose definitions of what we use equal those since Humble, with vision_msgs."""
    store = get_typestore(Stores.ROS2_KILTED)
    definitions = {}
    for path in sorted(_vision_msgs_folder().glob("*.msg")):
        definitions |= get_types_from_msg(path.read_text(), f"vision_msgs/msg/{path.stem}")
    store.register(definitions)
    return store


def _vision_msgs_folder() -> Path:
    for share in (*installed_shares("vision_msgs"), REPOSITORY / "interfaces" / "vision_msgs"):
        folder = share / "msg"
        if (folder / "Detection3DArray.msg").is_file():
            return folder
    raise UserError("vision_msgs/msg/Detection3DArray.msg: not found on AMENT_PREFIX_PATH; "
                    "install vision_msgs or source its workspace")
