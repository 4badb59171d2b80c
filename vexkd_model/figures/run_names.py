"""What runs are called in a legend."""

import os
from collections.abc import Sequence
from pathlib import Path


def short_names(runs: Sequence[Path]) -> list[str]:
    """Their paths without the folder that all of them lie in."""
    places = [run.resolve() for run in runs]
    common = os.path.commonpath([place.parent for place in places])
    return [str(place.relative_to(common)) for place in places]
