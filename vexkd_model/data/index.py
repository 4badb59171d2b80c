"""Frame index: keyframes, calibration, annotations and map masks of a prepared dataset, memory-mapped.

A folder `INDEX/SPLIT/` holds `frames.arrow` (one row a keyframe), `map_masks.npy` (bits; absent without a map
expansion, zeros where `map_damaged`) and `index.json`. The folder appears whole, by one renaming.
"""

import copy
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vexkd_model.data.inventory import Inventory
from vexkd_model.data.sweeps import Sweep, accumulate_sweeps, read_lidar_file, spaced
from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import inverse
from vexkd_model.types import MAP_CLASSES, POINT_FIELDS, SEGMENTATION_GRID, Boxes

FORMAT = 1
FRAMES, MASKS, MANIFEST = "frames.arrow", "map_masks.npy", "index.json"
MATRIX = pa.list_(pa.float64(), 16)
SCHEMA = pa.schema(
    [
        ("token", pa.string()),
        ("scene", pa.string()),
        ("location", pa.string()),
        ("stamp_ns", pa.int64()),
        ("sweep_path", pa.list_(pa.string())),
        ("sweep_stamp_ns", pa.list_(pa.int64())),
        ("base_from_sensor", pa.list_(MATRIX)),
        ("odom_from_base", pa.list_(MATRIX)),
        ("camera_name", pa.list_(pa.string())),
        ("camera_path", pa.list_(pa.string())),
        ("camera_stamp_ns", pa.list_(pa.int64())),
        ("camera_size", pa.list_(pa.list_(pa.int32(), 2))),
        ("camera_intrinsics", pa.list_(pa.list_(pa.float64(), 9))),
        ("camera_base_from_sensor", pa.list_(MATRIX)),
        ("camera_odom_from_base", pa.list_(MATRIX)),
        ("boxes", pa.list_(pa.float32())),
        ("box_up", pa.list_(pa.float32())),
        ("labels", pa.list_(pa.int8())),
        ("attributes", pa.list_(pa.int8())),
        ("lidar_points", pa.list_(pa.int32())),
        ("radar_points", pa.list_(pa.int32())),
        ("map_damaged", pa.bool_()),
    ]
)
LIST_COLUMNS = tuple(field.name for field in SCHEMA if pa.types.is_list(field.type))


@dataclass(frozen=True)
class SweepRecord:
    """File and poses of one LiDAR sweep; matrices are float64 (4, 4), odom is nuScenes' global frame."""

    path: Path
    stamp_ns: int
    base_from_sensor: np.ndarray
    odom_from_base: np.ndarray

    def load(self) -> Sweep:
        """Read the sweep's points: float32 (N, 4) in the sensor frame."""
        return Sweep(read_lidar_file(self.path)[:, :4], self.stamp_ns, self.base_from_sensor, self.odom_from_base)


@dataclass(frozen=True)
class CameraRecord:
    """File, calibration and poses of one camera's image; matrices are float64.

    size: (width, height) [px] and intrinsics: (3, 3) of the stored file. base_from_sensor: (4, 4), the mounting.
    odom_from_base: (4, 4), the ego pose at `stamp_ns`, the camera's own. base_from_camera: (4, 4), from the camera at
    its own stamp to base_link at the keyframe's LiDAR stamp: mounting and ego motion in between, the chain by which
    the devkit projects a box or a LiDAR point into the image.
    """

    name: str
    path: Path
    stamp_ns: int
    size: tuple[int, int]
    intrinsics: np.ndarray
    base_from_sensor: np.ndarray
    odom_from_base: np.ndarray
    base_from_camera: np.ndarray


@dataclass(frozen=True)
class FrameRecord:
    """Sensor files and annotations of one keyframe.

    sweeps: newest (the keyframe's own) first. cameras: those that are there, in the order of types.CAMERAS.
    boxes: in base_link at `stamp_ns`, the LiDAR's.

    box_up: float32 (M, 3), the unit vectors along the boxes' heights: annotations stand upright in the world, while
        base_link tilts with the vehicle.
    lidar_points, radar_points: int32 (M,), the annotation's own counts of points in each box, −1 where unknown. The
        official detection metrics look for boxes that hold any of either.
    attributes: int8 (M,), index into types.ATTRIBUTE_NAMES, −1 for none.
    """

    token: str
    scene: str
    location: str
    stamp_ns: int
    sweeps: tuple[SweepRecord, ...]
    cameras: tuple[CameraRecord, ...]
    boxes: Boxes
    box_up: np.ndarray
    attributes: np.ndarray
    lidar_points: np.ndarray
    radar_points: np.ndarray

    @property
    def global_from_base(self) -> np.ndarray:
        """Ego pose float64 (4, 4) at the keyframe, to nuScenes' global frame."""
        return self.sweeps[0].odom_from_base

    @property
    def seen_boxes(self) -> Boxes:
        """Boxes that hold a LiDAR point, or may hold one where the count is unknown.

        The official metrics look for those that only a radar saw, too, but nobody can learn to find them in points.
        """
        seen = self.lidar_points != 0
        return Boxes(self.boxes.values[seen], self.boxes.labels[seen])

    @property
    def counted_boxes(self) -> Boxes:
        """Boxes that the official metrics look for: those that hold a LiDAR or radar point."""
        counted = self.lidar_points + self.radar_points != 0
        return Boxes(self.boxes.values[counted], self.boxes.labels[counted])

    def load_points(self, sweeps: int, interval: float | None = None) -> np.ndarray:
        """Read the points of up to `sweeps` sweeps, `interval` seconds apart (see `spaced`).

        Returns float32 (N, 5) in base_link at the keyframe, ego motion compensated; none without `sweeps`.
        """
        if not sweeps:
            return np.empty((0, len(POINT_FIELDS)), np.float32)
        chosen = spaced([sweep.stamp_ns for sweep in self.sweeps], sweeps, interval)
        return accumulate_sweeps(self.sweeps[i].load() for i in chosen)


