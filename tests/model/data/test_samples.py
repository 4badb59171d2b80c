"""Frames, samples and batches: the same whoever loads them."""

import numpy as np
import pytest
import torch
from support.street import EGO_SPEED, THINGS, boxes_in_base
from support.tiny_nuscenes import write_tiny_nuscenes
from torch.utils.data import DataLoader

from vexkd_model.config import load_config
from vexkd_model.config.training import AugmentConfig
from vexkd_model.data.batch import collate, stack_frames
from vexkd_model.data.dataset import TrainingSet, load_sample, read_frame
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.data.sampling import EpochSampler
from vexkd_model.geometry.boxes import points_in_boxes
from vexkd_model.types import MAP_CLASSES, Boxes

AUGMENT = AugmentConfig(rotation=0.785, scale=0.1, translation=0.5, flip=True)
NO_AUGMENT = AugmentConfig(rotation=0, scale=0, translation=0, flip=False)


def test_the_points_of_every_sweep_lie_in_the_boxes_of_things_that_stand_still(tiny_index):
    frame = read_frame(tiny_index[2], sweeps=3)
    for thing, row in boxes_in_base(2):
        inside = points_in_boxes(frame.points, np.array([row]))[0]
        now, before = inside & (frame.points[:, 4] == 0), inside & (frame.points[:, 4] > 0)
        assert now.sum() >= thing.points
        if not thing.speed:
            assert before.sum() >= 2 * thing.points


def test_a_moving_thing_leaves_its_older_points_behind_it(tiny_index):
    points = read_frame(tiny_index[1], sweeps=2).points
    number = next(i for i, thing in enumerate(THINGS) if thing.speed == 6.0)
    row = np.array(boxes_in_base(1)[number][1])
    older = points[(points[:, 4] > 0) & (points[:, 2] > 0)]
    earlier = row.copy()
    earlier[0] -= 0.05 * 6.0
    assert points_in_boxes(older, earlier[None]).sum() >= THINGS[number].points


def test_a_frame_reads_no_more_sweeps_than_asked_for_or_than_there_are(tiny_index):
    for asked, ages in ((1, [0]), (2, [0, 0.05]), (10, [0, 0.05, 0.1])):
        np.testing.assert_allclose(np.unique(read_frame(tiny_index[0], asked).points[:, 4]), ages, atol=1e-6)


def test_a_frame_with_an_interval_passes_over_the_sweeps_between(tiny_index):
    assert np.allclose(np.unique(read_frame(tiny_index[0], 2, sweep_interval=0.1).points[:, 4]), [0, 0.1])


def test_the_ground_lies_at_height_zero_under_the_vehicle(tiny_index):
    points = read_frame(tiny_index[0], 1).points
    assert np.percentile(np.abs(points[:, 2]), 50) < 1e-5
    assert np.abs(points[:1500, 0]).max() < 45 + EGO_SPEED


def test_boxes_that_no_lidar_point_reached_are_not_taught(tiny_index, tiny_config):
    sample = load_sample(tiny_index, 0, tiny_config)
    assert len(sample.boxes) == (tiny_index[0].lidar_points > 0).sum() == len(tiny_index[0].boxes) - 1
    assert not np.isclose(sample.boxes.values[:, 1], 40.0).any()


def test_without_a_map_no_cell_is_known(tmp_path, tiny_config):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0061": 1}, with_map=False)
    prepare(root, "v1.0-mini", tmp_path)
    index = FrameIndex.open(tmp_path, "mini_train")
    for sample in (load_sample(index, 0, tiny_config), TrainingSet(index, 1, AUGMENT, 0)[0, 0]):
        assert not sample.map_known.any() and not sample.map_masks.any()


def test_a_batch_tells_its_samples_apart(tiny_index, tiny_config):
    samples = [load_sample(tiny_index, i, tiny_config) for i in (2, 0)]
    batch = collate(samples)
    assert len(batch) == 2 and batch.tokens == ["scene-0061-2", "scene-0061-0"]
    for i, sample in enumerate(samples):
        np.testing.assert_array_equal(batch.sensors.points[batch.sensors.sample == i], sample.frame.points)
        np.testing.assert_array_equal(batch.boxes[i], sample.boxes.values)
        np.testing.assert_array_equal(batch.labels[i], sample.boxes.labels)
        np.testing.assert_array_equal(batch.map_masks[i], sample.map_masks)
    assert batch.map_masks.shape == (2, len(MAP_CLASSES), 200, 200) and batch.map_known.all()


def batches(index, workers, epochs=(0, 1)):
    sampler = EpochSampler(len(index), seed=3)
    loader = DataLoader(
        TrainingSet(index, 2, AUGMENT, seed=3), 2, sampler=sampler, collate_fn=collate, num_workers=workers
    )
    for epoch in epochs:
        sampler.set_epoch(epoch)
        yield from loader


