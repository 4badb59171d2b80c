"""Bad data is reported file by file, never half indexed, and left out where the user says so."""

import json
import shutil

import cv2
import numpy as np
import pytest
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.data.file_checks import check_row
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError


def bad_files(root):
    """Harm five files of scene-0103 and name them: the second keyframe's own sweep, an older sweep, three images."""
    lidar, sweeps = root / "samples" / "LIDAR_TOP" / "scene-0103-1-0.pcd.bin", root / "sweeps" / "LIDAR_TOP"
    older = sweeps / "scene-0103-0-1.pcd.bin"
    images = [root / "samples" / name / "scene-0103-0.jpg" for name in ("CAM_FRONT", "CAM_BACK", "CAM_BACK_LEFT")]
    lidar.write_bytes(b"short")
    older.unlink()
    images[0].write_bytes(images[0].read_bytes()[:-200])
    images[1].write_bytes(b"not a picture")
    images[2].unlink()
    return [lidar, older, *images]


def test_every_bad_file_is_reported_and_no_index_is_written(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2}), tmp_path / "index"
    harmed = bad_files(root)
    with pytest.raises(UserError, match=r"\(and 4 more, see .*mini_val_problems\.txt\).*--skip-bad") as error:
        prepare(root, "v1.0-mini", index)
    lines = (index / "mini_val_problems.txt").read_text().splitlines()
    assert sorted(line.split(": ")[0] for line in lines) == sorted(map(str, harmed))
    assert str(error.value).startswith(lines[0]) and not (index / "mini_val").exists()


def test_mended_files_complete_the_index(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2}), tmp_path / "index"
    for path in bad_files(root):
        with pytest.raises(UserError):
            prepare(root, "v1.0-mini", index)
        whole = write_tiny_nuscenes(tmp_path / path.stem / path.parent.name, {"scene-0103": 2})
        shutil.copy(whole / path.relative_to(root), path)
    prepare(root, "v1.0-mini", index)
    assert len(FrameIndex.open(index, "mini_val")[1].cameras) == 6 and not (index / "mini_val_problems.txt").exists()


def test_skip_bad_goes_on_without_the_bad_files_and_counts_them(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2}), tmp_path / "index"
    bad_files(root)
    prepare(root, "v1.0-mini", index, skip_bad=True)
    manifest = json.loads((index / "mini_val" / "index.json").read_text())
    assert (manifest["frames"], manifest["skipped_frames"], manifest["skipped_files"]) == (1, 1, 5)
    assert len((index / "mini_val_problems.txt").read_text().splitlines()) == 5
    frames = FrameIndex.open(index, "mini_val")
    assert len(frames) == 1 and len(frames[0].sweeps) == 2
    assert [camera.name for camera in frames[0].cameras] == ["CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT"]
    assert frames.map_mask(0).any()
    prepare(root, "v1.0-mini", index, skip_bad=True)  # is complete as far as it can be
    with pytest.raises(UserError):  # but no index without gaps
        prepare(root, "v1.0-mini", index)


@pytest.mark.parametrize(
    ("table", "key", "cameras", "sweeps"),
    [
        ("calibrated_sensor", "camera_intrinsic", 5, 3),
        ("calibrated_sensor", "translation", 5, 3),
        ("ego_pose", "rotation", 6, 2),
    ],
)
def test_a_calibration_that_is_no_number_is_named_by_its_table(tmp_path, table, key, cameras, sweeps):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}), tmp_path / "index"
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    row = next(row for row in rows if row["token"] in ("CAM_FRONT", "scene-0103-0-1"))
    row[key] = (np.array(row[key]) * np.nan).tolist()
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=rf"{table}\.json: .* of sample scene-0103-0 is not finite"):
        prepare(root, "v1.0-mini", index)
    prepare(root, "v1.0-mini", index, skip_bad=True)
    record = FrameIndex.open(index, "mini_val")[0]
    assert (len(record.cameras), len(record.sweeps)) == (cameras, sweeps)


