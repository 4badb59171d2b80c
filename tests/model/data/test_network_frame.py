"""A network with a frame of its own: its batches are those of a vehicle whose base_link lies there."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion
from scipy.spatial.transform import Rotation
from support.rig import mounting
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.config import load_config
from vexkd_model.config.frame import FrameConfig
from vexkd_model.data.batch import collate_for, sensors_for
from vexkd_model.data.dataset import load_frame, load_sample
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.loader import training_set
from vexkd_model.data.network_frame import in_base_link, move_boxes, move_frame
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.predictor import detections_of
from vexkd_model.errors import UserError
from vexkd_model.geometry.transforms import inverse, rotation_from_angles
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.center_loss import center_targets
from vexkd_model.heads.decode import build_decoder
from vexkd_model.model import ModelOutput
from vexkd_model.training.pictures import cells_in_base_link
from vexkd_model.training.validation import Validator
from vexkd_model.types import DETECTION_CLASSES, Boxes, CameraImage, Frame, PastFrame

LIDAR_TOP = FrameConfig(translation=(0.943713, 0.0, 1.84023), rotation=(-1.3884, 0.338027, -89.8835))
UPRIGHT = FrameConfig(translation=(0.94, -0.2, 1.84), rotation=(0.0, 0.0, -90.0))
ANGLES = st.floats(-180, 180)
POSES = st.builds(
    lambda x, y, z, yaw: FrameConfig(translation=(x, y, z), rotation=(0.0, 0.0, yaw)),
    *(st.floats(-20, 20),) * 3,
    ANGLES,
)


def settings(config, frame):
    return config.model_copy(update={"frame": frame})


def random_boxes(count, seed=0):
    random = np.random.default_rng(seed)
    low, high = [-40, -40, -1, 0.3, 0.3, 0.5, -3.1, -9, -9], [40, 40, 2, 12, 3, 4, 3.1, 9, 9]
    values = random.uniform(low, high, (count, 9)).astype(np.float32)
    return Boxes(values, random.integers(0, len(DETECTION_CLASSES), count))


def moved_by_the_devkit(row, frame):
    """Move a box (9,) of base_link to the frame, as the devkit moves annotations into a sensor's."""
    x, y, z, length, width, height, yaw, vx, vy = row.astype(float)
    turn = Quaternion(axis=(0, 0, 1), radians=yaw)
    box = Box([x, y, z], [width, length, height], turn, velocity=(vx, vy, 0))
    pose = Quaternion(matrix=Rotation.from_euler("xyz", frame.rotation, degrees=True).as_matrix())
    box.translate(-np.array(frame.translation))
    box.rotate(pose.inverse)
    forward = box.orientation.rotation_matrix[:, 0]
    width, length, height = box.wlh
    return [*box.center, length, width, height, np.arctan2(forward[1], forward[0]), *box.velocity[:2]]


@given(ANGLES, ANGLES, ANGLES)
def test_angles_turn_as_scipys_about_fixed_axes(roll, pitch, yaw):
    expected = Rotation.from_euler("xyz", [roll, pitch, yaw], degrees=True).as_matrix()
    np.testing.assert_allclose(rotation_from_angles(*np.radians([roll, pitch, yaw])), expected, atol=1e-12)


def test_the_pose_is_nuscenes_calibration_of_the_lidar():
    rotation = Quaternion(0.7077955119163518, -0.006492242056004365, 0.010646214713995808, -0.7063073142877817)
    base_from_lidar = rotation.transformation_matrix
    base_from_lidar[:3, 3] = 0.943713, 0.0, 1.84023
    np.testing.assert_allclose(inverse(LIDAR_TOP.network_from_base()), base_from_lidar, atol=2e-7)


@pytest.mark.parametrize("frame", [LIDAR_TOP, UPRIGHT], ids=["tilted", "upright"])
def test_points_and_boxes_of_a_batch_are_where_the_devkit_moves_them(tiny_index, tiny_config, frame):
    sample = load_sample(tiny_index, 2, tiny_config)
    batch = collate_for(settings(tiny_config, frame))([sample])
    pose = Rotation.from_euler("xyz", frame.rotation, degrees=True)
    expected = pose.inv().apply(sample.frame.points[:, :3].astype(float) - frame.translation)
    np.testing.assert_allclose(batch.sensors.points[:, :3], expected, atol=2e-5)
    np.testing.assert_array_equal(batch.sensors.points[:, 3:], sample.frame.points[:, 3:])
    boxes = [moved_by_the_devkit(row, frame) for row in sample.boxes.values]
    np.testing.assert_allclose(batch.boxes[0], boxes, atol=1e-4)
    np.testing.assert_array_equal(batch.map_masks[0], sample.map_masks)  # maps stay in base_link


