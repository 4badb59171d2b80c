"""Data of the sensors against the world that they look at."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial import cKDTree
from shapely import contains_xy

from vexkd_model.geometry.transforms import apply, inverse
from vexkd_model.synth.actors import Actor
from vexkd_model.synth.cameras import render
from vexkd_model.synth.ground import FIRST_RAISED
from vexkd_model.synth.lidar import scan
from vexkd_model.synth.lighting import LightSource
from vexkd_model.synth.rig import RigCamera
from vexkd_model.synth.scene import points_inside
from vexkd_model.synth.weather import DAY, make_weather
from vexkd_model.synth.world import World, build_world, random_stream, world_from_ego

SEED, SCENE, TIME_S = 5, 2, 1.5
SIZE = (256, 144)
OWN_M = 2.0  # nothing nearer than this is part of the street


@pytest.fixture(scope="module")
def world() -> World:
    """Build a scene on a dry day."""
    return dataclasses.replace(build_world(SEED, SCENE, 4.0), weather=make_weather(DAY, 0.0, np.random.default_rng(0)))


def _world_points(world: World, time_s: float, number: int = 0) -> np.ndarray:
    """Select the points that are farther away than the own vehicle, in the world."""
    points = scan(world, time_s, random_stream(SEED, SCENE, 1, number)).points
    points = points[np.linalg.norm(points[:, :3], axis=1) > OWN_M]
    return apply(world_from_ego(world.ego, time_s) @ world.rig.base_from_lidar, points[:, :3].astype(np.float64))


def test_a_revolution_looks_like_one_of_a_32_beam_lidar(world):
    points = scan(world, TIME_S, random_stream(SEED, SCENE, 1, 0)).points
    assert points.dtype == np.float32
    assert len(points) == 34_688  # nuScenes: one for every ray
    assert np.array_equal(np.bincount(points[:, 4].astype(int)), np.full(32, 1084))
    assert np.array_equal(points[:, 3], np.round(points[:, 3]))
    assert points[:, 3].min() >= 0
    assert points[:, 3].max() <= 255
    distance = np.linalg.norm(points[:, :3], axis=1)
    assert distance.max() < 100.2
    street = points[distance > OWN_M]
    assert len(street) == pytest.approx(26_160, rel=0.2)  # nuScenes' scene-0061
    assert 8 < np.median(street[:, 3]) < 30  # nuScenes: 12
    above = np.arcsin(street[:, 2] / distance[distance > OWN_M])
    assert np.allclose(above, np.deg2rad(np.linspace(-30.67, 10.67, 32))[street[:, 4].astype(int)], atol=1e-5)


def test_the_own_roof_answers_below_the_sensor_and_a_silent_ray_lies_on_the_track_behind_it(world):
    points = scan(world, TIME_S, random_stream(SEED, SCENE, 1, 0)).points.astype(np.float64)
    own = points[np.linalg.norm(points[:, :3], axis=1) <= OWN_M]
    in_base = own[:, :3] @ world.rig.base_from_lidar[:3, :3].T
    roof = in_base[in_base[:, 2] < -0.3]
    silent = in_base[in_base[:, 2] >= -0.3]
    assert 2_000 < len(roof) < 4_500  # nuScenes' scene-0061: about 3,200
    assert np.abs(roof[:, 2] + 0.42).max() < 0.1
    assert roof[:, 0].min() > -1.3
    assert np.abs(roof[:, 1]).max() < 0.7
    # What a revolution of 50 ms covers, at the vehicle's speed; compensation moves the earliest rays farthest back.
    assert np.abs(silent[:, 1:]).max() < 1e-6
    assert silent[:, 0].max() <= 0
    assert silent[:, 0].min() == pytest.approx(-0.05 * world.ego.speed, rel=0.02)


def test_points_are_in_firing_order_and_the_turn_is_clockwise(world):
    points = scan(world, TIME_S, random_stream(SEED, SCENE, 1, 0)).points
    assert np.array_equal(points[:64, 4], [*range(32), *range(32)])
    far = points[np.linalg.norm(points[:, :2], axis=1) > OWN_M]
    turn = np.diff(np.unwrap(np.arctan2(far[:, 1], far[:, 0])))
    assert (turn < 1e-3).all()
    assert turn.sum() == pytest.approx(-2 * np.pi, abs=0.1)


def test_the_flat_road_is_measured_flat_to_within_the_range_noise(world):
    points = _world_points(world, TIME_S)
    low = points[np.abs(points[:, 2]) < 0.09]
    x, y = (np.floor((low[:, :2].T + 155.0) / 0.1)).astype(int)
    road = low[world.ground.kinds.numpy()[y, x] < FIRST_RAISED]
    assert len(road) > 3000
    assert abs(road[:, 2].mean()) < 0.004
    assert 0.001 < road[:, 2].std() < 0.02


def test_whatever_stands_on_the_road_is_in_the_box_of_an_actor(world):
    for time_s in (0.0, TIME_S, 4.0):
        points = _world_points(world, time_s)
        column, row = np.floor((points[:, :2].T + 155.0) / 0.1).astype(int)
        inside = (np.minimum(row, column) >= 0) & (np.maximum(row, column) < len(world.ground.kinds))
        points, row, column = points[inside], row[inside], column[inside]
        on_road = world.ground.kinds.numpy()[row, column] < FIRST_RAISED
        area = [polygon.buffer(-0.6) for polygon in world.layout.areas["drivable_area"]]
        standing = points[
            on_road
            & (points[:, 2] > 0.25)
            & (points[:, 2] < 2.2)
            & np.any([contains_xy(a, *points[:, :2].T) for a in area], axis=0)
        ]
        boxed = sum(points_inside(standing, actor, time_s) for actor in world.actors)
        assert len(standing) > 500
        assert boxed == pytest.approx(len(standing), rel=0.01)


def test_the_points_of_a_moving_car_stand_still_in_its_own_frame(world):
    times = (TIME_S, TIME_S + 0.1)
    clouds = [_world_points(world, time_s, number) for number, time_s in enumerate(times)]
    compared, left_behind, moved_along = 0, 0, 0
    for actor in world.actors:
        if actor.track.speed < 4 or points_inside(clouds[0], actor, times[0]) < 150:
            continue
        here, there = (_in_box(cloud, actor, time_s) for cloud, time_s in zip(clouds, times, strict=True))
        assert np.median(cKDTree(here).query(there)[0]) < 0.12
        left_behind += len(_in_box(clouds[1], actor, times[0]))  # of a long side, seen alone, hardly any point leaves
        moved_along += len(there)
        compared += 1
    assert compared >= 2 and left_behind < moved_along


def _in_box(points: np.ndarray, actor: Actor, time_s: float) -> np.ndarray:
    """Select the points inside an actor's box, in the frame of the box."""
    centre, yaw = actor.box(time_s)
    local = (points - centre) @ np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    return local[(np.abs(local) <= actor.size / 2).all(1)]


