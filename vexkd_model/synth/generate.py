"""Writing of a synthetic dataset, `vexkd synth`: its scenes in several processes, then their tables and maps."""

import json
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from vexkd_model.config.sensors import NUSCENES, SensorsConfig
from vexkd_model.data.scene_tables import TABLES, shared_tables, token, write_tables
from vexkd_model.data.splits import LIDAR
from vexkd_model.errors import UserError
from vexkd_model.files import locked, write_json
from vexkd_model.parallel import in_parallel
from vexkd_model.progress import progress
from vexkd_model.synth.map_mask_image import write_mask
from vexkd_model.synth.maps import canvas_of, map_expansion
from vexkd_model.synth.presets import PRESETS, Preset
from vexkd_model.synth.scene import PARTIAL, WORK, record_path, write_scene

GENERATOR = 3  # grows whenever the same preset and seed give other files
MANIFEST = "synth.json"
LOCK = "lock"  # inside OUT/.synth


def synthesise(
    out: Path,
    preset: str,
    seed: int,
    split: str | None = None,
    scenes: Sequence[str] | None = None,
    device: str = "cpu",
    workers: int = 1,
    sensors: SensorsConfig = NUSCENES,
) -> None:
    """Write a synthetic dataset in the official nuScenes schema to `out`, or complete the one that is there.

    split, scenes: only these scenes; a later call adds others. The files of a scene depend on preset, seed, sensors
    and its name alone, not on `workers` or on what else is written. Raises UserError for a wrong name, for a folder
    that holds something else, and where another process is writing to it.
    """
    out = Path(out)
    names = _chosen_scenes(preset, split, scenes)
    _check_arguments(seed, device, workers)
    made_of = {"preset": preset, "seed": seed, "generator": GENERATOR}
    if sensors != NUSCENES:
        made_of["sensors"] = sensors.model_dump(mode="json")
    _is_begun(out, made_of)  # before a lock is left in a folder that is somebody else's
    with locked(out / WORK / LOCK, f"{out}: another vexkd synth is writing it; wait for it or give another folder"):
        if not _is_begun(out, made_of):
            write_json(out / MANIFEST, {**made_of, "scenes": []}, indent=None)
        missing = [name for name in names if not record_path(out, name).is_file()]
        if missing:
            written = _write_scenes(out, preset, seed, missing, device, workers, sensors)
            for _ in progress(written, "synth", len(missing), "scenes"):
                pass
        _write_dataset(out, PRESETS[preset], made_of, sensors)
        shutil.rmtree(out / WORK / PARTIAL, ignore_errors=True)


def _chosen_scenes(preset: str, split: str | None, scenes: Sequence[str] | None) -> list[str]:
    if preset not in PRESETS:
        raise UserError(f"--preset {preset}: choose one of {', '.join(PRESETS)}")
    known = PRESETS[preset]
    if split is not None and split not in known.splits:
        raise UserError(f"--split {split}: preset {preset} has {', '.join(known.splits)}")
    names = list(known.splits[split] if split else known.scene_names)
    for name in scenes or ():
        if name not in names:
            raise UserError(f"--scenes {name}: not a scene of {f'split {split}' if split else f'preset {preset}'}")
    return [name for name in names if scenes is None or name in scenes]


def _check_arguments(seed: int, device: str, workers: int) -> None:
    if seed < 0:
        raise UserError(f"--seed {seed}: must not be negative")
    if workers < 1:
        raise UserError(f"--workers {workers}: must be at least 1")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: not usable here ({str(error).splitlines()[0]}); use cpu") from None


def _is_begun(out: Path, made_of: dict) -> bool:
    """Check whether `out` holds this very dataset, or a part of it; UserError where it holds anything else."""
    path = out / MANIFEST
    if not out.is_dir() or all(entry.name == WORK for entry in out.iterdir()):
        return False
    if not path.is_file():
        raise UserError(f"{out}: not empty and without {MANIFEST}; give an empty or new folder")
    try:
        manifest = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not readable ({error}); delete the folder and start again") from None
    if manifest.get("sensors") != made_of.get("sensors"):
        raise UserError(f"{path}: holds data of other sensors than --like says; give another folder, or its --like")
    for key, value in made_of.items():
        if manifest.get(key) != value:
            raise UserError(f"{path}: holds {key} {manifest.get(key)}, not {value}; give another folder")
    return True


def _write_scenes(
    out: Path, preset: str, seed: int, names: list[str], device: str, workers: int, sensors: SensorsConfig
) -> Iterator[str]:
    """Yield the names of scenes as they are finished."""
    threads = torch.get_num_threads()
    yield from in_parallel(
        partial(write_scene, out, PRESETS[preset], seed, device=device, sensors=sensors),
        names,
        min(workers, len(names)),
    )
    torch.set_num_threads(threads)  # which write_scene changes, with one worker in this process


def _write_dataset(out: Path, preset: Preset, made_of: dict, sensors: SensorsConfig) -> None:
    """Write tables and maps of every finished scene, in official order."""
    names = [name for name in preset.scene_names if record_path(out, name).is_file()]
    tables = {name: [] for name in TABLES} | shared_tables({LIDAR: "lidar", **dict.fromkeys(sensors.cameras, "camera")})
    towns: dict[str, dict[str, dict]] = {}
    slots: dict[str, list[int]] = {}
    for name in names:
        record = json.loads(record_path(out, name).read_text())
        for table, rows in record["tables"].items():
            tables[table] += rows
        towns.setdefault(record["location"], {})[name] = record["map"]
        slots.setdefault(record["location"], []).append(record["slot"])
    for town, scenes in sorted(towns.items()):
        filename = f"maps/{token('map', town)}.png"
        logs = [row["token"] for row in tables["log"] if row["location"] == town]
        tables["map"].append(
            {"token": token("map", town), "category": "semantic_prior", "filename": filename, "log_tokens": logs}
        )
        canvas = canvas_of(slots[town])
        write_json(out / "maps" / "expansion" / f"{town}.json", map_expansion(town, scenes, canvas), indent=None)
        write_mask(out / filename, scenes, canvas)
    write_tables(tables, out / preset.version, out / WORK / "tables", {})
    write_json(out / MANIFEST, {**made_of, "scenes": names}, indent=None)
