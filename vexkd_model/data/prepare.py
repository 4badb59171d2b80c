"""`vexkd prepare`: nuScenes folder → frame index, scene by scene, so that an interrupted run is resumed."""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from vexkd_model.data.file_checks import Problem, check_row, without_sensors
from vexkd_model.data.index import FORMAT, FRAMES, MANIFEST, MASKS, SCHEMA, FrameIndex, read_manifest
from vexkd_model.data.map_masks import MapRasteriser, expansion_path
from vexkd_model.data.point_counts import with_point_counts
from vexkd_model.data.schema import SchemaTables, open_nuscenes, scenes_of_split
from vexkd_model.data.splits import LIDAR, split_names
from vexkd_model.data.survey import take_inventory
from vexkd_model.data.tables import check_lidar_is_known, scene_rows, tables_digest
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file, locked, replace_folder, write_json
from vexkd_model.parallel import in_parallel
from vexkd_model.progress import progress
from vexkd_model.types import CAMERAS, MAP_CLASSES, SEGMENTATION_GRID

BATCH_ROWS = 2000  # 20 MB
BEGUN = "begun.json"  # what the run that left a `.partial` folder wanted; no index has a file of that name
MASK_BYTES = len(MAP_CLASSES) * SEGMENTATION_GRID.shape[0] * SEGMENTATION_GRID.shape[1] // 8


def prepare(
    dataroot: Path,
    version: str,
    index_dir: Path,
    splits: Sequence[str] | None = None,
    force: bool = False,
    workers: int = 1,
    skip_bad: bool = False,
) -> list[Path]:
    """Write the index of every split that has scenes in the dataset; return their folders.

    version: name of the tables' folder, nuScenes' or another. splits: None for all of `split_names`.

    A split whose index was made of the same tables is kept unless `force`. An interrupted run leaves a `.partial`
    folder, from which the next one goes on. Every file is looked at; what is missing or unreadable is listed in
    `SPLIT_problems.txt`, and is an error (UserError, no index) unless skip_bad, which leaves out those files, boxes and
    maps and counts them in the index's manifest. A sensor without any file is no bad one: the inventory names it.
    """
    nusc = open_nuscenes(dataroot, version)
    check_lidar_is_known(nusc)
    made_of = _made_of(dataroot, version)
    scenes_of = _scenes_of_splits(nusc, splits)
    wanted_of = {
        Path(index_dir) / split: {
            **made_of,
            "split": split,
            "scenes": [scene["name"] for scene in scenes],
            "absent": _sensors_without_files(nusc, scenes),
        }
        for split, scenes in scenes_of.items()
    }
    if force or not all(_is_current(folder, wanted, skip_bad) for folder, wanted in wanted_of.items()):
        with locked(
            Path(index_dir) / ".lock",
            f"{index_dir}: another vexkd prepare is writing it; wait for it or give another folder",
        ):
            for folder, wanted in wanted_of.items():
                if force or not _is_current(folder, wanted, skip_bad):  # another run may have ended meanwhile
                    _write_split(nusc, scenes_of[folder.name], folder, wanted, workers, skip_bad)
    return list(wanted_of)


def _scenes_of_splits(nusc: SchemaTables, splits: Sequence[str] | None) -> dict[str, list[dict]]:
    """Scenes of each wanted split; UserError if one is empty, or without `splits`, if all of them are."""
    by_split, names = {}, split_names(Path(nusc.dataroot), nusc.version)
    for split in splits or names:
        if scenes := scenes_of_split(nusc, split):
            by_split[split] = scenes
        elif splits:
            raise UserError(f"{nusc.dataroot}: holds no scene of split {split}")
    if not by_split:
        raise UserError(
            f"{nusc.dataroot}: {nusc.version} holds no scene of the splits {', '.join(names)}; scenes of "
            "other names belong to splits of splits.json beside the tables"
        )
    return by_split


def _made_of(dataroot: Path, version: str) -> dict:
    """Manifest entries on which an index depends beside its split: place, tables, presence of a map expansion."""
    return {
        "format": FORMAT,
        "dataroot": str(Path(dataroot).resolve()),
        "version": version,
        "tables": tables_digest(dataroot, version),
        "has_maps": (Path(dataroot) / "maps" / "expansion").is_dir(),
    }


