"""Files of packages, in the source tree, or installed below a prefix."""

import os
import sys
from pathlib import Path

from vexkd_model.errors import UserError

REPOSITORY = Path(__file__).parents[1]


def installed_shares(package: str) -> list[Path]:
    """List where the share folder of a ROS package would be, nearest overlay first."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    return [Path(prefix) / "share" / package for prefix in prefixes if prefix]


def share_path(relative: str) -> Path:
    """Find `relative` in the source tree or in share/vexkd_ros; UserError where it is in neither."""
    for root in (REPOSITORY, *installed_shares("vexkd_ros")):
        if (root / relative).exists():
            return root / relative
    raise UserError(f"{relative}: neither in the source tree nor in share/vexkd_ros; install the package again")
