"""Batches with cameras: the same for any number of workers, and right where a camera is missing."""

from dataclasses import is_dataclass, replace

import numpy as np
import pytest
import torch
import yaml
from support.street import boxes_in_base

from vexkd_model.config import load_config, parse_config
from vexkd_model.config.camera import CameraConfig, ImageAugmentConfig, ImageConfig
from vexkd_model.config.training import AugmentConfig, PasteConfig
from vexkd_model.data.batch import collate, stack_cameras
from vexkd_model.data.dataset import TrainingSet, load_sample, read_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.loader import training_loader
from vexkd_model.data.sampling import Draw
from vexkd_model.errors import UserError
from vexkd_model.types import CAMERAS

AUGMENT = AugmentConfig(rotation=0.785, scale=0.1, translation=0.5, flip=True)
IMAGES = ImageConfig(
    width=160, height=64, zoom=1.09, augment=ImageAugmentConfig(zoom=(0.864, 1.25), rotation=0.0942, flip=True)
)
PASTE = PasteConfig(objects={"bus": 1, "car": 4}, min_points=5, off_for_last_epochs=1)


def without_camera(index, i, name):
    """The index, without one camera of one frame."""

    class Gap(FrameIndex):
        def __getitem__(self, number):
            record = super().__getitem__(number)
            cameras = tuple(camera for camera in record.cameras if number != i or camera.name != name)
            return replace(record, cameras=cameras)

    return Gap.open(index.folder.parent, index.split)


def test_a_batch_shows_every_camera_of_every_frame_in_the_order_of_the_configuration(tiny_index, tiny_config):
    samples = [load_sample(tiny_index, i, settings(tiny_config)) for i in (2, 0)]
    cameras = collate(samples, IMAGES).sensors.cameras
    assert cameras.images.shape == (2, 6, 3, 64, 160) and cameras.images.dtype == torch.uint8 and cameras.present.all()
    for b, sample in enumerate(samples):
        assert tuple(image.name for image in sample.frame.cameras) == CAMERAS
        for n, image in enumerate(sample.frame.cameras):
            np.testing.assert_array_equal(cameras.images[b, n].permute(1, 2, 0), image.pixels)
            np.testing.assert_allclose(
                cameras.image_from_camera[b, n], image.image_from_stored @ image.intrinsics, rtol=1e-5
            )
            np.testing.assert_allclose(cameras.base_from_camera[b, n], image.base_from_camera, atol=1e-5)


def test_only_the_cameras_of_the_configuration_are_read(tiny_index):
    images = IMAGES.model_copy(update={"cameras": ("CAM_FRONT", "CAM_BACK")})
    frame = read_frame(tiny_index[0], 1, images)
    assert [image.name for image in frame.cameras] == ["CAM_FRONT", "CAM_BACK"]
    assert stack_cameras([frame.cameras], images).images.shape == (1, 2, 3, 64, 160)


def test_a_camera_that_is_absent_is_black_and_marked_and_changes_nothing_else(tiny_index):
    whole = TrainingSet(tiny_index, 1, AUGMENT, 0, IMAGES)
    gap = TrainingSet(without_camera(tiny_index, 0, "CAM_FRONT"), 1, AUGMENT, 0, IMAGES)
    expected, found = (collate([data[0, 0], data[0, 1]], IMAGES).sensors.cameras for data in (whole, gap))
    assert found.present.tolist() == [[name != "CAM_FRONT" for name in CAMERAS], [True] * 6]
    assert not found.images[0, 1].any()
    np.testing.assert_array_equal(found.base_from_camera[0, 1], np.eye(4))
    for name, value in vars(found).items():
        assert torch.equal(value[found.present], getattr(expected, name)[found.present])


def test_frames_without_any_image_still_make_a_batch(tiny_index):
    cameras = stack_cameras([read_frame(tiny_index[0], 1).cameras], IMAGES)
    assert not cameras.present.any() and not cameras.images.any()


def test_a_student_without_cameras_reads_no_image_and_one_without_lidar_no_point(tiny_index, tiny_config, monkeypatch):
    def refuse(*_):
        raise AssertionError("was read")

    with monkeypatch.context() as patch:
        patch.setattr("vexkd_model.data.dataset.load_view", refuse)
        assert collate([load_sample(tiny_index, 0, tiny_config)]).sensors.cameras is None
    monkeypatch.setattr("vexkd_model.data.index.SweepRecord.load", refuse)
    assert read_frame(tiny_index[0], 0, IMAGES).points.shape == (0, 5)


def test_a_batch_goes_to_a_device_whole(tiny_index, tiny_config):
    batch = collate([load_sample(tiny_index, 0, settings(tiny_config))], IMAGES).to("meta")
    tensors = (batch.sensors.points, *batch.boxes, batch.sensors.cameras.images)
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.tokens == ["scene-0061-0"] and len(batch) == 1


