"""Parts of ROS that this Python would find, told from files and variables: nothing of ROS is imported."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

# Beside rclpy, what the node cannot do without; the names of their Debian packages have dashes.
PACKAGES = ("sensor_msgs", "vision_msgs", "tf2_msgs", "nav_msgs", "visualization_msgs", "diagnostic_msgs")
MIDDLEWARES = "share/ament_index/resource_index/rmw_typesupport"
NO_MIDDLEWARE = "rmw_implementation"  # chooses one of the others
EXTENSION = "_rclpy_pybind11"


@dataclass(frozen=True)
class Ros:
    """distro: of the installation that is sourced. rclpy: its folder. extension_fits: rclpy's is of this Python's kind.

    middlewares: those installed. asked: RMW_IMPLEMENTATION. lacking: ROS packages that the node needs. compiled_bridge:
    cv_bridge is there with its compiled part.
    """

    distro: str | None = None
    rclpy: str | None = None
    extension_fits: bool = True
    middlewares: tuple[str, ...] = ()
    asked: str | None = None
    lacking: tuple[str, ...] = ()
    compiled_bridge: bool = False


def read_ros(variables: Mapping[str, str] = os.environ) -> Ros:
    """Look for ROS where this process would."""
    rclpy, bridge = _folder("rclpy"), _folder("cv_bridge")
    prefixes = [*filter(None, variables.get("AMENT_PREFIX_PATH", "").split(os.pathsep)), sys.prefix]
    middlewares = {path.name for prefix in prefixes for path in Path(prefix, MIDDLEWARES).glob("*")} - {NO_MIDDLEWARE}
    return Ros(
        distro=variables.get("ROS_DISTRO"),
        rclpy=rclpy and str(rclpy),
        extension_fits=rclpy is None
        or any((rclpy / f"{EXTENSION}{suffix}").is_file() for suffix in EXTENSION_SUFFIXES),
        middlewares=tuple(sorted(middlewares)),
        asked=variables.get("RMW_IMPLEMENTATION"),
        lacking=tuple(name for name in PACKAGES if rclpy and find_spec(name) is None),
        compiled_bridge=bridge is not None and any(bridge.rglob("*.so")),
    )


def _is_for_this_python(rclpy: Path) -> bool:
    return any((rclpy / f"{EXTENSION}{suffix}").is_file() for suffix in EXTENSION_SUFFIXES)


def _folder(module: str) -> Path | None:
    """Folder of a package, which is not imported for it."""
    spec = find_spec(module)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None