class FrameIndex:
    """Read access to one split of a prepared dataset; rows are decoded only when asked for.

    has_maps: whether the map is known in any frame. scenes: to which the frames are limited (`of_scenes`), None for the
        whole split.
    """

    scenes: tuple[str, ...] | None = None

    def __init__(self, folder: Path, manifest: dict) -> None:
        self.folder, self._manifest = folder, manifest
        self.dataroot = Path(manifest["dataroot"])
        self.version: str = manifest["version"]
        self.split: str = manifest["split"]
        self.tables: str = manifest["tables"]
        self.has_maps: bool = manifest["has_maps"] and manifest["frames_with_damaged_map"] < manifest["frames"]
        self.skipped_frames: int = manifest["skipped_frames"]

    @property
    def inventory(self) -> Inventory:
        """Content of the whole split, as `vexkd prepare` found it."""
        return Inventory.of_manifest(self._manifest)

    @classmethod
    def open(
        cls, index_dir: Path, split: str, dataroot: Path | None = None, version: str | None = None
    ) -> "FrameIndex":
        """Open the index of a split; refuse one that was not made of this `dataroot` and `version`.

        dataroot, version: what the index must have been made of, where the caller knows. UserError names the file where
        the index is absent, incomplete, of another format, version or place, or where its data has moved.
        """
        path = Path(index_dir) / split / MANIFEST
        again = prepare_command(dataroot, version, index_dir)
        manifest = read_manifest(path, again)
        if version is not None and manifest["version"] != version:
            raise UserError(f"{path}: index of version {manifest['version']}, not {version}; run `{again}`")
        if dataroot is not None and Path(dataroot).resolve() != Path(manifest["dataroot"]):
            raise UserError(f"{path}: index of the data in {manifest['dataroot']}, not in {dataroot}; run `{again}`")
        if not Path(manifest["dataroot"]).is_dir():
            again = prepare_command(dataroot, manifest["version"], index_dir)
            raise UserError(f"{path}: its data is no longer in {manifest['dataroot']}; run `{again}` where it is now")
        return cls(path.parent, manifest)

    def of_scenes(self, names: Sequence[str]) -> "FrameIndex":
        """Limit the index to these scenes. UserError for a scene that is not in the index."""
        strange = sorted(set(names) - set(self.column("scene")))
        if strange:
            raise UserError(f"scene {strange[0]}: not in the index {self.folder}")
        part = copy.copy(self)  # which leaves the memory maps behind, see __getstate__
        part.scenes = tuple(sorted(set(names)))
        return part

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, i: int) -> FrameRecord:
        values = {name: self._columns[name][i].values for name in LIST_COLUMNS}
        token, scene, location, stamp_ns = (self._columns[name][i].as_py() for name in SCHEMA.names[:4])
        sweeps = tuple(
            map(
                SweepRecord,
                self._paths(values["sweep_path"]),
                values["sweep_stamp_ns"].to_pylist(),
                _matrices(values["base_from_sensor"]),
                _matrices(values["odom_from_base"]),
            )
        )
        camera_odom_from_base = _matrices(values["camera_odom_from_base"])
        camera_base_from_sensor = _matrices(values["camera_base_from_sensor"])
        base_from_odom = inverse(sweeps[0].odom_from_base)
        cameras = tuple(
            map(
                CameraRecord,
                values["camera_name"].to_pylist(),
                self._paths(values["camera_path"]),
                values["camera_stamp_ns"].to_pylist(),
                map(tuple, values["camera_size"].to_pylist()),
                _matrices(values["camera_intrinsics"], 3),
                camera_base_from_sensor,
                camera_odom_from_base,
                base_from_odom @ camera_odom_from_base @ camera_base_from_sensor,
            )
        )
        boxes = np.array(values["boxes"], np.float32).reshape(-1, 9)
        return FrameRecord(
            token,
            scene,
            location,
            stamp_ns,
            sweeps,
            cameras,
            Boxes(boxes, np.array(values["labels"], np.int64)),
            box_up=np.array(values["box_up"], np.float32).reshape(-1, 3),
            attributes=np.asarray(values["attributes"]),
            lidar_points=np.asarray(values["lidar_points"]),
            radar_points=np.asarray(values["radar_points"]),
        )

    def before(self, i: int, count: int) -> list[FrameRecord]:
        """Return up to `count` keyframes before frame i in its scene, newest first."""
        scenes = self._columns["scene"]
        rows = range(i - 1, max(i - count, 0) - 1, -1)
        return [self[row] for row in rows if scenes[row] == scenes[i]]

    def map_mask(self, i: int) -> np.ndarray | None:
        """Map masks bool (6, 200, 200) of MAP_CLASSES on SEGMENTATION_GRID; None where the map is unknown.

        It is unknown without a map expansion, or where `vexkd prepare --skip-bad` could not read this town's.
        """
        if not self.has_maps or self._columns["map_damaged"][i].as_py():
            return None
        shape = (len(MAP_CLASSES), *SEGMENTATION_GRID.shape)
        return np.unpackbits(self._map_masks[self._rows[i]], count=int(np.prod(shape))).reshape(shape).astype(bool)

    def seen_objects(self) -> tuple[np.ndarray, np.ndarray]:
        """Frame number and label, int64 (N,) each, of every box of the split in `FrameRecord.seen_boxes`."""
        labels, points = (self._table[name].combine_chunks() for name in ("labels", "lidar_points"))
        seen = points.flatten().to_numpy() != 0
        frames = np.repeat(np.arange(len(self)), np.diff(labels.offsets.to_numpy()))
        return frames[seen], labels.flatten().to_numpy()[seen].astype(np.int64)

    def column(self, name: str) -> list:
        """Values of one column of SCHEMA, such as token or scene, of all frames."""
        return self._table[name].to_pylist()

    def _paths(self, relative: pa.Array) -> list[Path]:
        return [self.dataroot / path for path in relative.to_pylist()]

    @cached_property
    def _table(self) -> pa.Table:
        return self._whole_table().take(pa.array(self._rows)) if self.scenes else self._whole_table()

    @cached_property
    def _columns(self) -> dict[str, pa.ChunkedArray]:
        """Columns by name; to ask the table for one costs as much as it has batches."""
        return {name: self._table[name] for name in SCHEMA.names}

    @cached_property
    def _rows(self) -> Sequence[int]:
        """Rows of the files, one per frame."""
        whole = self._whole_table()
        if self.scenes is None:
            return range(len(whole))
        return np.flatnonzero(np.isin(whole["scene"].to_pylist(), self.scenes)).tolist()

    def _whole_table(self) -> pa.Table:
        return self._mapped(FRAMES, lambda path: pa.ipc.open_file(pa.memory_map(str(path))).read_all())

    @cached_property
    def _map_masks(self) -> np.ndarray:
        return self._mapped(MASKS, lambda path: np.load(path, mmap_mode="r"))

    def _mapped(self, name: str, open_file: Callable[[Path], Any]) -> Any:
        try:
            return open_file(self.folder / name)
        except (OSError, EOFError, ValueError, pa.ArrowException) as error:
            again = prepare_command(self.dataroot, self.version, self.folder.parent, "--force")
            raise UserError(
                f"{self.folder / name}: damaged index ({' '.join(str(error).split())}); run `{again}`"
            ) from None

    def __getstate__(self) -> dict:
        # A worker process opens its own memory map; the pages are shared by the system.
        return {k: v for k, v in self.__dict__.items() if k not in ("_table", "_columns", "_rows", "_map_masks")}