def test_files_mended_after_an_interrupted_run_are_named_no_more(tmp_path, monkeypatch):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2, "scene-0916": 1})
    first, *_ = bad_files(root)
    whole = first.read_bytes()

    def interrupted(row, *rest):
        if row["scene"] == "scene-0916":
            raise KeyboardInterrupt
        return check_row(row, *rest)

    with monkeypatch.context() as patch:
        patch.setattr("vexkd_model.data.prepare.check_row", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(root, "v1.0-mini", tmp_path / "index")
    first.write_bytes(whole * 100)
    with pytest.raises(UserError, match=r"\(and 3 more, see "):
        prepare(root, "v1.0-mini", tmp_path / "index")
    assert str(first) not in (tmp_path / "index" / "mini_val_problems.txt").read_text()


def test_skip_bad_after_a_refusal_looks_only_at_the_scenes_with_bad_files_again(tmp_path, monkeypatch):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2, "scene-0916": 1})
    bad_files(root)
    with pytest.raises(UserError, match="--skip-bad"):
        prepare(root, "v1.0-mini", tmp_path / "index")
    looked_at = []
    monkeypatch.setattr(
        "vexkd_model.data.prepare.check_row", lambda row, *_: looked_at.append(row["token"]) or check_row(row, *_)
    )
    prepare(root, "v1.0-mini", tmp_path / "index", skip_bad=True)
    assert looked_at == ["scene-0103-0", "scene-0103-1"]
    index = FrameIndex.open(tmp_path / "index", "mini_val")
    assert index.column("token") == ["scene-0103-0", "scene-0916-0"] and index.map_mask(1).any()


def change_table(root, table, change):
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("key", "value"), [("translation", np.nan), ("size", np.nan), ("size", np.inf), ("rotation", np.nan)]
)
def test_an_annotation_that_is_no_number_is_named_and_left_out(tmp_path, key, value):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}), tmp_path / "index"
    prepare(root, "v1.0-mini", index)
    before = FrameIndex.open(index, "mini_val")[0]
    change_table(root, "sample_annotation", lambda rows: rows[1][key].__setitem__(0, value))
    with pytest.raises(UserError, match=r"sample_annotation\.json: annotation scene-0103-1-0 is not finite"):
        prepare(root, "v1.0-mini", index)
    prepare(root, "v1.0-mini", index, skip_bad=True)
    after = FrameIndex.open(index, "mini_val")[0]
    others = np.arange(len(before.boxes)) != 1
    np.testing.assert_array_equal(after.boxes.values[:, :7], before.boxes.values[others, :7])
    np.testing.assert_array_equal(after.boxes.labels, before.boxes.labels[others])
    for name in ("box_up", "attributes", "lidar_points", "radar_points"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name)[others])


