"""Shipped configurations by name, for whoever has installed a wheel and no checkout."""

from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def find_config(path: str | Path) -> Path:
    """The file of a shipped configuration that `path` names (`lidar_pillar_small`); any other path as it is.

    A checkout comes before share/vexkd_ros of the prefix below which this package is installed: what was edited
    there is what shall be trained.
    """
    path = Path(path)
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    folders = (CHECKOUT, *(prefix / "share/vexkd_ros" for prefix in CHECKOUT.parents))
    files = (folder / "config/model" / f"{path.name}.yaml" for folder in folders)
    return next((file for file in files if file.is_file()), path)