def index_folder(dataroot: Path, version: str) -> Path:
    """Default folder of `vexkd prepare`."""
    return Path(dataroot) / "vexkd" / version


def prepare_command(dataroot: Path | None, version: str | None, index_dir: Path, *options: str) -> str:
    """Write the command that makes an index in `index_dir`, to be pasted into a shell; capitals stand for unknowns."""
    words = ["vexkd", "prepare", str(dataroot or "DATAROOT"), "--version", version or "VERSION"]
    if dataroot is None or version is None or Path(index_dir).resolve() != index_folder(dataroot, version).resolve():
        words += ["--index", str(index_dir)]
    return shlex.join([*words, *options])


def read_manifest(path: Path, again: str = "vexkd prepare") -> dict[str, Any]:
    """Read `index.json`; UserError where it is absent, damaged or of another format.

    again: command that makes it, for the UserError.
    """
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such index; run `{again}` first") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a frame index ({error}); run `{again} --force`") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        actual = manifest.get("format") if isinstance(manifest, dict) else None
        raise UserError(f"{path}: index format {actual}, this version reads {FORMAT}; run `{again}`")
    return manifest


def _matrices(values: pa.Array, size: int = 4) -> np.ndarray:
    """Reshape a flat column to float64 (N, size, size)."""
    return values.flatten().to_numpy().reshape(-1, size, size)
