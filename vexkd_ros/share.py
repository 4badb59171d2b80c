"""Where the package's config/, launch/ and models/ lie."""

import os
import sys
from pathlib import Path

from vexkd_model.errors import UserError


def share_path(relative: str) -> Path:
    """`relative` in the source tree or in an installation's share/vexkd_ros; UserError where it is in neither."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    shares = [Path(prefix) / "share" / "vexkd_ros" for prefix in prefixes if prefix]
    for root in (Path(__file__).parents[1], *shares):
        if (root / relative).exists():
            return root / relative
    raise UserError(f"{relative}: neither in the source tree nor in share/vexkd_ros; install the package again")
