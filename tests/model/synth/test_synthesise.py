"""Writing a dataset: same files for any number of workers, nothing half-written, wrong use refused."""

import json
import os
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from support.clock import wait_for

from tests.model.synth.conftest import PRESET, SEED, TRAIN_SCENE, VAL_SCENE
from vexkd_model.errors import UserError
from vexkd_model.synth import PRESETS, synthesise
from vexkd_model.synth.generate import GENERATOR


def _files(folder: Path) -> dict[str, str]:
    """Digest every file by relative path, without indices that others have made."""
    return {
        str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "vexkd" not in path.relative_to(folder).parts
    }


def test_a_killed_run_leaves_no_half_scene_and_two_workers_complete_it_to_the_same_bytes(dataset, tmp_path):
    out = tmp_path / "dataset"
    code = (
        "from vexkd_model.synth import synthesise; "
        f"synthesise({str(out)!r}, {PRESET!r}, {SEED}, scenes=[{TRAIN_SCENE!r}, {VAL_SCENE!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    started = out / ".synth" / "partial"
    wait_for(lambda: process.poll() is not None or list(started.glob("*/samples/CAM_FRONT/*.jpg")), "an image")
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    complete = list((out / ".synth" / "scenes").glob("*.json"))
    assert not (out / PRESETS[PRESET].version).exists()
    assert len(list(out.glob("samples/LIDAR_TOP/*"))) == len(complete) * PRESETS[PRESET].keyframes
    synthesise(out, PRESET, SEED, scenes=[TRAIN_SCENE, VAL_SCENE], workers=2)
    assert _files(out) == _files(dataset)


def test_a_second_run_leaves_the_first_one_alone(tmp_path, monkeypatch):
    out = tmp_path / "dataset"

    def while_another_comes(*_):
        with pytest.raises(UserError, match=rf"^{out}: another vexkd synth is writing it; wait for it .*$"):
            synthesise(out, PRESET, SEED, scenes=[TRAIN_SCENE])
        assert (out / ".synth" / "partial" / VAL_SCENE).is_dir()
        raise KeyboardInterrupt

    monkeypatch.setattr("vexkd_model.synth.scene.points_inside", while_another_comes)  # of the first keyframe
    with pytest.raises(KeyboardInterrupt):
        synthesise(out, PRESET, SEED, scenes=[VAL_SCENE])


def test_a_run_that_was_killed_before_its_manifest_can_be_begun_again(tmp_path):
    out = tmp_path / "dataset"
    (out / ".synth").mkdir(parents=True)
    (out / ".synth" / "lock").write_text("")
    synthesise(out, PRESET, SEED, scenes=[])
    assert json.loads((out / "synth.json").read_text())["scenes"] == []


def test_tables_whose_replacement_is_killed_are_whole(dataset, tmp_path, monkeypatch):
    out = shutil.copytree(dataset, tmp_path / "dataset")

    def killed_half_way(folder, **_):
        if (folder / "scene.json").is_file():
            (folder / "scene.json").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed_half_way)
        with pytest.raises(KeyboardInterrupt):
            synthesise(out, PRESET, SEED, scenes=[VAL_SCENE])
    assert (out / PRESETS[PRESET].version / "scene.json").is_file()
    synthesise(out, PRESET, SEED, scenes=[VAL_SCENE])
    assert _files(out) == _files(dataset)


def test_a_complete_dataset_is_left_as_it_is(dataset):
    cloud = next(dataset.glob("samples/LIDAR_TOP/*"))
    before = cloud.stat().st_mtime_ns
    synthesise(dataset, PRESET, SEED, scenes=[VAL_SCENE])
    assert cloud.stat().st_mtime_ns == before
    assert json.loads((dataset / "synth.json").read_text())["scenes"] == [TRAIN_SCENE, VAL_SCENE]


def test_the_manifest_says_how_the_data_were_made(dataset):
    manifest = json.loads((dataset / "synth.json").read_text())
    assert GENERATOR == 3
    assert manifest == {"preset": PRESET, "seed": SEED, "generator": GENERATOR, "scenes": [TRAIN_SCENE, VAL_SCENE]}


def test_a_dataset_of_an_older_generator_is_refused(tmp_path):
    (tmp_path / "synth.json").write_text(json.dumps({"preset": PRESET, "seed": SEED, "generator": 2, "scenes": []}))
    with pytest.raises(UserError, match=r"holds generator 2, not 3; give another folder"):
        synthesise(tmp_path, PRESET, SEED)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": SEED + 1}, "holds seed 3, not 4"),
        ({"preset": "demo"}, "holds preset bench-small, not demo"),
        ({"preset": "huge"}, "--preset huge: choose one of demo, bench-small"),
        ({"split": "mini_val"}, "--split mini_val: preset bench-small has train, val"),
        ({"scenes": ["scene-9999"]}, "--scenes scene-9999"),
        ({"split": "val", "scenes": [TRAIN_SCENE]}, "not a scene of split val"),
        ({"seed": -1}, "--seed -1"),
        ({"workers": 0}, "--workers 0"),
        ({"device": "abacus"}, "--device abacus"),
    ],
)
def test_wrong_use_is_one_line_that_names_the_option(dataset, arguments, message):
    with pytest.raises(UserError, match=message) as error:
        synthesise(dataset, **{"preset": PRESET, "seed": SEED, **arguments})
    assert "\n" not in str(error.value)


def test_a_folder_with_other_content_is_not_written_into(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not empty"):
        synthesise(tmp_path, PRESET, SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_manifest_is_one_clear_error(tmp_path):
    (tmp_path / "synth.json").write_text('{"preset": ')
    with pytest.raises(UserError, match=r"synth\.json: not readable"):
        synthesise(tmp_path, PRESET, SEED)
