"""Monitor of the shipped student's sensors: silent on the world of its training, and each fault is named."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.rig import lens, mounting, turned

from vexkd_model.config import load_config
from vexkd_model.data.image_files import load_view
from vexkd_model.data.images import StoredImage, shrunk, view_of
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.data.sweeps import Sweep
from vexkd_model.deploy.package import load_package
from vexkd_model.sensor_check.measure import measure_image
from vexkd_model.sensor_check.measure_split import measure_inputs
from vexkd_model.sensor_check.monitor import FEWEST, SensorMonitor
from vexkd_model.sensor_check.statistics import CameraStatistics, InputStatistics
from vexkd_model.synth.lidar import scan
from vexkd_model.synth.world import build_world, random_stream
from vexkd_model.types import CameraImage

REPOSITORY = Path(__file__).parents[3]
CAMERA_MODEL = load_config(REPOSITORY / "config" / "model" / "bevdet_small.yaml")
IMAGES = CAMERA_MODEL.camera.images
SEED = 41  # the shipped student never saw a scene of it
UNTURNED = mounting(at=(1.7, 0.0, 1.5))  # a camera that looks ahead


@pytest.fixture(scope="module")
def student():
    _, config, card = load_package(REPOSITORY / "models" / "lidar_distilled")
    return card.inputs, config


@pytest.fixture(scope="module")
def sweeps():
    """Make one sweep in each of four streets."""
    made = []
    for scene in range(4):
        world = build_world(SEED, scene, 1.0)
        points = scan(world, 0.0, random_stream(SEED, scene, 1, 0)).points[:, :4]
        made.append(Sweep(points, 0, world.rig.base_from_lidar, np.eye(4)))
    return made


def kinds(student, sweeps, repeat=1):
    monitor = SensorMonitor(*student, every_s=0)
    for sweep in sweeps * repeat:
        monitor.see_cloud(sweep)
    assert all("\n" not in found.text and ": " in found.text for found in monitor.mismatches)
    return [found.kind for found in monitor.mismatches]


def with_points(change):
    return lambda sweep: replace(sweep, points=np.ascontiguousarray(change(sweep.points), np.float32))


def with_mount(change):
    return lambda sweep: replace(sweep, base_from_sensor=change(sweep.base_from_sensor))


def brightened(factor):
    return with_points(lambda points: points * [1, 1, 1, factor])


def test_streets_of_the_same_world_fit(student, sweeps):
    assert kinds(student, sweeps, repeat=3) == []


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (with_mount(lambda mount: np.eye(4)), "ground height"),
        (with_mount(lambda mount: mount @ np.diag([1, -1, -1, 1.0])), "ground height"),  # upside down
        (brightened(1 / 255), "intensity scale"),
        (brightened(257), "intensity scale"),
        (brightened(0), "intensity zero"),
        (with_points(lambda points: points[::2]), "beams"),  # rings alternate
        (with_points(lambda points: points[np.random.default_rng(1).random(len(points)) < 0.1]), "points"),
        (with_points(lambda points: points[points[:, 1] > 0]), "coverage"),
        (with_points(lambda points: points * [1000, 1000, 1000, 1]), "units"),
        (with_points(lambda points: points[np.linalg.norm(points[:, :3], axis=1) < 20]), "range"),
        (with_points(lambda points: points * [0, 0, 0, 1]), "no points"),
        (with_points(lambda points: points[:0]), "no points"),
    ],
    ids=[
        "no mounting",
        "upside down",
        "intensity to 1",
        "16 bits",
        "no intensity",
        "half the beams",
        "a tenth",
        "half a turn",
        "millimetres",
        "20 m",
        "no returns",
        "empty",
    ],
)
def test_a_fault_is_named(student, sweeps, fault, kind):
    assert kinds(student, [fault(sweep) for sweep in sweeps]) == [kind]


@pytest.mark.parametrize(
    "fault",
    [
        with_mount(lambda mount: turned(np.pi / 2) @ mount),
        with_mount(lambda mount: turned(-np.pi / 2) @ mount),
        with_points(lambda points: points[:, [1, 0, 2, 3]]),
    ],
    ids=["left", "right", "x and y exchanged"],
)
def test_a_street_that_lies_across_is_named_after_ten_looks(student, sweeps, fault):
    across = [fault(sweep) for sweep in sweeps]
    assert kinds(student, across) == [] and kinds(student, across, repeat=3) == ["turned"]


def test_one_odd_sweep_says_nothing(student, sweeps):
    assert kinds(student, [*sweeps, replace(sweeps[0], points=sweeps[0].points[:50])]) == []


def test_what_has_been_mended_is_no_longer_named(student, sweeps):
    monitor = SensorMonitor(*student, every_s=0)
    for sweep in [brightened(0)(sweeps[0])] * FEWEST:
        monitor.see_cloud(sweep)
    assert len(monitor.mismatches) == 1
    for sweep in [sweeps[0]] * (FEWEST + 1):
        monitor.see_cloud(sweep)
    assert monitor.mismatches == []


def test_a_sensor_is_looked_at_once_in_a_while_only(student, sweeps):
    monitor = SensorMonitor(*student, every_s=3600)
    for sweep in sweeps:
        monitor.see_cloud(sweep)
    assert monitor.moments == {"lidar": 1}


def test_the_real_lidar_of_the_same_type_fits(student, keyframe_dataroot, tmp_path):
    (folder,) = prepare(keyframe_dataroot, "v1.0-mini", tmp_path, ["mini_train"])
    real = FrameIndex.open(folder.parent, "mini_train")[0].sweeps[0].load()
    assert kinds(student, [real] * 12) == []
    assert kinds(student, [with_points(lambda points: points[::2])(real)] * FEWEST) == ["beams"]


@pytest.fixture(scope="module")
def camera_student(tiny_dataroot, tmp_path_factory):
    """Statistics on a camera student's card of the tiny dataset, whose cameras all look ahead, and its images."""
    folder = prepare(tiny_dataroot, "v1.0-mini", tmp_path_factory.mktemp("index"), ["mini_train"])[0]
    index = FrameIndex.open(folder.parent, "mini_train")
    return (measure_inputs(index, CAMERA_MODEL), CAMERA_MODEL), index


