"""Tables of docs/gallery.md."""

import re
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).parents[2]
ROW = re.compile(r"^\| \[(\w+)\]\(\.\./config/model/(\w+)\.yaml\) \|[^|]+\| ([\d.]+ M) \| ([\d.]+) \|", re.MULTILINE)


class Cost(NamedTuple):
    """Parameters, "0.93 M", and GFLOPs, "9.8", of a configuration as they are printed."""

    parameters: str
    gflops: str


def documented_costs() -> dict[str, Cost]:
    """Read what the gallery says of each configuration."""
    rows = ROW.findall((REPOSITORY / "docs" / "gallery.md").read_text(encoding="utf-8"))
    assert all(name == file for name, file, *_ in rows) and len({name for name, *_ in rows}) == len(rows)
    return {name: Cost(*cost) for name, _, *cost in rows}
