"""Inventory of a dataset, and the refusal of a model that it does not suit, before its first step."""

import json
import shutil

import numpy as np
import pytest
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.cli import main
from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.inventory import inventory_text
from vexkd_model.data.loader import training_set
from vexkd_model.data.prepare import prepare
from vexkd_model.data.requirements import check_evaluable, check_trainable
from vexkd_model.data.sweeps import read_lidar_file
from vexkd_model.errors import UserError

CAMERA_STUDENT = "bevdet_small"


@pytest.fixture(scope="module")
def camera_config(config_path):
    return load_config(config_path.with_name(f"{CAMERA_STUDENT}.yaml"), ["segmentation.channels=8"])


def indexed(root, folder):
    """Index of the dataset's validation scene."""
    prepare(root, "v1.0-mini", folder, ["mini_val"])
    return FrameIndex.open(folder, "mini_val")


def test_the_inventory_counts_what_the_dataset_was_made_of(tiny_index):
    found = tiny_index.inventory
    assert found.interval == 0.5 and found.points.columns == 5 and found.points.intensity == (0, 255)
    assert 40 < found.points.range < 70 and found.absent == found.ignored == () and set(found.cameras.values()) == {3}
    assert (found.boxes["car"], found.seen_boxes["car"]) == (9, 6) and found.boxes["trailer"] == 0
    assert found.unused == {"animal": 3} and found.maps == {"singapore-onenorth": ""}


def test_prepare_prints_the_inventory(tiny_dataroot, tiny_index_dir, capsys):
    assert main(["prepare", str(tiny_dataroot), "--version", "v1.0-mini", "--index", str(tiny_index_dir)]) == 0
    printed = capsys.readouterr().out
    for part in (
        "6 a frame: CAM_FRONT_LEFT, CAM_FRONT",
        "car 9 (6)",
        "none of construction_vehicle, trailer",
        "animal 3: boxes of no class",
        "of singapore-onenorth",
        "0.5 s apart",
    ):
        assert part in printed


@pytest.fixture(scope="module")
def lone_lidar(tmp_path_factory):
    """A dataset without cameras, maps and points in boxes, and its index."""
    folder = tmp_path_factory.mktemp("lone")
    root = write_tiny_nuscenes(folder / "data", {"scene-0103": 1}, with_map=False, cameras=())
    table = root / "v1.0-mini" / "sample_annotation.json"
    table.write_text(json.dumps([row | {"num_lidar_pts": 0} for row in json.loads(table.read_text())]))
    return indexed(root, folder / "index")


def test_a_training_without_its_targets_or_inputs_is_refused_by_name(lone_lidar, tiny_config, camera_config):
    with pytest.raises(UserError, match=r"lidar_pillar_small detects, but none of its 9 boxes holds a LiDAR point"):
        check_trainable(tiny_config, lone_lidar)
    with pytest.raises(UserError, match=r"segments maps, and there is no map expansion \(.*singapore-onenorth\.json"):
        check_trainable(tiny_config.model_copy(update={"detection": None}), lone_lidar)
    with pytest.raises(UserError, match=r"bevdet_small reads CAM_FRONT_LEFT, .* which no frame has; choose a model"):
        check_trainable(camera_config, lone_lidar)
    with pytest.raises(UserError, match=r"bevdet_small reads CAM_FRONT_LEFT, .* which no frame has"):
        check_evaluable(camera_config, lone_lidar)
    assert check_evaluable(camera_config, lone_lidar, drop="camera")[0].endswith("so no map IoU")


def test_a_training_that_cannot_be_leaves_no_run_folder(lone_lidar, config_path, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"mini_val: lidar_pillar_small detects, but none of its 9 boxes"):
        main(
            [
                "train",
                str(config_path),
                "--dataroot",
                str(lone_lidar.dataroot),
                "--version",
                "v1.0-mini",
                "--split",
                "mini_val",
                "--index",
                str(lone_lidar.folder.parent),
                "--out",
                str(tmp_path / "run"),
            ]
        )
    assert not (tmp_path / "run").exists()


def test_an_evaluation_without_anything_to_score_is_refused_and_of_a_part_it_is_said(tmp_path, tiny_config):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, with_map=False, cameras=())
    index = indexed(root, tmp_path / "index")
    assert [remark.split(": ", 1)[1][:26] for remark in check_evaluable(tiny_config, index)] == [
        "there is no map expansion "
    ]
    with pytest.raises(UserError, match="nothing to score lidar_pillar_small with: there is no map expansion"):
        check_evaluable(tiny_config.model_copy(update={"detection": None}), index)
    assert len(check_evaluable(tiny_config.model_copy(update={"detection": None}), index, predictions_alone=True)) == 1


