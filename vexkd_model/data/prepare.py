"""`vexkd prepare`: nuScenes folder → frame index, scene by scene, so that an interrupted run is resumed."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import create_splits_scenes

from vexkd_model.data.file_checks import Problem, check_row
from vexkd_model.data.index import FORMAT, FRAMES, MANIFEST, MASKS, SCHEMA, SPLITS_OF_VERSION, read_manifest
from vexkd_model.data.map_masks import MapRasteriser
from vexkd_model.data.tables import open_nuscenes, scene_rows, tables_digest
from vexkd_model.errors import UserError
from vexkd_model.files import whole_file, write_json
from vexkd_model.parallel import in_parallel
from vexkd_model.progress import progress


def prepare(dataroot: Path, version: str, index_dir: Path, splits: Sequence[str] | None = None,
            force: bool = False, workers: int = 1, skip_bad: bool = False) -> list[Path]:
    """Write the index of every split that has scenes in the dataset; return their folders.

    A split whose index was made of the same tables is kept unless `force`. An interrupted run leaves a `.partial`
    folder, from which the next one goes on. Every file is looked at; what is missing or unreadable is listed in
    `SPLIT_problems.txt`, and is an error (UserError, no index) unless skip_bad, which leaves out those files and counts
    them in the index's manifest.
    """
    if version not in SPLITS_OF_VERSION:
        raise UserError(f"--version {version}: choose one of {', '.join(SPLITS_OF_VERSION)}")
    nusc = open_nuscenes(dataroot, version)
    made_of = _made_of(dataroot, version)
    scenes_of_split = create_splits_scenes()
    present = {scene["name"]: scene for scene in nusc.scene}
    folders = []
    for split in splits or SPLITS_OF_VERSION[version]:
        if split not in scenes_of_split:
            raise UserError(f"--split {split}: no official split of that name")
        scenes = [present[name] for name in scenes_of_split[split] if name in present]
        if not scenes:
            if splits:
                raise UserError(f"{dataroot}: holds no scene of split {split}")
            continue
        folder = Path(index_dir) / split
        folders.append(folder)
        wanted = {**made_of, "split": split, "scenes": [scene["name"] for scene in scenes]}
        if force or not _is_current(folder, wanted, skip_bad):
            _write_split(nusc, scenes, folder, wanted, workers, skip_bad)
    if not folders:
        raise UserError(f"{dataroot}: holds no scene of {version}'s splits {', '.join(SPLITS_OF_VERSION[version])}")
    return folders


def _made_of(dataroot: Path, version: str) -> dict:
    """What an index depends on beside its split: place, tables, and whether there is a map expansion."""
    return {"format": FORMAT, "dataroot": str(Path(dataroot).resolve()), "version": version,
            "tables": tables_digest(dataroot, version), "has_maps": (Path(dataroot) / "maps" / "expansion").is_dir()}


def _is_current(folder: Path, wanted: dict, skip_bad: bool) -> bool:
    """Whether the index in `folder` is complete and made of `wanted`; one with gaps does only where gaps may be."""
    try:
        manifest = read_manifest(folder / MANIFEST)
    except UserError:
        return False
    return wanted.items() <= manifest.items() and (skip_bad or not manifest["skipped_files"])


def _write_split(nusc: NuScenes, scenes: list[dict], folder: Path, wanted: dict, workers: int, skip_bad: bool) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    _begin_or_resume(partial, {**wanted, "skip_bad": skip_bad})
    jobs = _jobs(nusc, scenes, partial, wanted["has_maps"], skip_bad)
    for _ in progress(in_parallel(_write_part, jobs, workers), f"prepare {wanted['split']}", len(scenes), "scenes"):
        pass
    # Sweeps belong to the keyframes on both sides: each file counts once.
    problems = list(dict.fromkeys(problem for scene in scenes for problem in _part(partial, scene["name"])[1]))
    report = folder.with_name(f"{folder.name}_problems.txt")
    _report(problems, report)
    if problems and not skip_bad:
        for scene in scenes:
            if _part(partial, scene["name"])[1]:
                _part_path(partial, scene["name"]).unlink()  # to be looked at again, once it was mended
        more = f" (and {len(problems) - 1} more, see {report})" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}; complete the dataset, or leave such files out by --skip-bad")
    frames = _merge(partial, [scene["name"] for scene in scenes], wanted["has_maps"])
    if not frames:
        raise UserError(f"{problems[0]}; no keyframe of {wanted['split']} can be read, see {report}")
    expected = sum(scene["nbr_samples"] for scene in scenes)
    write_json(partial / "index" / MANIFEST, {**wanted, "frames": frames, "skipped_files": len(problems),
                                              "skipped_frames": expected - frames})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial / "index", folder)
    shutil.rmtree(partial)


def _begin_or_resume(partial: Path, wanted: dict) -> None:
    """Keep the finished scenes of an interrupted run that wanted the same; of any other, nothing."""
    manifest = partial / MANIFEST
    if not manifest.is_file() or json.loads(manifest.read_text()) != wanted:
        shutil.rmtree(partial, ignore_errors=True)
        write_json(manifest, wanted)


@dataclass(frozen=True)
class _Job:
    """One scene's part of an index: what a worker needs, without the tables."""

    part: Path
    rows: list[dict]
    dataroot: Path
    version: str
    has_maps: bool
    skip_bad: bool


