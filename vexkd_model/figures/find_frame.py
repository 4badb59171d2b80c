"""Which frame of a prepared dataset to draw."""

from collections.abc import Sequence
from pathlib import Path

from vexkd_model.data.index import MANIFEST, FrameIndex
from vexkd_model.errors import UserError


def prepared_splits(index_dir: Path) -> list[str]:
    """Names of the splits whose indices lie in the folder; UserError if there is none."""
    splits = sorted(path.parent.name for path in Path(index_dir).glob(f"*/{MANIFEST}"))
    if not splits:
        raise UserError(f"{index_dir}: no split of the dataset is prepared; run `vexkd prepare` first")
    return splits


def frame_at(index: FrameIndex, i: int) -> tuple[FrameIndex, int]:
    """Frame i of the split, or a UserError that says which there are."""
    if not 0 <= i < len(index):
        raise UserError(f"--frame {i}: split {index.split} has frames 0 … {len(index) - 1}")
    return index, i


def frame_with(indices: Sequence[FrameIndex], column: str, value: str) -> tuple[FrameIndex, int]:
    """The first frame whose token or scene (`column`) is `value`, with its split; UserError if there is none."""
    for index in indices:
        values = index.column(column)
        if value in values:
            return index, values.index(value)
    raise UserError(f"--{column} {value}: in none of the prepared splits {', '.join(index.split for index in indices)}")


def frame_name(index: FrameIndex, i: int) -> str:
    """Where frame i comes from, as a picture's title."""
    record = index[i]
    return f"{index.version}, {index.split}, frame {i} of {len(index)}: {record.scene}, {record.location}"