def test_ego_motion_compensation_lays_the_houses_of_two_sweeps_on_each_other(world):
    first, second = (p[p[:, 2] > 4.5] for p in (_world_points(world, 1.0, 0), _world_points(world, 1.2, 1)))
    in_sensor = apply(inverse(world_from_ego(world.ego, 1.2)), second)
    uncompensated = apply(world_from_ego(world.ego, 1.0), in_sensor)
    assert len(first) > 300
    aligned, smeared = (np.median(cKDTree(first).query(p)[0]) for p in (second, uncompensated))
    assert aligned < 0.35
    assert aligned < smeared


def test_the_seen_share_of_an_actor_falls_when_something_stands_before_it(world):
    shares = scan(world, TIME_S, random_stream(SEED, SCENE, 1, 0)).visible
    known = shares[np.isfinite(shares)]
    assert ((known >= 0) & (known <= 1)).all()
    nearest = int(
        np.argmin([np.hypot(*(np.array(a.track.pose(TIME_S)[:2]) - world.ego.pose(TIME_S)[:2])) for a in world.actors])
    )
    assert shares[nearest] > 0.7


def test_removing_an_actor_changes_only_the_pixels_inside_its_projected_box(world):
    shares = scan(world, TIME_S, random_stream(SEED, SCENE, 1, 0)).visible
    tested = 0
    for camera in world.rig.cameras:
        projected = {i: _projected(world.actors[i], world, camera) for i in np.flatnonzero(shares > 0.8)}
        projected = {i: bounds for i, bounds in projected.items() if bounds is not None}
        if not projected:
            continue
        i = max(projected, key=lambda i: np.prod(projected[i][1] - projected[i][0]))
        rest = dataclasses.replace(world, actors=world.actors[:i] + world.actors[i + 1 :])
        light = LightSource(rest).at(TIME_S)  # without its shadow
        whole, without = (render(w, camera, TIME_S, SIZE, light, np.random.default_rng(0)) for w in (world, rest))
        row, column = np.nonzero((whole != without).any(-1))
        (left, top), (right, bottom) = projected[i]
        assert len(row) > 20
        assert column.min() + 1 >= left
        assert column.max() <= right
        assert row.min() + 1 >= top
        assert row.max() <= bottom
        tested += 1
    assert tested >= 2


def _projected(actor: Actor, world: World, camera: RigCamera) -> tuple[np.ndarray, np.ndarray] | None:
    """Project an actor's box: least and largest pixel (x, y), or None if it is not wholly in the image and near."""
    centre, yaw = actor.box(TIME_S)
    rotation = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    camera_from_world = inverse(world_from_ego(world.ego, TIME_S) @ camera.base_from_camera)
    corners = apply(camera_from_world, signs * actor.size / 2 @ rotation.T + centre)
    if corners[:, 2].min() < 1 or corners[:, 2].max() > 30:
        return None
    pixels = (corners / corners[:, 2:] @ camera.intrinsics(*SIZE).T)[:, :2]
    low, high = pixels.min(0), pixels.max(0)
    return (low, high) if (low > 0).all() and (high < SIZE).all() else None


def test_sky_is_above_and_road_below_in_every_image(world):
    light = LightSource(world).at(TIME_S)
    image = render(world, world.rig.cameras[0], TIME_S, SIZE, light, np.random.default_rng(0)).astype(float)
    assert image.shape == (144, 256, 3)
    assert image[:20].mean() > image[-20:].mean()
    assert image.std() > 20
