"""An index is whole or absent, made once, and resumed where a run was interrupted."""

import json

import pytest
from tiny_nuscenes import SCENES, write_tiny_nuscenes

from vexkd_model.data.file_checks import check_row
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError


def test_a_complete_index_is_kept_and_force_writes_it_anew(tiny_dataroot, tmp_path):
    (folder,) = prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    before = (folder / "frames.arrow").stat().st_mtime_ns
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    assert (folder / "frames.arrow").stat().st_mtime_ns == before
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"], force=True)
    assert (folder / "frames.arrow").stat().st_mtime_ns > before


def test_an_interrupted_run_leaves_no_index_and_the_next_run_completes(tiny_dataroot, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("vexkd_model.data.tables._boxes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_val"])
    with pytest.raises(UserError, match="vexkd prepare"):
        FrameIndex.open(tmp_path, "mini_val")
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
        patch.setattr("vexkd_model.data.prepare.check_row", lambda row, *_: looked_at.append(row["token"])
                      or check_row(row, *_))
        prepare(root, "v1.0-mini", index)
    assert looked_at == ["scene-0916-0", "scene-0916-1"]
    resumed = FrameIndex.open(index, "mini_val")
    assert [resumed[i].token for i in range(3)] == ["scene-0103-0", *looked_at]
    assert all(resumed.map_mask(i).any() for i in range(3)) and not list(index.glob("*.partial"))


def test_several_processes_write_the_same_index(tiny_dataroot, tiny_index_dir, tmp_path):
    prepare(tiny_dataroot, "v1.0-mini", tmp_path, ["mini_train"], workers=2)
    for name in ("frames.arrow", "map_masks.npy", "index.json"):
        assert (tmp_path / "mini_train" / name).read_bytes() == (tiny_index_dir / "mini_train" / name).read_bytes()


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
    table.write_text(json.dumps([row | {"num_lidar_pts": 7} for row in json.loads(table.read_text())]))
    prepare(root, "v1.0-mini", index)
    assert (FrameIndex.open(index, "mini_val")[0].lidar_points == 7).all()


@pytest.mark.parametrize(("version", "splits", "expected"), [
    ("v1.0-maxi", None, "v1.0-maxi.*choose one of"),
    ("v1.0-mini", ["winter"], "winter.*no official split"),
    ("v1.0-mini", ["test"], "no scene of split test"),
])  # fmt: skip
def test_a_wrong_version_or_split_is_named(tiny_dataroot, tmp_path, version, splits, expected):
    with pytest.raises(UserError, match=expected):
        prepare(tiny_dataroot, version, tmp_path, splits)
