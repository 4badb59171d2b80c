"""Splits of a dataset: those of its own `splits.json`, or nuScenes' official ones.

`splits.json` lies beside the tables and holds the names of each split's scenes: {"train": [NAME, …], "val": [NAME, …]}.
The first split is the one to train on, the last the one to evaluate on.
"""

import json
from pathlib import Path

from vexkd_model.errors import UserError

SPLITS, NAMES = "splits.json", "names.json"  # files beside the tables
LIDAR = "LIDAR_TOP"  # nuScenes' name of the sensor whose stamps and poses are the frames'
EXAMPLE = '{"train": ["NAME", …], "val": ["NAME", …]}'
SPLITS_OF_VERSION = {"v1.0-mini": ("mini_train", "mini_val"), "v1.0-trainval": ("train", "val"), "v1.0-test": ("test",)}


def split_names(dataroot: Path, version: str) -> tuple[str, ...]:
    """Names of a dataset's splits; UserError for tables that are not nuScenes' own and lack `splits.json`."""
    if own := own_splits(dataroot, version):
        return tuple(own)
    if version in SPLITS_OF_VERSION:
        return SPLITS_OF_VERSION[version]
    folder = Path(dataroot) / version
    if not folder.is_dir():
        raise no_tables(folder)
    raise UserError(
        f"{folder / SPLITS}: no such file, and --version {version} is none of "
        f"{', '.join(SPLITS_OF_VERSION)}; write the names of its scenes there, {EXAMPLE}"
    )


def own_splits(dataroot: Path, version: str) -> dict[str, list[str]]:
    """Scene names of each split of `splits.json`; none without that file."""
    path = Path(dataroot) / version / SPLITS
    try:
        splits = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    fits = (
        isinstance(splits, dict)
        and splits
        and all(
            isinstance(scenes, list) and all(isinstance(scene, str) for scene in scenes) for scenes in splits.values()
        )
    )
    if not fits:
        raise UserError(f"{path}: must hold the names of each split's scenes, {EXAMPLE}")
    return splits


def no_tables(folder: Path) -> UserError:
    """Make the error for a missing folder of tables; it names those that there are."""
    others = sorted(path.parent.name for path in folder.parent.glob("*/sample.json"))
    cure = f"choose one of {', '.join(others)}" if others else "DATAROOT must hold the folder of the tables"
    return UserError(f"{folder}: no such folder; --version is its name, {cure}")
