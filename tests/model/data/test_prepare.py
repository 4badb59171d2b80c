"""An index is whole or absent, made once, and resumed where a run was interrupted."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pyarrow as pa
import pytest
from support.clock import wait_for
from support.tiny_nuscenes import SCENES, write_tiny_nuscenes

from vexkd_model.cli import main
from vexkd_model.data.file_checks import check_row
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.data.prepare import prepare, write_frames
from vexkd_model.errors import UserError
from vexkd_model.figures.scene import prepared_splits
from vexkd_model.files import locked


def test_a_complete_index_is_kept_and_force_writes_it_anew(tiny_dataroot, tmp_path):
    (folder,) = prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    before = (folder / "frames.arrow").stat().st_mtime_ns
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    assert (folder / "frames.arrow").stat().st_mtime_ns == before
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"], force=True)
    assert (folder / "frames.arrow").stat().st_mtime_ns > before


def test_rows_of_short_scenes_share_the_batches_of_an_index(tiny_index, tmp_path, monkeypatch):
    rows = pa.ipc.open_file(tiny_index.folder / "frames.arrow").read_all()
    monkeypatch.setattr("vexkd_model.data.prepare.BATCH_ROWS", 2)
    write_frames(tmp_path / "frames.arrow", rows.to_batches(max_chunksize=1))
    file = pa.ipc.open_file(tmp_path / "frames.arrow")
    assert [len(file.get_batch(i)) for i in range(file.num_record_batches)] == [2, 1]
    assert repr(file.read_all().to_pylist()) == repr(rows.to_pylist())  # as text: unknown velocities are NaN


def test_an_interrupted_run_leaves_no_index_and_the_next_run_completes(tiny_dataroot, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vexkd_model.data.prepare.check_row", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    for name in ("mini_val", "mini_val.partial"):
        with pytest.raises(UserError, match="no such index; run `vexkd prepare DATAROOT "):
            FrameIndex.open(tmp_path, name)
    with pytest.raises(UserError, match="no split of the dataset is prepared"):
        prepared_splits(tmp_path)
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    assert len(FrameIndex.open(tmp_path, "mini_val")) == SCENES["scene-0103"]


def test_an_interrupted_run_is_resumed_at_the_scene_where_it_stopped(tmp_path, monkeypatch):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1, "scene-0916": 2}), tmp_path / "index"
    looked_at = []

    def check_until_interrupted(row, *_):
        looked_at.append(row["token"])
        if row["token"] == "scene-0916-1":
            raise KeyboardInterrupt
        return check_row(row, *_)

    with monkeypatch.context() as patch:
        patch.setattr("vexkd_model.data.prepare.check_row", check_until_interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, "v1.0-mini", index)
        assert not (index / "mini_val").exists() and looked_at[0] == "scene-0103-0"
        looked_at.clear()
        patch.setattr(
            "vexkd_model.data.prepare.check_row", lambda row, *_: looked_at.append(row["token"]) or check_row(row, *_)
        )
        prepare(root, "v1.0-mini", index)
    assert looked_at == ["scene-0916-0", "scene-0916-1"]
    resumed = FrameIndex.open(index, "mini_val")
    assert [resumed[i].token for i in range(3)] == ["scene-0103-0", *looked_at]
    assert all(resumed.map_mask(i).any() for i in range(3)) and not list(index.glob("*.partial"))


def test_several_processes_write_the_same_index(tiny_dataroot, tiny_index_dir, tmp_path):
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_train"], workers=2)
    for name in ("frames.arrow", "map_masks.npy", "index.json"):
        assert (tmp_path / "mini_train" / name).read_bytes() == (tiny_index_dir / "mini_train" / name).read_bytes()


def test_the_command_that_an_error_prints_works_when_pasted(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "my data", {"scene-0103": 1}, cameras=())
    for index_dir in (index_folder(root, "v1.0-mini"), tmp_path / "an index"):
        with pytest.raises(UserError, match=r"no such index; run `(.*)` first") as error:
            FrameIndex.open(index_dir, "mini_val", root, "v1.0-mini")
        program, *arguments = shlex.split(str(error.value).split("`")[1])
        assert program == "vexkd" and main(arguments) == 0
        assert len(FrameIndex.open(index_dir, "mini_val", root, "v1.0-mini")) == 1


def test_no_process_at_all_is_refused(tiny_dataroot, tmp_path):
    with pytest.raises(UserError, match="--workers 0: must be at least 1"):
        prepare(tiny_dataroot, "v1.0-mini", tmp_path, workers=0)


def test_other_tables_or_a_new_map_make_a_new_index(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}), tmp_path / "index"
    expansion = root / "maps" / "expansion"
    expansion.rename(root / "elsewhere")
    prepare(root, "v1.0-mini", index)
    assert not FrameIndex.open(index, "mini_val").has_maps
    (root / "elsewhere").rename(expansion)
    prepare(root, "v1.0-mini", index)
    assert FrameIndex.open(index, "mini_val").map_mask(0).any()
    table = root / "v1.0-mini" / "sample_annotation.json"
    counts = {"num_lidar_pts": 7, "num_radar_pts": 3}
    table.write_text(json.dumps([row | counts for row in json.loads(table.read_text())]))
    prepare(root, "v1.0-mini", index)
    record = FrameIndex.open(index, "mini_val")[0]
    assert (record.lidar_points == 7).all() and (record.radar_points == 3).all()


def test_an_index_whose_replacement_is_killed_is_whole_or_is_written_again(tiny_dataroot, tmp_path, monkeypatch):
    (folder,) = prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])

    def killed_half_way(path, **_):
        if (path / "frames.arrow").is_file():
            (path / "frames.arrow").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed_half_way)
        with pytest.raises(KeyboardInterrupt):
            prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"], force=True)
    assert prepared_splits(tmp_path) == ["mini_val"]
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    index = FrameIndex.open(tmp_path, "mini_val")
    assert index[0].token == "scene-0103-0" and index.map_mask(0).any() and index.folder == folder


def test_a_second_run_on_the_same_folder_ends_in_one_line(tiny_dataroot, tmp_path, monkeypatch):
    def while_another_comes(*_):
        with pytest.raises(UserError, match=rf"^{tmp_path}: another vexkd prepare is writing it; wait for it .*$"):
            prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_train"])
        raise KeyboardInterrupt

    monkeypatch.setattr("vexkd_model.data.prepare.check_row", while_another_comes)
    with pytest.raises(KeyboardInterrupt):
        prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])


def test_a_complete_index_needs_no_lock(tiny_dataroot, tmp_path):
    folders = prepare(tiny_dataroot, "v1.0-mini", tmp_path)
    with locked(tmp_path / ".lock"):
        assert prepare(tiny_dataroot, "v1.0-mini", tmp_path) == folders


def test_a_killed_run_leaves_nothing_that_looks_complete_and_the_next_one_ends_in_the_same_bytes(tmp_path):
    scenes = dict.fromkeys(("scene-0061", "scene-0553", "scene-0655", "scene-0757"), 2)
    root, index = write_tiny_nuscenes(tmp_path / "data", scenes), tmp_path / "index"
    prepare(root, "v1.0-mini", tmp_path / "uninterrupted")
    image = root / "samples" / "CAM_BACK" / "scene-0757-1.jpg"
    content = image.read_bytes()
    image.unlink()
    os.mkfifo(image)  # who opens it waits for ever
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "vexkd_model.cli",
            "prepare",
            str(root),
            "--version",
            "v1.0-mini",
            "--index",
            str(index),
            "--workers",
            "2",
        ],
        stderr=subprocess.DEVNULL,
    )
    parts = index / "mini_train.partial"
    wait_for(lambda: process.poll() is not None or len(list(parts.glob("*.arrow"))) >= 3, "three parts")
    assert process.poll() is None
    process.kill()
    process.wait()
    for name in ("mini_train", "mini_train.partial"):
        with pytest.raises(UserError, match="no such index"):
            FrameIndex.open(index, name)
    with pytest.raises(UserError, match="no split of the dataset is prepared"):
        prepared_splits(index)
    image.unlink()
    image.write_bytes(content)
    prepare(root, "v1.0-mini", index)
    for name in ("frames.arrow", "map_masks.npy", "index.json"):
        assert (index / "mini_train" / name).read_bytes() == (
            tmp_path / "uninterrupted" / "mini_train" / name
        ).read_bytes()
    assert not parts.exists()


@pytest.mark.parametrize(
    ("version", "splits", "expected"),
    [
        ("v1.0-maxi", None, "v1.0-maxi: no such folder; .*choose one of v1.0-mini$"),
        ("v1.0-mini", ["winter"], "winter: no split of that name; there are"),
        ("v1.0-mini", ["test"], "no scene of split test"),
    ],
)
def test_a_wrong_version_or_split_is_named(tiny_dataroot, tmp_path, version, splits, expected):
    with pytest.raises(UserError, match=expected):
        prepare(tiny_dataroot, version, tmp_path, splits)