def test_a_box_without_volume_is_no_box_and_one_of_unknown_velocity_is(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    change_table(root, "sample_annotation", lambda rows: rows[0]["size"].__setitem__(2, 0.0))
    prepare(root, "v1.0-mini", tmp_path / "index", skip_bad=True)
    boxes = FrameIndex.open(tmp_path / "index", "mini_val")[0].boxes.values
    assert len(boxes) == 8 and np.isnan(boxes[:, 7:]).all()  # one keyframe shows no motion


def other_town(root, scene):
    """Let a scene of the tiny dataset lie in a town of its own, with a map like the first one's."""

    def move(rows):
        next(row for row in rows if row["name"] == scene)["log_token"] = "there"

    change_table(root, "log", lambda rows: rows.append({**rows[0], "token": "there", "location": "boston-seaport"}))
    change_table(root, "map", lambda rows: rows[0]["log_tokens"].append("there"))
    change_table(root, "scene", move)
    expansion = root / "maps" / "expansion"
    shutil.copy(next(expansion.iterdir()), expansion / "boston-seaport.json")
    return expansion / "boston-seaport.json"


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.unlink(), "map expansion is missing"),
        (lambda path: path.write_text("{"), "not a map expansion"),
        (lambda path: path.write_text("[]"), "not a map expansion"),
        (lambda path: path.write_text(path.read_text().replace('"node3"', '"nobody"', 1)), "not a map expansion"),
        (lambda path: path.write_text(path.read_text().replace("1.3", "1.0")), "not a map expansion .*outdated"),
    ],
)
def test_a_town_whose_map_cannot_be_read_is_named_and_its_frames_go_on_without(tmp_path, damage, expected):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2, "scene-0916": 1}), tmp_path / "index"
    town = other_town(root, "scene-0103")
    whole = town.read_text()
    damage(town)
    with pytest.raises(UserError, match=rf"^{town}: {expected}") as error:
        prepare(root, "v1.0-mini", index)
    assert "\n" not in str(error.value) and not (index / "mini_val").exists()
    prepare(root, "v1.0-mini", index, skip_bad=True)
    frames = FrameIndex.open(index, "mini_val")
    assert frames.map_mask(0) is None and frames.map_mask(1) is None and frames.map_mask(2).any() and frames.has_maps
    manifest = json.loads((index / "mini_val" / "index.json").read_text())
    assert (manifest["skipped_files"], manifest["frames"], manifest["frames_with_damaged_map"]) == (1, 3, 2)
    assert [line.split(": ")[0] for line in (index / "mini_val_problems.txt").read_text().splitlines()] == [str(town)]
    town.write_text(whole)
    prepare(root, "v1.0-mini", index)
    assert FrameIndex.open(index, "mini_val").map_mask(0).any()


def test_where_no_map_at_all_can_be_read_the_index_has_no_maps(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}), tmp_path / "index"
    next((root / "maps" / "expansion").iterdir()).write_text("{")
    prepare(root, "v1.0-mini", index, skip_bad=True)
    frames = FrameIndex.open(index, "mini_val")
    assert not frames.has_maps and frames.map_mask(0) is None and len(frames[0].cameras) == 6