def _is_current(folder: Path, wanted: dict, skip_bad: bool) -> bool:
    """Compare the index in `folder` with the wanted manifest; one with gaps is current only if `skip_bad`."""
    try:
        manifest = read_manifest(folder / MANIFEST)
        if not wanted.items() <= manifest.items() or not (skip_bad or not manifest["skipped_files"]):
            return False
        index = FrameIndex(folder, manifest)
        if len(index) != manifest["frames"]:
            return False
        index.map_mask(0)  # opens the masks
    except UserError:
        return False
    return True


def _write_split(
    nusc: SchemaTables, scenes: list[dict], folder: Path, wanted: dict, workers: int, skip_bad: bool
) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    _begin_or_resume(partial, wanted)
    _rasteriser.cache_clear()  # a map may have been mended since
    jobs = _jobs(nusc, scenes, partial, wanted["has_maps"], wanted["absent"])
    for _ in progress(in_parallel(_write_part, jobs, workers), f"prepare {wanted['split']}", len(scenes), "scenes"):
        pass
    # Sweeps belong to the keyframes on both sides, maps to many scenes: each file counts once.
    problems = list(dict.fromkeys(problem for scene in scenes for problem in _part(partial, scene["name"])[1]))
    report = folder.with_name(f"{folder.name}_problems.txt")
    _report(problems, report)
    if problems and not skip_bad:
        more = f" (and {len(problems) - 1} more, see {report})" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}; complete the dataset, or leave such files out by --skip-bad")
    frames, without_map = _merge(partial, [scene["name"] for scene in scenes], wanted["has_maps"])
    if not frames:
        raise UserError(f"{problems[0]}; no keyframe of {wanted['split']} can be read, see {report}")
    expected = sum(_samples(nusc, scene) for scene in scenes)
    manifest = {
        **wanted,
        "frames": frames,
        "skipped_files": len(problems),
        "skipped_frames": expected - frames,
        "frames_with_damaged_map": without_map,
    }
    inventory = take_inventory(nusc, scenes, FrameIndex(partial / "index", manifest), wanted["absent"])
    write_json(partial / "index" / MANIFEST, {**manifest, "inventory": asdict(inventory)})
    replace_folder(partial / "index", folder)
    shutil.rmtree(partial)


def _sensors_without_files(nusc: SchemaTables, scenes: list[dict]) -> list[str]:
    """List the LiDAR and the cameras of which no file of these scenes is there, as of a part of a download.

    UserError where that is all of them.
    """
    tokens, dataroot = {scene["token"] for scene in scenes}, Path(nusc.dataroot)
    of_scenes = {sample["token"] for sample in nusc.sample if sample["scene_token"] in tokens}
    known = {sensor["channel"] for sensor in nusc.sensor} & {LIDAR, *CAMERAS}
    missing, first = set(known), ""
    for record in nusc.sample_data:
        if not missing:
            break
        if record["channel"] in missing and record["sample_token"] in of_scenes:
            if (dataroot / record["filename"]).is_file():
                missing.remove(record["channel"])
            first = first or record["filename"]
    if missing == known and first:
        raise UserError(
            f"{dataroot / first}: missing, like every other file of LiDAR and cameras; DATAROOT must hold "
            "the folders of the sensors' files"
        )
    return sorted(missing)


def _samples(nusc: SchemaTables, scene: dict) -> int:
    count, token = 0, scene["first_sample_token"]
    while token:
        count, token = count + 1, nusc.get("sample", token)["next"]
    return count


def _begin_or_resume(partial: Path, wanted: dict) -> None:
    """Keep the finished scenes of an interrupted run with the same manifest; remove those of any other."""
    begun = partial / BEGUN
    if not begun.is_file() or json.loads(begun.read_text()) != wanted:
        shutil.rmtree(partial, ignore_errors=True)
        write_json(begun, wanted)


@dataclass(frozen=True)
class _SceneJob:
    """Input of a worker for one scene's part of an index, without the tables."""

    part: Path
    rows: list[dict]
    problems: list[Problem]
    dataroot: Path
    version: str
    has_maps: bool
    has_lidar: bool


