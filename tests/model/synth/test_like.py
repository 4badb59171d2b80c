"""Datasets of other sensors than nuScenes': points, calibration and stamps are those of the description."""

import json
from pathlib import Path

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from pyquaternion import Quaternion

from tests.model.synth.conftest import PRESET, SEED, VAL_SCENE
from vexkd_model.config.sensors import NUSCENES, CameraSensor, LidarSensor, SensorsConfig, dump_sensors, load_sensors
from vexkd_model.errors import UserError
from vexkd_model.synth import PRESETS, synthesise

ELEVATIONS = (-22.0, -14.0, -9.0, -6.0, -4.0, -2.5, -1.25, -0.5, 0.0, 0.5, 2.0, 5.0)
OWN_M = 2.0  # nothing nearer than this is part of the street
VAN = SensorsConfig(
    lidar=LidarSensor(
        elevations=ELEVATIONS, columns=720, max_range=60, translation=(1.2, 0.0, 2.4), yaw=0, rate=10, intensity_max=1
    ),
    cameras={"CAM_FRONT": CameraSensor(translation=(2.0, 0.1, 2.1), yaw=5, pitch=10, focal=900, size=(1280, 960))},
)


@pytest.fixture(scope="module")
def van(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("van") / "dataset"
    synthesise(out, PRESET, SEED, scenes=[VAL_SCENE], sensors=VAN)
    return out


@pytest.fixture(scope="module")
def tables(van: Path) -> NuScenes:
    return NuScenes(PRESETS[PRESET].version, str(van), verbose=False)


def _calibration(tables: NuScenes, record: dict) -> dict:
    return tables.get("calibrated_sensor", record["calibrated_sensor_token"])


def test_points_lie_at_the_described_elevations_ranges_and_intensities(van, tables):
    sweeps = [record for record in tables.sample_data if record["channel"] == "LIDAR_TOP"]
    for record in sweeps[:6]:
        points = np.fromfile(van / record["filename"], np.float32).reshape(-1, 5)
        assert len(points) == len(ELEVATIONS) * 720
        street = points[np.linalg.norm(points[:, :3], axis=1) > OWN_M].astype(np.float64)
        distance = np.linalg.norm(street[:, :3], axis=1)
        elevation = np.degrees(np.arcsin(street[:, 2] / distance))
        assert np.abs(elevation - np.array(ELEVATIONS)[street[:, 4].astype(int)]).max() < 1e-3
        assert 55 < distance.max() < 60.2
        assert (street[:, 3] >= 0).all() and 0.2 < street[:, 3].max() <= 1
        # x is ahead: the street is free there, and the vehicle's frame needs no turn.
        base_from_lidar = Quaternion(_calibration(tables, record)["rotation"]).rotation_matrix
        assert np.degrees(np.arccos(base_from_lidar[0, 0])) < 2
        mounted = np.array(_calibration(tables, record)["translation"])
        assert np.abs(mounted - [1.2, 0, 2.4]).max() <= 0.04
        own_lane = (street[:, 4] == 0) & (np.abs(street[:, 1]) < 1.2)
        ground = (street[own_lane, :3] @ base_from_lidar.T + mounted)[:, 2]
        assert len(ground) > 20 and abs(np.median(ground)) < 0.03


def test_revolutions_are_as_far_apart_as_described(tables):
    stamps = np.array(sorted(r["timestamp"] for r in tables.sample_data if r["channel"] == "LIDAR_TOP"))
    assert set(np.diff(stamps)) == {100_000}  # 10 Hz, without a gap
    preset = PRESETS[PRESET]
    assert len(stamps) == preset.keyframes * 5  # the keyframe's, and four before it: the 0.4 s of eight at 20 Hz


def test_cameras_replace_nuscenes_and_have_their_shape(van, tables):
    records = [record for record in tables.sample_data if record["channel"] != "LIDAR_TOP"]
    assert (
        {record["channel"] for record in records}
        == {"CAM_FRONT"}
        == {s["channel"] for s in tables.sensor} - {"LIDAR_TOP"}
    )
    assert {(record["width"], record["height"]) for record in records} == {(256, 192)}
    calibration = _calibration(tables, records[0])
    (fx, _, cx), (_, fy, cy), _ = calibration["camera_intrinsic"]
    assert fx == pytest.approx(fy) == pytest.approx(900 * 256 / 1280, rel=0.03)
    assert (cx, cy) == (pytest.approx(128, abs=4), pytest.approx(96, abs=4))
    view = Quaternion(calibration["rotation"]).rotation_matrix[:, 2]
    assert np.degrees(np.arctan2(view[1], view[0])) == pytest.approx(5, abs=1.1)
    assert np.degrees(np.arcsin(-view[2])) == pytest.approx(10, abs=1.1)  # downwards
    for sample in tables.sample:  # the LiDAR passes 5° to the left 105 of 360° after it begins at 110°
        lidar, camera = (
            tables.get("sample_data", sample["data"][name])["timestamp"] for name in ("LIDAR_TOP", "CAM_FRONT")
        )
        assert lidar - camera == pytest.approx(100_000 * (1 - 105 / 360), abs=1001)


def test_the_street_is_the_same_whatever_sensors_drive_through_it(van, dataset):
    annotations = [json.loads((root / "v1.0-trainval/sample_annotation.json").read_text()) for root in (van, dataset)]
    places = [{(row["token"], *row["translation"]) for row in rows} for rows in annotations]
    assert len(places[0] & places[1]) > 20


def test_a_begun_dataset_goes_on_with_its_own_sensors_alone(van, dataset):
    assert json.loads((van / "synth.json").read_text())["sensors"]["lidar"]["rate"] == 10
    before = {path: path.stat().st_mtime_ns for path in van.glob("samples/*/*")}
    synthesise(van, PRESET, SEED, scenes=[VAL_SCENE], sensors=VAN.model_copy(deep=True))
    assert {path: path.stat().st_mtime_ns for path in van.glob("samples/*/*")} == before
    for root, sensors in (
        (van, NUSCENES),
        (dataset, VAN),
        (van, VAN.model_copy(update={"lidar": LidarSensor(rate=10)})),
    ):
        with pytest.raises(UserError, match=r"synth\.json: holds data of other sensors than --like says; give another"):
            synthesise(root, PRESET, SEED, scenes=[VAL_SCENE], sensors=sensors)


def test_a_description_reads_back_as_it_was_written(tmp_path):
    for sensors in (VAN, NUSCENES, SensorsConfig(lidar=LidarSensor(beams=7, lowest=-3, highest=3), cameras={})):
        path = tmp_path / "sensors.yaml"
        path.write_text(dump_sensors(sensors))
        assert load_sensors(path) == sensors


def test_the_shipped_example_has_64_beams_that_ascend():
    lidar = load_sensors(Path("lidar64")).lidar
    assert lidar.elevations is not None and len(lidar.elevations) == 64
    assert (lidar.translation[2], lidar.intensity_max) == (2.4, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lidar: {beems: 64}", r"lidar\.beems: unknown key; did you mean lidar\.beams\?"),
        ("lidar: {rate: fast}", r"lidar\.rate: Input should be a valid number"),
        ("lidar: {elevations: [1, 2, 2]}", r"lidar: Value error, elevations must ascend, each one once"),
        ("lidar: {elevations: [1, 2], beams: 2}", r"elevations say beams, too; keep one of both"),
        ("lidar: {lowest: 20}", r"highest must be above lowest"),
        ("lidar: {max_range: -1}", r"lidar\.max_range: "),
        (
            "cameras: {FRONT: {translation: [0, 0, 1], yaw: 0, focal: 900}}",
            r"cameras: FRONT is none of CAM_FRONT_LEFT, ",
        ),
        ("cameras: {CAM_FRONT: {translation: [0, 0, 1], yaw: 0}}", r"cameras\.CAM_FRONT\.focal: Field required"),
        ("- 1", r"must hold the keys of a sensor description, like config/sensors/lidar64\.yaml"),
    ],
)
def test_a_wrong_description_is_named_by_file_and_key(tmp_path, text, message):
    path = tmp_path / "sensors.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"^{path}: .*{message}"):
        load_sensors(path)