def test_augmented_things_are_still_seen_where_their_pixels_show_them(tiny_index):
    """Boxes and cameras, both augmented: projected centres of things hit their white squares."""
    images = IMAGES.model_copy(update={"width": 320, "height": 180})
    data, seen = TrainingSet(tiny_index, 1, AUGMENT, 0, images), 0
    things = [thing for thing, _ in boxes_in_base(0) if thing.points and thing.category != "animal"]
    for epoch in range(4):
        sample = data[epoch, 0]
        assert len(sample.boxes) == len(things)
        centres = np.column_stack([sample.boxes.values[:, :3].astype(float), np.ones(len(things))])
        for image in sample.frame.cameras:
            u, v, depth = image.image_from_camera @ (np.linalg.inv(image.base_from_camera) @ centres.T)[:3]
            for column, row in (
                np.column_stack([u, v])[(depth > 1) & (depth < 60)] / depth[(depth > 1) & (depth < 60), None]
            ):
                if 3 <= column < 317 and 3 <= row < 177:
                    assert image.pixels[int(row), int(column)].min() > 180
                    seen += 1
    assert seen > 20


def test_the_same_draw_is_the_same_sample_and_a_repeat_is_another(tiny_index):
    data = TrainingSet(tiny_index, 1, AUGMENT, 0, IMAGES)
    first, same, repeat = data[Draw(0, 1)], data[0, 1], data[Draw(0, 1, 1)]
    np.testing.assert_array_equal(first.frame.cameras[0].pixels, same.frame.cameras[0].pixels)
    assert not np.array_equal(first.frame.points, repeat.frame.points)
    assert not np.array_equal(first.frame.cameras[0].image_from_stored, repeat.frame.cameras[0].image_from_stored)


def settings(tiny_config, **training):
    camera = CameraConfig.model_construct(images=IMAGES, past_frames=1, view=None)
    changed = {"camera": camera} if "paste" not in training else {}
    training = tiny_config.training.model_copy(update={"batch_size": 2, **training})
    return tiny_config.model_copy(update={**changed, "training": training})


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return equal(list(vars(a).values()), list(vars(b).values())) if is_dataclass(a) else a == b


@pytest.mark.parametrize(
    "training", [{"class_balanced": True}, {"class_balanced": True, "paste": PASTE}], ids=["cameras", "paste"]
)
def test_the_same_seed_gives_the_same_batches_for_any_number_of_workers(tiny_config, tiny_index, training):
    config = settings(tiny_config, **training)
    alone, shared = (list(training_loader(config, tiny_index, workers)) for workers in (0, 2))
    assert len(alone) > 5 and all(map(equal, alone, shared))
    other = list(training_loader(settings(tiny_config, **training, seed=9), tiny_index, 0))
    assert not equal(alone[0], other[0])


PUBLISHED = {
    "width": 704,
    "height": 256,
    "zoom": 1.09,
    "augment": {"zoom": [0.864, 1.25], "rotation": 0.0942, "flip": True},
}


def configured(config_path, images, paste=None):
    name = "bevdet_small.yaml" if images else "lidar_pillar_small.yaml"
    values = yaml.safe_load(config_path.with_name(name).read_text())
    if images:
        values["camera"]["images"] = images
    values["training"]["paste"] = paste
    return parse_config(values, "some.yaml")


def test_objects_are_not_pasted_where_cameras_would_not_show_them(config_path):
    paste = {"objects": {"car": 2}, "min_points": 5, "off_for_last_epochs": 5}
    assert configured(config_path, None, paste).training.paste.objects == {"car": 2}
    assert configured(config_path, PUBLISHED).camera.images.cameras == CAMERAS
    with pytest.raises(UserError, match="only, not into images"):
        configured(config_path, PUBLISHED, paste)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"width": 0}, r"images\.width"),
        ({"cameras": ["CAM_BACK", "CAM_FRONT"]}, "in this order"),
        ({"cameras": ["CAM_TOP"]}, r"images\.cameras"),
        ({"cameras": []}, r"images\.cameras"),
        ({"augment": PUBLISHED["augment"] | {"zoom": [2, 1]}}, "least, most"),
    ],
)
def test_a_bad_image_setting_is_named(config_path, change, named):
    with pytest.raises(UserError, match=named):
        configured(config_path, PUBLISHED | change)


@pytest.mark.parametrize(
    "override",
    ["training.class_balanced=true", "training.paste={objects: {car: 2}, min_points: 5, off_for_last_epochs: 5}"],
)
def test_sampling_and_pasting_are_switched_on_by_set(config_path, override):
    assert load_config(config_path, [override]) != load_config(config_path)