def _jobs(
    nusc: SchemaTables, scenes: list[dict], partial: Path, has_maps: bool, absent: list[str]
) -> Iterator[_SceneJob | None]:
    """Jobs of the scenes, in order; None for one that an interrupted run has finished without problems."""
    for scene in scenes:
        if _part_path(partial, scene["name"]).is_file() and not _part(partial, scene["name"])[1]:
            yield None
            continue
        rows, problems = scene_rows(nusc, scene)
        yield _SceneJob(
            _part_path(partial, scene["name"]),
            [without_sensors(row, absent) for row in rows],
            problems,
            Path(nusc.dataroot),
            nusc.version,
            has_maps,
            LIDAR not in absent,
        )


def _part_path(partial: Path, scene: str) -> Path:
    return partial / f"{scene}.arrow"


def _write_part(job: _SceneJob | None) -> None:
    """Check a scene's files, draw its map masks, write both; the Arrow file comes last, with the problems."""
    if job is None:
        return
    checked = [check_row(row, job.dataroot, job.version, job.has_lidar) for row in job.rows]
    rows = [with_point_counts(row, job.dataroot, job.has_lidar) for row, _ in checked if row is not None]
    problems = [*job.problems, *(problem for _, of_row in checked for problem in of_row)]
    town = _rasteriser(job.dataroot, job.rows[0]["location"]) if job.has_maps and job.rows else None
    if isinstance(town, Problem):
        problems.append(town)
    if job.has_maps:
        np.save(job.part.with_suffix(".npy"), _packed_masks(town, rows))
    schema = SCHEMA.with_metadata({"problems": json.dumps([asdict(problem) for problem in problems])})
    rows = [row | {"map_damaged": isinstance(town, Problem)} for row in rows]
    with atomic_file(job.part) as path, pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


@lru_cache
def _rasteriser(dataroot: Path, location: str) -> MapRasteriser | Problem:
    try:
        return MapRasteriser(dataroot, location)
    except UserError as error:
        path = str(expansion_path(dataroot, location))
        return Problem(path, str(error).removeprefix(f"{path}: "))


def _packed_masks(town: MapRasteriser | Problem | None, rows: list[dict]) -> np.ndarray:
    """Packed map masks uint8 (len(rows), MASK_BYTES); zeros if the town's map cannot be read."""
    masks = np.zeros((len(rows), MASK_BYTES), np.uint8)
    if isinstance(town, MapRasteriser):
        for mask, row in zip(masks, rows, strict=True):
            mask[:] = np.packbits(town.masks(np.reshape(row["odom_from_base"][0], (4, 4))))
    return masks


def _part(partial: Path, scene: str) -> tuple[list[pa.RecordBatch], list[Problem]]:
    with pa.memory_map(str(_part_path(partial, scene))) as source:
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        problems = [Problem(**problem) for problem in json.loads(reader.schema.metadata[b"problems"])]
    return batches, problems


def _report(problems: list[Problem], path: Path) -> None:
    """Write the problems, one per line; without any, remove the file."""
    if not problems:
        path.unlink(missing_ok=True)
        return
    with atomic_file(path) as partial:
        partial.write_text("".join(f"{problem}\n" for problem in problems))


def write_frames(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Write rows of SCHEMA in batches of BATCH_ROWS or more: each costs whoever opens the file time and 36 kB."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        held: list[pa.RecordBatch] = []
        for batch in batches:
            held.append(batch)
            if sum(map(len, held)) >= BATCH_ROWS:
                writer.write_table(pa.Table.from_batches(held).combine_chunks())
                held = []
        writer.write_table(pa.Table.from_batches(held, SCHEMA).combine_chunks())


def _merge(partial: Path, scenes: list[str], has_maps: bool) -> tuple[int, int]:
    """Merge the parts in `partial/index`; return the numbers of frames and of frames with a damaged map."""
    folder = partial / "index"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    parts = (batch.replace_schema_metadata(None) for scene in scenes for batch in _part(partial, scene)[0])
    write_frames(folder / FRAMES, parts)
    with pa.memory_map(str(folder / FRAMES)) as source:
        damaged = pa.ipc.open_file(source).read_all()["map_damaged"].to_pylist()
    frames, without_map = len(damaged), damaged.count(True)
    if has_maps and frames:
        masks, start = np.lib.format.open_memmap(folder / MASKS, "w+", np.uint8, (frames, MASK_BYTES)), 0
        for scene in scenes:
            part = np.load(_part_path(partial, scene).with_suffix(".npy"), mmap_mode="r")
            masks[start : start + len(part)] = part
            start += len(part)
    return frames, without_map
