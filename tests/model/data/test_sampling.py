"""Class-balanced sampling against counts made by hand."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from support.street import boxes_in_base

from vexkd_model.data.sampling import ClassBalancedSampler, Draw, EpochSampler, ShardSampler
from vexkd_model.distributed import ALONE, Shard
from vexkd_model.types import DETECTION_CLASSES

CAR, BUS, BICYCLE = (DETECTION_CLASSES.index(name) for name in ("car", "bus", "bicycle"))


def split_of(*frames):
    """A split of which each frame shows objects of the given labels."""
    pairs = [(i, label) for i, labels in enumerate(frames) for label in labels]
    return SimpleNamespace(seen_objects=lambda: tuple(np.array(pairs, np.int64).reshape(-1, 2).T))


def test_every_class_takes_an_equal_share_however_rare_it_is():
    # 98 frames of cars, two of them with a bus as well, and two of bicycles alone.
    sampler = ClassBalancedSampler(split_of(*[[CAR, CAR]] * 96, *[[CAR, BUS]] * 2, *[[BICYCLE]] * 2), seed=0)
    share = round((98 + 2 + 2) / 3)
    assert len(sampler) == 3 * share == len(list(sampler))
    drawn = Counter(draw.frame for draw in sampler)
    bicycles = drawn[98] + drawn[99]
    assert bicycles == share
    assert share <= drawn[96] + drawn[97] <= share + 8  # the buses' share, and what the cars' happens to add


def test_a_class_that_the_split_does_not_show_takes_nothing():
    frames = Counter(draw.frame for draw in ClassBalancedSampler(split_of([CAR], [], [CAR, BUS]), seed=1))
    assert frames[1] == 0 and sum(frames.values()) == 2 * round(3 / 2)


def test_a_split_without_objects_gives_an_empty_epoch():
    assert list(ClassBalancedSampler(split_of([], []), seed=0)) == []


def test_draws_of_the_same_frame_are_told_apart_and_epochs_differ():
    sampler = ClassBalancedSampler(split_of(*[[CAR]] * 20, [BUS]), seed=5)
    first = list(sampler)
    assert first == list(sampler) and len(set(first)) == len(first) and all(draw.epoch == 0 for draw in first)
    sampler.set_epoch(1)
    assert [draw.frame for draw in sampler] != [draw.frame for draw in first]
    assert all(isinstance(draw, Draw) and draw.epoch == 1 for draw in sampler)


def test_only_objects_that_lidar_saw_count(tiny_index):
    frames, labels = tiny_index.seen_objects()
    for k in range(len(tiny_index)):
        seen = [thing.category for thing, _ in boxes_in_base(k) if thing.points and thing.category != "animal"]
        assert (frames == k).sum() == len(seen)
        assert (labels[frames == k] == CAR).sum() == sum(category == "vehicle.car" for category in seen)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_rare_class_of_a_dataset_is_drawn_as_often_as_cars(tiny_index, seed):
    sampler = ClassBalancedSampler(tiny_index, seed)
    assert len(sampler) == 8 * round((7 * 3 + 1) / 8)  # seven classes in all three frames, the bus in one
    assert Counter(draw.frame for draw in sampler)[1] >= sampler.share


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_a_step_of_several_processes_sees_the_frames_of_one_process_with_their_whole_batch(processes):
    batch, epoch = 2, 4
    whole = EpochSampler(20, seed=7)
    shards = [ShardSampler(EpochSampler(20, seed=7), Shard(rank, processes)) for rank in range(processes)]
    for sampler in (whole, *shards):
        sampler.set_epoch(epoch)
    draws = [list(shard) for shard in shards]
    assert [len(shard) for shard in shards] == [len(drawn) for drawn in draws] == [20 // processes] * processes
    together = list(whole)
    for step in range(20 // (batch * processes)):
        seen = [draw for drawn in draws for draw in drawn[step * batch : (step + 1) * batch]]
        assert set(seen) == set(together[step * batch * processes : (step + 1) * batch * processes])
        assert len(seen) == batch * processes and all(draw.epoch == epoch for draw in seen)


def test_one_process_draws_what_there_is_in_its_order(tiny_index):
    assert list(ShardSampler(ClassBalancedSampler(tiny_index, 3), ALONE)) == list(ClassBalancedSampler(tiny_index, 3))
