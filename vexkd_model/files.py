"""Files that are there whole or not at all, whenever the process is killed."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; what lies there becomes `path` in one step when the block ends well.

    The folder is made where absent. A reader sees the old file or the whole new one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, document: object, indent: int | None = 1) -> None:
    """Write `document` as JSON, in one line without `indent`.

    Not-a-number is refused (ValueError), because JSON has no word for it.
    """
    separators = (",", ": ") if indent else (",", ":")
    with whole_file(path) as partial:
        partial.write_text(json.dumps(document, indent=indent, separators=separators, allow_nan=False) + "\n")