def _jobs(nusc: NuScenes, scenes: list[dict], partial: Path, has_maps: bool, skip_bad: bool) -> Iterator[_Job | None]:
    """One for each scene, in order; None where an interrupted run has finished it."""
    for scene in scenes:
        part = _part_path(partial, scene["name"])
        yield None if part.is_file() else _Job(part, scene_rows(nusc, scene), Path(nusc.dataroot), nusc.version,
                                               has_maps, skip_bad)  # fmt: skip


def _part_path(partial: Path, scene: str) -> Path:
    return partial / f"{scene}.arrow"


def _write_part(job: _Job | None) -> None:
    """Check a scene's files, draw its map masks, write both; the Arrow file comes last and says what was wrong."""
    if job is None:
        return
    checked = [check_row(row, job.dataroot, job.version) for row in job.rows]
    rows = [row for row, _ in checked if row is not None]
    problems = [asdict(problem) for _, found in checked for problem in found]
    if job.has_maps and (job.skip_bad or not problems):
        poses = [np.reshape(row["odom_from_base"][0], (4, 4)) for row in rows]
        masks = [np.packbits(_rasteriser(job.dataroot, row["location"]).masks(pose))
                 for row, pose in zip(rows, poses, strict=True)]  # fmt: skip
        np.save(job.part.with_suffix(".npy"), np.array(masks, np.uint8))
    schema = SCHEMA.with_metadata({"problems": json.dumps(problems)})
    with whole_file(job.part) as path, pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))


@lru_cache
def _rasteriser(dataroot: Path, location: str) -> MapRasteriser:
    return MapRasteriser(dataroot, location)


def _part(partial: Path, scene: str) -> tuple[list[pa.RecordBatch], list[Problem]]:
    with pa.memory_map(str(_part_path(partial, scene))) as source:
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        problems = [Problem(**problem) for problem in json.loads(reader.schema.metadata[b"problems"])]
    return batches, problems


def _report(problems: list[Problem], path: Path) -> None:
    """Write every problem, one a line; no problem, no file."""
    if not problems:
        path.unlink(missing_ok=True)
        return
    with whole_file(path) as partial:
        partial.write_text("".join(f"{problem}\n" for problem in problems))


def _merge(partial: Path, scenes: list[str], has_maps: bool) -> int:
    """Put the parts together in `partial/index`; returns the number of frames."""
    folder = partial / "index"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    frames = 0
    with pa.OSFile(str(folder / FRAMES), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for scene in scenes:
            for batch in _part(partial, scene)[0]:
                frames += len(batch)
                writer.write_batch(batch.replace_schema_metadata(None))
    if has_maps and frames:
        parts = (np.load(_part_path(partial, scene).with_suffix(".npy"), mmap_mode="r") for scene in scenes)
        _write_rows(folder / MASKS, frames, (part for part in parts if len(part)))
    return frames


def _write_rows(path: Path, count: int, parts: Iterator[np.ndarray]) -> None:
    """Concatenate arrays (n, K) uint8 into one file without holding more than one of them."""
    target, start = None, 0
    for part in parts:
        if target is None:
            target = np.lib.format.open_memmap(path, "w+", np.uint8, (count, part.shape[1]))
        target[start : start + len(part)] = part
        start += len(part)