def test_a_training_names_the_one_camera_that_no_frame_has(tmp_path, camera_config):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, cameras=("CAM_FRONT", "CAM_BACK"))
    config = camera_config.model_copy(
        update={
            "camera": camera_config.camera.model_copy(
                update={
                    "images": camera_config.camera.images.model_copy(
                        update={"cameras": ("CAM_FRONT", "CAM_BACK_RIGHT")}
                    )
                }
            )
        }
    )
    index = indexed(root, tmp_path / "index")
    with pytest.raises(
        UserError,
        match=r"reads CAM_BACK_RIGHT, which no frame has; --set 'camera\.images\.cameras=\["
        r"CAM_FRONT\]'",
    ):
        check_trainable(config, index)
    assert check_evaluable(config, index) == ["CAM_BACK_RIGHT: in no frame of mini_val"]


def test_a_camera_student_needs_no_lidar_files_and_a_lidar_student_is_refused(
    tmp_path, tiny_config, camera_config, config_path
):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 2})
    whole = indexed(root, tmp_path / "whole")
    clouds = {path: path.read_bytes() for path in root.glob("s*/LIDAR_TOP/*")}
    for folder in ("samples", "sweeps"):
        shutil.rmtree(root / folder / "LIDAR_TOP")
    index = indexed(root, tmp_path / "index")
    assert len(index) == 2 and index.inventory.absent == ("LIDAR_TOP",) and index.inventory.points is None
    np.testing.assert_array_equal(index[1].cameras[0].base_from_camera, whole[1].cameras[0].base_from_camera)
    assert index[1].stamp_ns == whole[1].stamp_ns and len(index[1].seen_boxes) == len(whole[1].seen_boxes)
    with pytest.raises(UserError, match=r"learns depths from the LiDAR, .*, or --set camera\.view\.depth_loss_weight="):
        check_trainable(camera_config, index)
    without_depths = load_config(config_path.with_name(f"{CAMERA_STUDENT}.yaml"), ["camera.view.depth_loss_weight=0"])
    check_trainable(without_depths, index)
    assert len(training_set(without_depths, index, without_depths.training)[0, 1].frame.cameras) == 6
    for check in (check_trainable, check_evaluable):
        with pytest.raises(UserError, match="lidar_pillar_small reads the LiDAR, of which no file is in"):
            check(tiny_config, index)
    assert "none; poses and stamps alone" in inventory_text(index.inventory, 2, root / "v1.0-mini")
    for path, sweep in clouds.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(sweep)
    assert indexed(root, tmp_path / "index").inventory == whole.inventory, "the rest of the download came"


@pytest.mark.parametrize("points", [1000, 1001])  # whole fives of float32, and not
def test_files_of_four_columns_are_recognised(tmp_path, points):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, cameras=())
    clouds = {}
    for path in root.glob("s*/LIDAR_TOP/*"):
        clouds[path] = np.fromfile(path, np.float32).reshape(-1, 5)[:points]
        clouds[path][:, :4].tofile(path)
    index = indexed(root, tmp_path / "index")
    assert index.inventory.points.columns == 4
    for path, cloud in clouds.items():
        np.testing.assert_array_equal(read_lidar_file(path)[:, :4], cloud[:, :4])
        assert not read_lidar_file(path)[:, 4].any()


def test_a_file_of_five_columns_that_was_cut_is_not_taken_for_one_of_four(tiny_dataroot, tmp_path):
    whole, cut = next((tiny_dataroot / "samples" / "LIDAR_TOP").iterdir()).read_bytes(), tmp_path / "cut.bin"
    cut.write_bytes(whole[:4096])  # a block of a disk: 256 fours
    with pytest.raises(UserError, match="truncated"):
        read_lidar_file(cut)


def test_an_intensity_that_is_no_number_counts_as_zero_and_is_said(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, cameras=())
    for path in root.glob("s*/LIDAR_TOP/*"):
        cloud = np.fromfile(path, np.float32).reshape(-1, 5)
        cloud[:, 3] = np.nan
        cloud.tofile(path)
    index = indexed(root, tmp_path / "index")
    points = index[0].load_points(3)
    assert np.isfinite(points).all() and not points[:, 3].any() and len(points) > 3000
    assert "100% of the points is NaN and counts as 0" in inventory_text(index.inventory, 1, root)


def test_points_in_millimetres_are_asked_about(tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1}, cameras=())
    for path in root.glob("s*/LIDAR_TOP/*"):
        cloud = np.fromfile(path, np.float32).reshape(-1, 5)
        cloud[:, :3] *= 1000
        cloud.tofile(path)
    assert "ARE THESE METRES?" in inventory_text(indexed(root, tmp_path / "index").inventory, 1, root)