@given(POSES)
def test_boxes_come_back_with_heading_and_velocity(frame):
    boxes, move = random_boxes(20), frame.network_from_base()
    back = in_base_link(move_boxes(boxes, move), move)
    error = back.values - boxes.values
    error[:, 6] = np.angle(np.exp(1j * error[:, 6]))
    np.testing.assert_allclose(error, 0, atol=2e-5)
    np.testing.assert_array_equal(back.labels, boxes.labels)


def test_boxes_in_a_tilted_frame_come_back_to_a_thousandth():
    move, boxes = LIDAR_TOP.network_from_base(), random_boxes(200)
    error = in_base_link(move_boxes(boxes, move), move).values - boxes.values
    assert np.abs(error[:, :6]).max() < 2e-5  # centres and sizes are exact, what lies in the plane is projected twice
    assert np.abs(np.angle(np.exp(1j * error[:, 6]))).max() < 1e-3 and np.abs(error[:, 7:]).max() < 9e-3


def test_an_unknown_velocity_stays_unknown():
    boxes = random_boxes(3)
    boxes.values[1, 7:] = np.nan
    moved = move_boxes(boxes, LIDAR_TOP.network_from_base()).values
    assert np.isnan(moved[1, 7:]).all() and np.isfinite(np.delete(moved, 1, 0)).all()


@given(POSES)
def test_a_pixel_looks_at_the_same_point_from_any_frame(frame):
    views = tuple(
        CameraImage(name, np.zeros((2, 2, 3), np.uint8), 0, np.eye(3), np.eye(3), mounting(yaw))
        for name, yaw in (("CAM_FRONT", 0.1), ("CAM_BACK", 3.0))
    )
    then = np.eye(4)
    then[:3, 3] = -5.0, 0.3, 0.0
    point = np.array([[12.0, 3.0, 1.0, 9.0, 0.0]], np.float32)
    move = frame.network_from_base()
    moved = move_frame(Frame(point, 0, cameras=views, past=(PastFrame(views, then),)), move)
    for camera, old in zip(moved.cameras, views, strict=True):
        place = np.linalg.inv(camera.base_from_camera) @ [*moved.points[0, :3], 1]
        np.testing.assert_allclose(place, np.linalg.inv(old.base_from_camera) @ [*point[0, :3], 1], atol=1e-4)
        # What stood at the point in the past, seen by the camera of then.
        past = moved.past[0]
        seen = np.linalg.inv(past.cameras[0].base_from_camera) @ np.linalg.inv(past.now_from_then)
        expected = np.linalg.inv(views[0].base_from_camera) @ np.linalg.inv(then) @ [*point[0, :3], 1]
        np.testing.assert_allclose(seen @ [*moved.points[0, :3], 1], expected, atol=1e-4)