def test_where_nothing_can_be_read_even_skip_bad_gives_up(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    shutil.rmtree(root / "samples")
    with pytest.raises(UserError, match="no keyframe of mini_val can be read"):
        prepare(root, "v1.0-mini", tmp_path / "index", skip_bad=True)


def test_an_image_of_another_size_than_its_table_says_is_a_bad_file(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    path = root / "samples" / "CAM_FRONT" / "scene-0103-0.jpg"
    cv2.imwrite(str(path), np.zeros((90, 160, 3), np.uint8))
    with pytest.raises(UserError, match=r"160×90 px where sample_data\.json says 320×180"):
        prepare(root, "v1.0-mini", tmp_path / "index")


def test_an_index_of_another_version_or_of_moved_data_is_refused(tmp_path):
    root, index = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}), tmp_path / "index"
    prepare(root, "v1.0-mini", index)
    assert len(FrameIndex.open(index, "mini_val", root, "v1.0-mini")) == 1
    with pytest.raises(UserError, match=r"index\.json: index of version v1\.0-mini, not v1\.0-trainval"):
        FrameIndex.open(index, "mini_val", root, "v1.0-trainval")
    with pytest.raises(UserError, match=r"index of the data in .*data, not in .*copy; run `vexkd prepare .*copy"):
        FrameIndex.open(index, "mini_val", tmp_path / "copy", "v1.0-mini")
    root.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"its data is no longer in .*data; run `vexkd prepare"):
        FrameIndex.open(index, "mini_val")
    prepare(tmp_path / "moved", "v1.0-mini", index)
    assert FrameIndex.open(index, "mini_val", tmp_path / "moved")[0].sweeps[0].load().points.size


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda root: shutil.rmtree(root / "v1.0-mini"), "no such folder"),
        (lambda root: (root / "v1.0-mini" / "sample.json").unlink(), "v1.0-mini.*sample.json"),
        (lambda root: (root / "v1.0-mini" / "sample.json").write_text("["), r"sample\.json: not a table"),
        (lambda root: (root / "v1.0-mini" / "sample.json").write_text("{}"), r"sample\.json: not a table"),
        (lambda root: (root / "samples" / "LIDAR_TOP" / "scene-0103-0-0.pcd.bin").unlink(), "scene-0103-0-0.*missing"),
        (lambda root: (root / "samples" / "LIDAR_TOP" / "scene-0103-0-0.pcd.bin").write_bytes(b"1234567"), "truncated"),
        (lambda root: next((root / "maps" / "expansion").iterdir()).unlink(), "map expansion is missing"),
        (lambda root: next((root / "maps" / "expansion").iterdir()).write_text("{"), "not a map expansion"),
        (lambda root: (root / "v1.0-mini" / "ego_pose.json").write_text("[]"), "scene-0103: the tables hold no"),
        (lambda root: (root / "v1.0-mini" / "sensor.json").write_text("[]"), "the tables refer to 'lidar', which"),
        (
            lambda root: change_table(root, "sample_data", lambda rows: rows[3].pop("prev")),
            r"sample_data\.json: .*no prev",
        ),
        (
            lambda root: change_table(root, "sample_annotation", lambda rows: rows[1].pop("num_lidar_pts")),
            r"sample_annotation\.json: record scene-0103-1-0 has no num_lidar_pts; write -1",
        ),
        (
            lambda root: change_table(root, "scene", lambda rows: rows[0].update(first_sample_token="")),
            r"scene\.json: scene-0103 has no sample",
        ),
        (
            lambda root: change_table(root, "sample_data", lambda rows: rows[2].update(is_key_frame=False)),
            r"sample_data\.json: sample scene-0103-0 has no keyframe of LIDAR_TOP",
        ),
        (lambda root: [shutil.rmtree(root / name) for name in ("samples", "sweeps")], "missing, like every other file"),
    ],
)
def test_a_damaged_dataset_is_one_line_that_names_the_file(tmp_path, damage, expected):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    damage(root)
    with pytest.raises(UserError, match=expected) as error:
        prepare(root, "v1.0-mini", tmp_path / "index")
    assert "\n" not in str(error.value) and str(root) in str(error.value)


@pytest.mark.parametrize(("text", "expected"), [("{", "not a frame index"), ('{"format": 99}', "index format 99")])
def test_an_index_of_another_kind_is_refused(tmp_path, text, expected):
    (tmp_path / "mini_val").mkdir()
    (tmp_path / "mini_val" / "index.json").write_text(text)
    with pytest.raises(UserError, match=rf"index\.json: {expected}"):
        FrameIndex.open(tmp_path, "mini_val")


@pytest.mark.parametrize("name", ["frames.arrow", "map_masks.npy"])
def test_an_index_file_that_is_cut_or_gone_is_named_and_prepare_writes_it_anew(tmp_path, name):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    (folder,) = prepare(root, "v1.0-mini", tmp_path / "index")
    whole = (folder / name).read_bytes()
    for content in (whole[: len(whole) // 2], b"", None):
        (folder / name).write_bytes(content) if content is not None else (folder / name).unlink()
        index = FrameIndex.open(tmp_path / "index", "mini_val")
        with pytest.raises(UserError, match=rf"{name}: damaged index .*--force") as error:
            _ = index[0], index.map_mask(0)
        assert "\n" not in str(error.value)
        prepare(root, "v1.0-mini", tmp_path / "index")
        assert (folder / name).read_bytes() == whole


def test_a_sweep_that_vanished_or_was_cut_after_prepare_is_named(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    prepare(root, "v1.0-mini", tmp_path)
    sweep = FrameIndex.open(tmp_path, "mini_val")[0].sweeps[0]
    assert sweep.load().points.shape[1] == 4
    sweep.path.write_bytes(sweep.path.read_bytes()[:-3])
    with pytest.raises(UserError, match="truncated"):
        sweep.load()
    sweep.path.unlink()
    with pytest.raises(UserError, match=str(sweep.path)):
        sweep.load()
