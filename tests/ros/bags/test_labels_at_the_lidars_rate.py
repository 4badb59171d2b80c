"""A bag whose every cloud is a keyframe: a teacher's labels are on all of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes
from support import labelled_street as street
from support import vehicle_bag as vehicle
from support.spoilt_bags import rewritten

from vexkd_model.autolabel.autolabel import autolabel, plan
from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction
from vexkd_ros.bags.bag_to_nuscenes import convert
from vexkd_ros.bags.dataset.bag_files import Settings
from vexkd_ros.bags.dataset.guess import guess_wiring

REPOSITORY = Path(__file__).parents[3]


class Seer:
    """Detector of the things in the street, a few centimetres off."""

    runtime = "PyTorch, float32"

    def __init__(self) -> None:
        self.config = load_config(REPOSITORY / "config" / "model" / "lidar_pillar_small.yaml", [])
        self.rng = np.random.default_rng(0)

    def predict(self, frame) -> Prediction:
        i = round((frame.stamp_ns - vehicle.START_NS) / 1e8)
        rows = []
        for thing in street.THINGS.values():
            pose = np.linalg.inv(vehicle.map_from_base(i / 10)) @ street.map_from_thing(thing, i)
            place = pose[:3, 3] + self.rng.normal(0, 0.03, 3)
            rows.append([*place, *thing.size, np.arctan2(pose[1, 0], pose[0, 0]), *(thing.speed * pose[:2, 0])])
        labels = [DETECTION_CLASSES.index(street.CLASSES[thing.name]) for thing in street.THINGS.values()]
        scores = np.full(len(rows), 0.9, np.float32)
        return Prediction(Boxes(np.float32(rows), np.array(labels)), scores, None, None, frame.stamp_ns, frame.token)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convert clouds at 10 Hz with a rate above theirs."""
    folder = tmp_path_factory.mktemp("drive")
    bag = vehicle.write_vehicle_bag(folder / "monday")
    wiring = guess_wiring(bag)
    convert([bag], folder / "data", "mine", wiring.model_copy(update={"sensors": wiring.lidars}), Settings(rate=20.0))
    prepare(folder / "data", "mine", folder / "data" / "vexkd" / "mine")
    return folder / "data"


def test_every_cloud_is_a_keyframe_and_the_ones_before_it_are_its_sweeps(data: Path) -> None:
    index = FrameIndex.open(data / "vexkd" / "mine", "train")
    assert [index[k].stamp_ns for k in range(len(index))] == [street.stamp_ns(i) for i in range(street.CLOUDS)]
    ages = index[12].load_points(sweeps=10)[:, 4]
    np.testing.assert_allclose(np.unique(ages), np.arange(10) / 10, atol=1e-6)


def test_a_teacher_labels_every_one_of_them(data: Path) -> None:
    index = FrameIndex.open(data / "vexkd" / "mine", "train")
    teacher = {"name": "seer", "from": "nowhere", "fingerprint": "f" * 64}
    autolabel(Seer(), teacher, plan([index], None, None), "auto", "vexkd autolabel …")
    nusc = NuScenes("auto", str(data), verbose=False)
    assert len(nusc.sample) == street.CLOUDS and len(nusc.instance) == len(street.THINGS)
    for i, sample in enumerate(nusc.sample):
        boxes = [nusc.get_box(token) for token in sample["anns"]]
        assert len(boxes) == len(street.THINGS)
        for thing in street.THINGS.values():
            truth = street.map_from_thing(thing, i)
            box = min(boxes, key=lambda box: np.linalg.norm(box.center - truth[:3, 3]))
            np.testing.assert_allclose(box.center, truth[:3, 3], atol=0.15)
            if 0 < i < street.CLOUDS - 1:
                np.testing.assert_allclose(nusc.box_velocity(box.token)[:2], thing.speed * truth[:2, 0], atol=0.5)


def test_an_image_belongs_to_the_nearer_of_two_keyframes_and_the_other_is_counted(tmp_path: Path, capsys) -> None:
    bag = vehicle.write_vehicle_bag(tmp_path / "monday")
    front = vehicle.IMAGES["cam_f"]

    def every_second_image(topic: str, message: Any) -> Any:
        """Images 45 ms after one cloud and 55 ms before the next."""
        if topic == front:
            if message.header.stamp.nanosec // 10**8 % 2:
                return None
            message.header.stamp.nanosec += 35_000_000
        return message

    slow = rewritten(bag, tmp_path / "slow", every_second_image)
    wiring = guess_wiring(slow)
    sensors = wiring.lidars | {"CAM_FRONT": wiring.cameras["CAM_FRONT"]}
    convert([slow], tmp_path / "data", "mine", wiring.model_copy(update={"sensors": sensors}), Settings(rate=20.0))
    nusc = NuScenes("mine", str(tmp_path / "data"), verbose=False)
    assert ["CAM_FRONT" in sample["data"] for sample in nusc.sample] == [i % 2 == 0 for i in range(street.CLOUDS)]
    assert "CAM_FRONT: 10 of 21 keyframes have no message of their own within 60 ms" in capsys.readouterr().err