def test_cameras_past_and_present_of_a_model_are_moved_and_absent_ones_stay_marked(tmp_path, config_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0061": 2})
    prepare(root, "v1.0-mini", tmp_path / "index")
    index = FrameIndex.open(tmp_path / "index", "mini_train")
    config = load_config(config_path.with_name("bevdet4d_depth_small.yaml"))
    frame, move = load_frame(index, 1, config), UPRIGHT.network_from_base()
    here, there = (sensors_for(settings(config, pose), [frame]) for pose in (None, UPRIGHT))
    np.testing.assert_allclose(there.cameras.base_from_camera, move @ here.cameras.base_from_camera.numpy(), atol=1e-5)
    assert bool((there.cameras.present == here.cameras.present).all())
    for ours, theirs in zip(there.past, here.past, strict=True):
        expected = move @ theirs.now_from_then.numpy() @ np.linalg.inv(move)
        np.testing.assert_allclose(ours.now_from_then, expected, atol=1e-5)


def test_augmentation_happens_in_base_link_whatever_the_frame(tiny_index, tiny_config):
    here, there = settings(tiny_config, None), settings(tiny_config, UPRIGHT)
    plain, turned = (collate_for(c)([training_set(c, tiny_index, c.training)[1, 1]]) for c in (here, there))
    back = in_base_link(Boxes(turned.boxes[0].numpy(), turned.labels[0].numpy()), there.network_from_base)
    np.testing.assert_allclose(back.values[:, :6], plain.boxes[0][:, :6], atol=1e-4)
    np.testing.assert_array_equal(turned.map_masks, plain.map_masks)


def perfect_maps(batch, config):
    """Make the output of a head that meets its targets in every cell where an object is."""
    maps, grid = [], config.grid.grid()
    for ids in config.detection.class_ids():
        targets = center_targets(batch.boxes, batch.labels, ids, grid)
        fields = {}
        for name in TaskMaps._fields[1:6]:
            fields[name] = torch.zeros(1, targets.fields[name].shape[1], *grid.shape)
            fields[name].flatten(2)[0, :, targets.cell] = targets.fields[name].T
        maps.append(TaskMaps(targets.heatmap.clamp(1e-4, 1 - 1e-4).logit(), **fields))
    return maps


@pytest.mark.parametrize("frame", [LIDAR_TOP, UPRIGHT], ids=["tilted", "upright"])
def test_a_head_that_meets_its_targets_says_the_boxes_of_base_link(tiny_index, tiny_config, frame):
    config, sample = settings(tiny_config, frame), load_sample(tiny_index, 0, tiny_config)
    maps = perfect_maps(collate_for(config)([sample]), config)
    found, scores = detections_of(build_decoder(config), maps, config.network_from_base)
    sure = found.values[scores > 0.99]
    assert len(sure) == len(sample.boxes) > 4
    for row in sample.boxes.values:
        error = sure[np.linalg.norm(sure[:, :3] - row[:3], axis=1).argmin()] - row
        assert np.abs(error[:6]).max() < 1e-3 and abs(np.angle(np.exp(1j * error[6]))) < 1e-3
        assert not np.abs(error[7:]).max() > 1e-2


def test_a_validation_scores_the_same_in_any_frame(tiny_index, tiny_config):
    scores = []
    for frame in (None, LIDAR_TOP):
        config = settings(tiny_config, frame)
        batch, validator = collate_for(config)([load_sample(tiny_index, 0, config)]), Validator(config)
        validator.update(ModelOutput(None, perfect_maps(batch, config), None, None), batch)
        scores.append(validator.boxes.average_precision())
    assert scores[1] == pytest.approx(scores[0], abs=0.02) and sum(scores[0].values()) > 3


@pytest.mark.parametrize("place", [(20.7, -10.2), (-31.0, 12.0)])
def test_a_picture_shows_a_networks_cell_where_it_lies_in_base_link(tiny_config, place):
    config, grid = settings(tiny_config, UPRIGHT), tiny_config.grid.grid()
    turn = Rotation.from_euler("xyz", UPRIGHT.rotation, degrees=True)
    x, y, _ = turn.inv().apply(np.array([*place, 0.0]) - UPRIGHT.translation)
    values = torch.zeros(grid.shape)
    values[int((y - grid.y_min) / grid.cell), int((x - grid.x_min) / grid.cell)] = 1.0
    row, column = np.argwhere(cells_in_base_link(values, config).numpy() == 1)[0]
    centres_y, centres_x = grid.centres()
    assert np.hypot(centres_x[column] - place[0], centres_y[row] - place[1]) < 1.5 * grid.cell


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("frame={translation: [0, 0]}", "frame.translation"),
        ("frame={translation: [0, 0, .nan]}", "frame.translation.2"),
        ("frame={yaw: -90}", "frame.yaw: unknown key"),
        ("frame={rotation: [0, -90, 0]}", "frame: Value error, rotation: roll and pitch of more than 10°"),
    ],
)
def test_a_bad_frame_is_named_by_its_key(config_path, override, key):
    with pytest.raises(UserError, match="frame") as error:
        load_config(config_path, [override])
    assert key in str(error.value) and "\n" not in str(error.value)
