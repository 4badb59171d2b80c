"""The frame index: what training, evaluation and replay know of a dataset, memory-mapped.

A folder `INDEX/SPLIT/` holds `frames.arrow` (one row a keyframe), `map_masks.npy` (bits; absent without a map
expansion) and `index.json`, which is written last: an index without it is incomplete.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from vexkd_model.data.map_masks import SEGMENTATION_GRID
from vexkd_model.data.sweeps import Sweep, read_lidar_file
from vexkd_model.errors import UserError
from vexkd_model.types import MAP_CLASSES, Boxes

FORMAT = 1
MATRIX = pa.list_(pa.float64(), 16)
SCHEMA = pa.schema([
    ("token", pa.string()),
    ("scene", pa.string()),
    ("location", pa.string()),
    ("stamp_ns", pa.int64()),
    ("sweep_path", pa.list_(pa.string())),
    ("sweep_stamp_ns", pa.list_(pa.int64())),
    ("base_from_sensor", pa.list_(MATRIX)),
    ("odom_from_base", pa.list_(MATRIX)),
    ("boxes", pa.list_(pa.float32())),
    ("labels", pa.list_(pa.int8())),
    ("lidar_points", pa.list_(pa.int32())),
])


@dataclass(frozen=True)
class SweepRecord:
    """Where one LiDAR sweep lies and how to place it; matrices are float64 (4, 4), odom is nuScenes' global frame."""

    path: Path
    stamp_ns: int
    base_from_sensor: np.ndarray
    odom_from_base: np.ndarray

    def load(self) -> Sweep:
        """Read the sweep's points: float32 (N, 4) in the sensor frame."""
        return Sweep(read_lidar_file(self.path)[:, :4], self.stamp_ns, self.base_from_sensor, self.odom_from_base)


@dataclass(frozen=True)
class FrameRecord:
    """One keyframe. sweeps: newest (the keyframe's own) first. boxes are in base_link at `stamp_ns`.

    lidar_points: int32 (M,), the annotation's own count of LiDAR points in each box.
    """

    token: str
    scene: str
    location: str
    stamp_ns: int
    sweeps: tuple[SweepRecord, ...]
    boxes: Boxes
    lidar_points: np.ndarray

    @property
    def global_from_base(self) -> np.ndarray:
        """float64 (4, 4) ego pose at the keyframe."""
        return self.sweeps[0].odom_from_base


class FrameIndex:
    """Read access to one split of a prepared dataset; rows are decoded only when asked for."""

    def __init__(self, folder: Path, manifest: dict) -> None:
        self.folder = folder
        self.dataroot = Path(manifest["dataroot"])
        self.version: str = manifest["version"]
        self.split: str = manifest["split"]
        self.has_maps: bool = manifest["has_maps"]

    @classmethod
    def open(cls, index_dir: Path, split: str) -> "FrameIndex":
        """Open `index_dir/split`; UserError names the file where it is absent, incomplete or of another format."""
        path = Path(index_dir) / split / "index.json"
        try:
            manifest = json.loads(path.read_text())
        except FileNotFoundError:
            raise UserError(f"{path}: no such index; run `vexkd prepare` first") from None
        except json.JSONDecodeError as error:
            raise UserError(f"{path}: not a frame index ({error}); run `vexkd prepare --force`") from None
        if manifest.get("format") != FORMAT:
            raise UserError(f"{path}: index format {manifest.get('format')}, this version reads {FORMAT}; "
                            "run `vexkd prepare --force`")
        return cls(path.parent, manifest)

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, i: int) -> FrameRecord:
        def column(name: str) -> np.ndarray:
            return np.asarray(self._table[name][i].values)

        matrices = {name: self._table[name][i].values.flatten().to_numpy().reshape(-1, 4, 4)
                    for name in ("base_from_sensor", "odom_from_base")}
        sweeps = tuple(
            SweepRecord(self.dataroot / path, stamp, base_from_sensor, odom_from_base)
            for path, stamp, base_from_sensor, odom_from_base in zip(
                self._table["sweep_path"][i].as_py(), self._table["sweep_stamp_ns"][i].as_py(),
                matrices["base_from_sensor"], matrices["odom_from_base"], strict=True)
        )
        return FrameRecord(
            *(self._table[name][i].as_py() for name in ("token", "scene", "location", "stamp_ns")),
            sweeps=sweeps,
            boxes=Boxes(column("boxes").reshape(-1, 9).astype(np.float32), column("labels").astype(np.int64)),
            lidar_points=column("lidar_points"),
        )

    def map_mask(self, i: int) -> np.ndarray | None:
        """bool (6, 200, 200) of MAP_CLASSES on the segmentation grid; None without a map expansion."""
        if not self.has_maps:
            return None
        shape = (len(MAP_CLASSES), *SEGMENTATION_GRID.shape)
        return np.unpackbits(self._map_masks[i], count=int(np.prod(shape))).reshape(shape).astype(bool)

    @cached_property
    def _table(self) -> pa.Table:
        return pa.ipc.open_file(pa.memory_map(str(self.folder / "frames.arrow"))).read_all()

    @cached_property
    def _map_masks(self) -> np.ndarray:
        return np.load(self.folder / "map_masks.npy", mmap_mode="r")

    def __getstate__(self) -> dict:
        # A worker process opens its own memory map; the pages are shared by the system.
        return {k: v for k, v in self.__dict__.items() if k not in ("_table", "_map_masks")}
