"""Streets and their traffic, as plain geometry."""

import numpy as np
import pytest
from shapely.geometry import Point
from shapely.ops import unary_union

from vexkd_model.synth import PRESETS
from vexkd_model.synth.actors import footprint
from vexkd_model.synth.world import build_world
from vexkd_model.types import DETECTION_CLASSES

WORLDS = 6


@pytest.fixture(scope="module")
def worlds():
    return [build_world(11, i, 4.0) for i in range(WORLDS)]


def test_all_ten_classes_occur_in_every_few_scenes(worlds):
    for three in (worlds[:3], worlds[3:]):
        assert {a.name for world in three for a in world.actors} == set(DETECTION_CLASSES)


def test_the_ego_vehicle_stays_on_the_road_and_touches_nobody(worlds):
    for world in worlds:
        road = unary_union(world.layout.areas["drivable_area"])
        for time_s in np.arange(0.0, 4.1, 0.5):
            x, y, yaw = world.ego.pose(time_s)
            body = footprint(x + 1.4 * np.cos(yaw), y + 1.4 * np.sin(yaw), yaw, 4.4, 1.7)
            assert road.contains(body)
            touched = [
                a.name
                for a in world.actors
                if a.name not in ("pedestrian", "bicycle")
                and body.intersects(footprint(*a.track.pose(time_s), *a.size[:2], -0.05))
            ]
            assert not touched


def test_cars_drive_and_park_on_drivable_ground_near_the_ego_vehicle(worlds):
    for world in worlds:
        ground = unary_union(
            world.layout.areas["drivable_area"] + world.layout.areas["carpark_area"] + world.layout.areas["stop_line"]
        )
        centre = world.ego.pose(2.0)[:2]
        for actor in world.actors:
            place = Point(actor.track.pose(2.0)[:2])
            if actor.name in ("car", "bus") and place.distance(Point(centre)) < 60:
                assert ground.contains(place)


def test_lengths_of_cars_and_heights_of_pedestrians_are_those_of_nuscenes(worlds):
    sizes = {
        name: np.array([a.size for w in worlds for a in w.actors if a.name == name]) for name in ("car", "pedestrian")
    }
    assert sizes["car"].mean(0) == pytest.approx([4.62, 1.95, 1.73], abs=0.12)
    assert sizes["pedestrian"].mean(0)[2] == pytest.approx(1.77, abs=0.05)


def test_a_fair_share_of_what_can_move_does_so_at_a_speed_of_its_kind():
    speeds = {name: [] for name in ("car", "truck", "bus", "motorcycle", "bicycle", "pedestrian")}
    for i in range(8):
        world = build_world(11, i, 4.0)
        middle = world.ego.pose(2.0)[:2]
        for actor in world.actors:
            if actor.name in speeds and np.hypot(*(np.array(actor.track.pose(2.0)[:2]) - middle)) < 55:
                speeds[actor.name].append(actor.track.speed)
    for name, values in speeds.items():
        moving = np.array(values)[np.array(values) > 0.2]
        low, high = {"bicycle": (2.5, 6.0), "pedestrian": (1.0, 1.7)}.get(name, (5.0, 10.0))
        assert 0.3 < len(moving) / len(values) < 0.97, name
        assert low < moving.mean() < high, name


def test_train_and_val_scenes_never_share_a_layout():
    for preset in PRESETS.values():
        names = preset.scene_names
        assert len(set(names)) == len(names)
    bench = PRESETS["bench-small"]
    names = bench.splits["train"][:3] + bench.splits["val"][:3]
    streets = [build_world(1, bench.scene_number(name), 4.0).layout for name in names]
    drawn = {(s.lane_width, s.walkway_width, s.main.heading0) for s in streets}
    assert len(drawn) == len(streets)


def test_another_seed_gives_another_street():
    assert build_world(1, 0, 4.0).layout.main != build_world(2, 0, 4.0).layout.main
