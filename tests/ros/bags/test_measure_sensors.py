"""Sensors measured from a bag are those of the vehicle that recorded it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyquaternion import Quaternion
from support.spoilt_bags import of, rewritten, without_transforms

from vexkd_model.config.sensors import CameraSensor, SensorsConfig, load_sensors
from vexkd_model.synth import synthesise
from vexkd_ros.bags.nuscenes_to_bag import convert
from vexkd_ros.doctor.command import main

VERSION, SCENE = "v1.0-trainval", "scene-0003"
VAN = SensorsConfig(
    lidar=load_sensors(Path("lidar64")).lidar,
    cameras={
        "CAM_FRONT": CameraSensor(translation=(2.0, 0.1, 2.1), yaw=5, pitch=8, focal=900, size=(1280, 960)),
        "CAM_BACK_LEFT": CameraSensor(translation=(0.5, 1.0, 2.0), yaw=120, focal=500, size=(1280, 960)),
    },
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("van") / "data"
    synthesise(out, "bench-small", 43, scenes=[SCENE], sensors=VAN)
    torch.set_num_threads(threads)
    return out


@pytest.fixture(scope="module")
def bag(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(data, VERSION, tmp_path_factory.mktemp("bags"))[0]


def measured(bag: Path, tmp_path: Path, *options: str) -> SensorsConfig:
    main(["--bag", str(bag), "--sensors-out", str(tmp_path / "sensors.yaml"), *options])
    return load_sensors(tmp_path / "sensors.yaml")


def calibrated(data: Path) -> dict[str, Any]:
    """Calibration of each sensor in the dataset, which a scene draws around the description."""
    tables = {
        name: json.loads((data / VERSION / f"{name}.json").read_text()) for name in ("sensor", "calibrated_sensor")
    }
    channels = {row["token"]: row["channel"] for row in tables["sensor"]}
    return {channels[row["sensor_token"]]: row for row in tables["calibrated_sensor"]}


def assert_beams_are_the_vans(lidar) -> None:
    assert len(lidar.elevations) == 64
    assert np.abs(np.array(lidar.elevations) - VAN.lidar.elevations).max() < 0.1
    assert (lidar.columns, lidar.rate, lidar.intensity_max) == (1024, 10, 1)


def test_the_bag_of_a_van_is_measured_as_the_van_was_described(data: Path, bag: Path, tmp_path: Path) -> None:
    sensors, truth = measured(bag, tmp_path), calibrated(data)
    assert_beams_are_the_vans(sensors.lidar)
    assert 118 < sensors.lidar.max_range < 120.2
    assert sensors.lidar.translation == pytest.approx(truth["LIDAR_TOP"]["translation"], abs=0.01)
    assert sensors.lidar.translation[2] == pytest.approx(2.4, abs=0.05)
    assert sensors.lidar.yaw == pytest.approx(0, abs=1.1)
    assert set(sensors.cameras) == set(VAN.cameras)
    for name, camera in sensors.cameras.items():
        (fx, _, _), _, _ = truth[name]["camera_intrinsic"]
        assert camera.translation == pytest.approx(truth[name]["translation"], abs=0.01)
        assert camera.size == (256, 192)
        assert camera.focal == pytest.approx(fx, rel=1e-3)
        view = Quaternion(truth[name]["rotation"]).rotation_matrix[:, 2]
        assert camera.yaw == pytest.approx(np.degrees(np.arctan2(view[1], view[0])), abs=0.02)
        assert camera.pitch == pytest.approx(-np.degrees(np.arcsin(view[2])), abs=0.02)


def test_what_was_measured_can_be_imitated(bag: Path, tmp_path: Path) -> None:
    sensors = measured(bag, tmp_path)
    synthesise(tmp_path / "data", "bench-small", 1, scenes=[], sensors=sensors)
    channels = {row["channel"] for row in json.loads((tmp_path / "data" / VERSION / "sensor.json").read_text())}
    assert channels == {"LIDAR_TOP", *VAN.cameras}


def test_beams_are_found_by_their_elevations_where_no_field_counts_them(bag: Path, tmp_path: Path) -> None:
    def ring_hidden(message: Any) -> Any:
        for field in message.fields:
            field.name = "unknown" if field.name == "ring" else field.name
        return message

    spoilt = rewritten(bag, tmp_path / "ringless", of("/lidar/points", ring_hidden))
    assert_beams_are_the_vans(measured(spoilt, tmp_path).lidar)


def test_without_a_mounting_nothing_is_written_but_why(bag: Path, tmp_path: Path) -> None:
    spoilt = rewritten(bag, tmp_path / "unmounted", without_transforms({"lidar_top"}))
    with pytest.raises(SystemExit, match=r"/lidar/points: .*; its height and beams cannot be measured without$"):
        main(["--bag", str(spoilt), "--sensors-out", str(tmp_path / "sensors.yaml")])
    assert not (tmp_path / "sensors.yaml").exists()
