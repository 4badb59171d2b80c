"""Message types of our bags: those of ROS 2, vision_msgs and whatever is installed. Needs no ROS."""

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

from rosbags.interfaces import Nodetype
from rosbags.interfaces.typing import FieldDesc, Typesdict
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vexkd_model.errors import UserError
from vexkd_ros.share import REPOSITORY, installed_shares

# distribution: its message types, and the newest format of metadata.yaml that its rosbag2 reads. Humble refuses 9,
# whose quality of service is written in words; what Humble reads, all later ones read, too.
DISTRIBUTIONS: dict[str, tuple[Stores, Literal[8, 9]]] = {
    "humble": (Stores.ROS2_HUMBLE, 8),
    "jazzy": (Stores.ROS2_JAZZY, 9),
    "kilted": (Stores.ROS2_KILTED, 9),
}
OLDEST = "humble"
VISION_MSGS = "vision_msgs/msg/Detection3DArray"


@cache
def bag_typestore(distro: str = "kilted") -> Typestore:
    """Return the types of a distribution, with vision_msgs.

    What we use has the same fields in all of them; comments and constants in the definitions, which bags carry with
    them, differ a little.
    """
    store = get_typestore(DISTRIBUTIONS[distro][0])
    if not learn_type(VISION_MSGS, store):
        raise UserError(
            "vision_msgs/msg/Detection3DArray.msg: not found on AMENT_PREFIX_PATH; "
            "install vision_msgs or source its workspace"
        )
    return store


@cache
def message_type(name: str) -> Callable[..., Any]:
    """Return the class of a message, "std_msgs/msg/Header", whose fields are its arguments in their order."""
    return bag_typestore().types[name]


def learn_type(msgtype: str, store: Typestore) -> bool:
    """Tell whether the store knows a type, "package/msg/Name", if need be from definitions of installed packages."""
    found: Typesdict = {}
    missing = [msgtype]
    while missing:
        name = missing.pop()
        if name not in store.types and name not in found:
            path = _definition_path(name)
            if path is None:
                return False
            found |= get_types_from_msg(path.read_text(), name)
            missing += [used for _, description in found[name][1] for used in _messages_in(description)]
    if found:
        store.register(found)
    return True


def _definition_path(msgtype: str) -> Path | None:
    package, _, name = msgtype.split("/")
    shares = (*installed_shares(package), REPOSITORY / "interfaces" / package)
    return next((path for share in shares if (path := share / "msg" / f"{name}.msg").is_file()), None)


def _messages_in(description: FieldDesc) -> Iterator[str]:
    """Yield the message types that a field's description names."""
    kind, argument = description
    if kind == Nodetype.NAME:
        yield str(argument)
    elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        element: Any = argument[0]
        yield from _messages_in(element)
