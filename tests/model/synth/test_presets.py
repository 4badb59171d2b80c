"""Presets: official names, all ten classes in every split, the same scene in every size."""

import numpy as np
import pytest
from nuscenes.eval.common.config import config_factory
from nuscenes.utils.splits import create_splits_scenes

from vexkd_model.geometry.transforms import apply
from vexkd_model.synth import PRESETS
from vexkd_model.synth.lidar import scan
from vexkd_model.synth.presets import KEYFRAME_INTERVAL_US, Preset
from vexkd_model.synth.scene import points_inside, sweep_stamps
from vexkd_model.synth.world import LIDAR_STREAM, build_world, random_stream, world_from_ego
from vexkd_model.types import DETECTION_CLASSES

RANGES_M = config_factory("detection_cvpr_2019").class_range
OWN_M = 2.0


def _classes_in_range(preset: Preset, seed: int, name: str) -> set[str]:
    """Find the classes with a visible object inside their evaluation range at one of three times."""
    number, found = preset.scene_number(name), set()
    world = build_world(seed, number, preset.duration_s)
    for step, time_s in enumerate(np.linspace(0.0, preset.duration_s, 3)):
        points = scan(world, time_s, random_stream(seed, number, LIDAR_STREAM, step)).points
        points = points[np.linalg.norm(points[:, :3], axis=1) > OWN_M, :3].astype(np.float64)
        world_from_base = world_from_ego(world.ego, time_s)
        points = apply(world_from_base @ world.rig.base_from_lidar, points)
        for actor in world.actors:
            away = np.hypot(*(actor.box(time_s)[0][:2] - world_from_base[:2, 3]))
            if actor.name not in found and away < RANGES_M[actor.name] and points_inside(points, actor, time_s):
                found.add(actor.name)
    return found


@pytest.mark.parametrize(
    ("name", "split"), [(name, split) for name, preset in PRESETS.items() for split in preset.splits]
)
def test_every_split_holds_all_ten_classes_with_points_within_their_evaluation_ranges(name, split):
    preset = PRESETS[name]
    for seed in (1, 2):
        found: set[str] = set()
        for scene in preset.splits[split][:4]:
            found |= _classes_in_range(preset, seed, scene)
            if found == set(DETECTION_CLASSES):
                break
        assert found == set(DETECTION_CLASSES), (seed, set(DETECTION_CLASSES) - found)


def test_splits_are_those_of_the_devkit():
    official = create_splits_scenes()
    for preset in PRESETS.values():
        for split, scenes in preset.splits.items():
            assert list(scenes) == official[split][: len(scenes)]
    assert [len(scenes) for scenes in PRESETS["bench"].splits.values()] == [700, 150]


def test_a_larger_preset_of_the_same_sensors_holds_the_scenes_of_the_smaller_one():
    small, large = PRESETS["bench-small"], PRESETS["bench-small-x4"]
    assert large.splits["train"][: len(small.splits["train"])] == small.splits["train"]
    assert large.splits["val"] == small.splits["val"]
    for name in (small.splits["train"][-1], small.splits["val"][-1]):
        assert small.scene_number(name) == large.scene_number(name)


def test_five_sweeps_a_tenth_of_a_second_apart_lie_before_every_keyframe_of_bench_small():
    preset = PRESETS["bench-small"]
    stamps = [k * KEYFRAME_INTERVAL_US for k in range(preset.keyframes)]
    times = {time for time, _ in sweep_stamps(preset, 50_000, stamps)}
    assert all(stamp - i * 100_000 in times for stamp in stamps for i in range(5))
    assert len(sweep_stamps(preset, 50_000, stamps)) == len(times)


def test_no_scene_of_one_preset_is_another_scene_of_another_preset():
    """mini_train holds official val scenes: they must not be the scenes that a bench preset validates on."""
    demo, bench = PRESETS["demo"], PRESETS["bench"]
    shared = set(demo.scene_names) & set(bench.scene_names)
    assert shared
    numbers = [[preset.scene_number(name) for name in preset.scene_names] for preset in (demo, bench)]
    assert not set(numbers[0]) & set(numbers[1])
    assert all(len(set(of)) == len(of) for of in numbers)
