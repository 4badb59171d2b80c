"""A shipped student adapted to a vehicle's LiDAR in a simulation of it: one command, and a card of the new sensor."""

from pathlib import Path

import pytest

from vexkd_model.cli import main
from vexkd_model.config.sensors import LidarSensor, SensorsConfig
from vexkd_model.deploy.card import read_card
from vexkd_model.deploy.package import load_package
from vexkd_model.errors import UserError
from vexkd_model.sensor_check.statistics import CameraStatistics, InputStatistics, Spread
from vexkd_model.synth import synthesise
from vexkd_model.synth.like import sensors_like, sensors_of_card
from vexkd_model.training.run import taught_by

SHIPPED = Path(__file__).parents[3] / "models" / "lidar_distilled"
VERSION = "v1.0-trainval"
VAN = LidarSensor(
    elevations=(-22.0, -15.0, -10.0, -7.0, -4.5, -2.5, -1.0, 1.0),
    columns=360,
    translation=(1.2, 0.0, 2.4),
    yaw=0,
    rate=10,
    intensity_max=1,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("van") / "data"
    synthesise(out, "bench-small", 1, scenes=["scene-0001"], sensors=SensorsConfig(lidar=VAN, cameras={}))
    assert main(["prepare", str(out), "--version", VERSION, "--split", "train"]) == 0
    return out


def train(data: Path, run: Path, *more: str) -> int:
    sets = ["training.epochs=1", "training.learning_rate=0.0005", *more]
    return main(
        ["train", str(SHIPPED / "model.yaml"), "--weights", str(SHIPPED), "--dataroot", str(data)]
        + ["--version", VERSION, "--out", str(run), "--device", "cpu", "--workers", "0"]
        + [word for setting in sets for word in ("--set", setting)]
    )


def test_intensities_that_would_vanish_beside_those_of_the_configuration_are_refused(data: Path, tmp_path: Path):
    with pytest.raises(SystemExit, match=r"its intensities end at 1, and lidar_pillar_small expects 0 … 255.*max=1$"):
        train(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_shipped_student_goes_on_with_a_new_sensor_and_its_card_says_which(data: Path, tmp_path: Path):
    run, package = tmp_path / "run", tmp_path / "adapted"
    assert train(data, run, "lidar.intensity_max=1") == 0
    assert main(["export", str(run), str(package)]) == 0
    config, card = read_card(package)
    assert config.lidar is not None and config.lidar.intensity_max == 1
    assert card.trained_on["frames"] == 6 and card.trained_on["sensors"]["lidar"]["rate"] == 10
    assert card.inputs is not None and card.inputs.lidar is not None
    assert card.inputs.lidar.beams is not None and card.inputs.lidar.beams.median == 8
    assert card.inputs.lidar.intensity_max is not None and card.inputs.lidar.intensity_max.most <= 1
    before, after = (load_package(folder)[0].state_dict() for folder in (SHIPPED, package))
    moved = {name: (after[name] - before[name]).abs().max().item() for name in before if name.endswith("weight")}
    assert 0 < max(moved.values()) < 0.01  # one step from the shipped weights

    began = card.trained_on["initial_weights"]
    assert began["weights_sha256"] == read_card(SHIPPED)[1].weights_sha256 and began["from"] == str(SHIPPED)
    # The teacher of the shipped student, or of the weights that it began with, is the new one's, too.
    assert "teacher" not in card.trained_on and taught_by(run) == taught_by(package) == taught_by(SHIPPED)
    assert taught_by(SHIPPED) == "vexkd_teacher_small"

    like = sensors_like(package).lidar
    assert (like.beams, like.rate, like.intensity_max) == (8, 10, 1)
    assert like.translation[2] == pytest.approx(2.4, abs=0.05)
    assert (like.lowest, like.highest) == (pytest.approx(-22, abs=0.1), pytest.approx(1, abs=0.1))


def test_a_card_tells_its_cameras_to_whoever_imitates_them():
    camera = CameraStatistics(
        name="CAM_BACK",
        frames=1,
        size=(1280, 960),
        focal=Spread(least=0.5, median=0.5, most=0.5),
        brightness=Spread(least=1, median=1, most=1),
        saturated=Spread(least=0, median=0, most=0),
        position=(-1.0, 0.25, 1.5),
        direction=(-0.8, 0.0, -0.6),
        roll=Spread(least=0, median=0, most=0),
    )
    like = sensors_of_card(InputStatistics(lidar=None, cameras=(camera,)))
    assert set(like.cameras) == {"CAM_BACK"}
    described = like.cameras["CAM_BACK"]
    assert (described.translation, described.focal, described.size) == ((-1.0, 0.25, 1.5), 640, (1280, 960))
    assert (described.yaw, described.pitch) == (pytest.approx(180), pytest.approx(36.87, abs=0.01))


def test_a_package_without_statistics_cannot_be_imitated(tmp_path: Path):
    from vexkd_model.config import load_config
    from vexkd_model.deploy.package import save_package
    from vexkd_model.model import build_model

    config = load_config(SHIPPED / "model.yaml")
    save_package(tmp_path / "mute", build_model(config), config, {}, {}, "test")
    with pytest.raises(UserError, match=r"card\.json: does not say what its sensors were like; give a sensor"):
        sensors_like(tmp_path / "mute")