def image(width=320, height=180, focal=0.79, pixels=None, pose=UNTURNED, name="CAM_FRONT"):
    if pixels is None:
        pixels = np.random.default_rng(3).integers(60, 140, (height, width, 3), np.uint8)
    seen, image_from_stored = view_of(StoredImage((width, height), partial(shrunk, pixels)), IMAGES)
    return CameraImage(name, seen, 0, lens(focal * width, width, height), image_from_stored, pose)


@pytest.fixture(scope="module")
def seen_cameras():
    """Make statistics of a front camera and of one that looks back, and the model that reads them."""
    back = turned(np.pi) @ UNTURNED
    cameras = tuple(
        CameraStatistics.over(name, [measure_image(image(pose=pose, name=name), IMAGES)] * 3)
        for name, pose in (("CAM_FRONT", UNTURNED), ("CAM_BACK", back))
    )
    return InputStatistics(lidar=None, cameras=cameras), CAMERA_MODEL


def shifted(z):
    pose = UNTURNED.copy()
    pose[2, 3] += z
    return pose


@pytest.mark.parametrize(
    ("received", "kind"),
    [
        (image(), None),
        (image(640, 360), None),  # the same view in more pixels
        (image(focal=0.79 * 1.05), None),
        (image(pose=shifted(0.3)), None),
        (image(pixels=np.zeros((180, 320, 3), np.uint8)), "dark"),
        (image(pixels=np.full((180, 320, 3), 255, np.uint8)), "overexposed"),
        (image(pixels=np.full((180, 320, 3), 220, np.uint8)), "bright"),
        (image(focal=0.79 * 2), "field of view"),
        (image(focal=0.79 / 2), "field of view"),
        (image(320, 240), "aspect"),
        (image(80, 45), "resolution"),
        (image(pose=turned(np.pi) @ UNTURNED), "direction"),
        (image(pose=turned(np.pi / 6) @ UNTURNED), "direction"),
        (image(pose=np.eye(4) + np.array([[0.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1.5], [0, 0, 0, 0]])), "looks up"),
        (image(pose=UNTURNED @ np.diag([-1, -1, 1, 1.0])), "roll"),
        (image(pose=shifted(1.0)), "height"),
    ],
    ids=[
        "same",
        "larger",
        "5 % longer lens",
        "0.3 m higher",
        "black",
        "white",
        "bright",
        "long lens",
        "wide lens",
        "4:3",
        "tiny",
        "exchanged",
        "30° off",
        "body frame",
        "upside down",
        "1 m higher",
    ],
)
def test_a_camera_fits_or_is_named_with_what_differs(seen_cameras, received, kind):
    monitor = SensorMonitor(*seen_cameras, every_s=0)
    for _ in range(FEWEST):
        monitor.see_camera(received)
    assert [(found.sensor, found.kind) for found in monitor.mismatches] == ([("CAM_FRONT", kind)] if kind else [])
    if kind == "direction" and received.base_from_camera[0, 2] < -0.9:
        assert "CAM_BACK looked there, exchange their topics" in monitor.mismatches[0].text


def test_a_camera_that_the_card_does_not_know_is_left_alone(seen_cameras):
    monitor = SensorMonitor(*seen_cameras, every_s=0)
    monitor.see_camera(image(name="CAM_FRONT_LEFT"))
    assert monitor.moments == {"CAM_FRONT": 0, "CAM_BACK": 0}


def test_a_camera_students_card_knows_each_camera_and_no_lidar(camera_student):
    (inputs, config), index = camera_student
    assert inputs.lidar is None and [camera.name for camera in inputs.cameras] == list(config.camera.images.cameras)
    for camera, record in zip(inputs.cameras, index[0].cameras, strict=True):
        assert camera.size == record.size and camera.frames == len(index)
        np.testing.assert_allclose(camera.position, record.base_from_sensor[:3, 3], atol=1e-4)
        assert camera.focal.least <= record.intrinsics[0, 0] / record.size[0] * 1.0001
        brightness = load_view(record, IMAGES).pixels.mean()
        assert camera.brightness.least - 20 < brightness < camera.brightness.most + 20


def test_the_cameras_of_a_dataset_fit_a_student_that_learnt_from_it(camera_student):
    student, index = camera_student
    monitor = SensorMonitor(*student, every_s=0)
    for _ in range(FEWEST):
        for record in index[0].cameras:
            monitor.see_camera(load_view(record, IMAGES))
    assert monitor.mismatches == []