def same(a, b):
    return (
        a.tokens == b.tokens
        and torch.equal(a.sensors.points, b.sensors.points)
        and torch.equal(a.map_masks, b.map_masks)
        and all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in zip(a.boxes, b.boxes, strict=True))
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(tiny_index, workers):
    alone, shared = list(batches(tiny_index, 0)), list(batches(tiny_index, workers))
    assert len(alone) == 4 and all(same(a, b) for a, b in zip(alone, shared, strict=True))


def test_an_epoch_is_the_same_whether_one_begins_with_it_or_arrives_at_it(tiny_index):
    arrived, begun = list(batches(tiny_index, 0, (0, 1)))[2:], list(batches(tiny_index, 0, (1,)))
    assert all(same(a, b) for a, b in zip(arrived, begun, strict=True))


def test_every_epoch_has_every_frame_once_in_an_order_and_with_augmentations_of_its_own(tiny_index):
    sampler = EpochSampler(50, seed=1)
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append([draw.frame for draw in sampler])
        assert sorted(orders[-1]) == list(range(50))
    assert orders[0] != orders[1] != orders[2]
    data = TrainingSet(tiny_index, 1, AUGMENT, 0)
    assert not np.array_equal(data[0, 0].frame.points, data[1, 0].frame.points)
    assert np.array_equal(data[1, 0].frame.points, data[1, 0].frame.points)


def test_without_augmentation_a_sample_is_the_plain_one(tiny_index, tiny_config):
    data = TrainingSet(tiny_index, tiny_config.sweeps, NO_AUGMENT, 0)
    sample, plain = data[0, 1], load_sample(tiny_index, 1, tiny_config)
    np.testing.assert_allclose(sample.frame.points, plain.frame.points, atol=1e-6)
    without_yaw = [np.delete(some.boxes.values, 6, axis=1) for some in (sample, plain)]
    np.testing.assert_allclose(*without_yaw, atol=1e-6)
    np.testing.assert_allclose(np.cos(sample.boxes.values[:, 6] - plain.boxes.values[:, 6]), 1.0, atol=1e-6)
    np.testing.assert_array_equal(sample.map_masks, plain.map_masks)


def test_the_last_epochs_may_be_spared_the_augmentation(tiny_index, tiny_config):
    late = AUGMENT.model_copy(update={"off_for_last_epochs": 2})
    data = TrainingSet(tiny_index, tiny_config.sweeps, late, 0, epochs=5)
    plain = load_sample(tiny_index, 0, tiny_config).frame.points
    assert [np.array_equal(data[epoch, 0].frame.points, plain) for epoch in range(5)] == [False] * 3 + [True] * 2


def test_augmented_things_still_hold_their_points(tiny_index):
    data = TrainingSet(tiny_index, 1, AUGMENT, 0)
    for epoch in range(5):
        sample = data[epoch, 0]
        larger = Boxes(sample.boxes.values * np.array([1, 1, 1, 1.01, 1.01, 1.01, 1, 1, 1], np.float32), None)
        assert (points_in_boxes(sample.frame.points, larger.values).sum(axis=1) >= 50).all()


def test_earlier_keyframes_come_newest_first_and_stay_within_their_scene(tiny_index):
    tokens = [[record.token for record in tiny_index.before(i, 2)] for i in range(3)]
    assert tokens == [[], ["scene-0061-0"], ["scene-0061-1", "scene-0061-0"]]
    assert len(tiny_index.before(2, 1)) == 1 and tiny_index.before(2, 0) == []


def test_where_there_was_no_past_the_present_is_seen_again(tiny_index, config_path):
    """Black images would spoil the statistics of batch norms, which later see real ones alone."""
    images = load_config(config_path.with_name("bevdet4d_depth_small.yaml")).camera.images
    first, second = (read_frame(tiny_index[i], 0, images, tiny_index.before(i, 1)) for i in (0, 1))
    batch = stack_frames([first, second], images, past_frames=2)
    assert [moment.present.tolist() for moment in batch.past] == [[False, True], [False, False]]
    for moment, missing in zip(batch.past, ([0], [0, 1]), strict=True):
        assert torch.equal(moment.cameras.images[missing], batch.cameras.images[missing])
        assert torch.equal(moment.now_from_then[missing], torch.eye(4).expand(len(missing), 4, 4))
    assert not torch.equal(batch.past[0].cameras.images[1], batch.cameras.images[1])


def test_the_past_says_where_the_vehicle_was(tiny_index, config_path):
    """A camera's place in the world is the same by way of the past base_link and of its own pose."""
    images = load_config(config_path.with_name("bevdet_small.yaml")).camera.images
    now, past = tiny_index[2], tiny_index.before(2, 2)
    frame = read_frame(now, 0, images, past)
    assert [len(moment.cameras) for moment in frame.past] == [6, 6]
    for moment, record in zip(frame.past, past, strict=True):
        for image, camera in zip(moment.cameras, record.cameras, strict=True):
            through_the_past = now.global_from_base @ moment.now_from_then @ image.base_from_camera
            np.testing.assert_allclose(through_the_past, camera.odom_from_base @ camera.base_from_sensor, atol=1e-6)
