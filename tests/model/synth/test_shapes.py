"""Shapes: headings and classes can be told apart by one sensor at least."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from vexkd_model.geometry.transforms import apply
from vexkd_model.synth.actors import Actor, Track
from vexkd_model.synth.cameras import render
from vexkd_model.synth.lidar import scan
from vexkd_model.synth.lighting import LightSource
from vexkd_model.synth.scene import points_inside
from vexkd_model.synth.shapes import BOX_MARGIN_M, SHAPES, SIZES, SMALL_BUS, draw_size, object_solids
from vexkd_model.synth.weather import DAY, NIGHT, make_weather
from vexkd_model.synth.world import World, build_world, random_stream, world_from_ego

HEADED = [
    (look, variant)
    for look, variants in SHAPES.items()
    if look not in ("traffic_cone", "barrier")
    for variant in range(len(variants))
]
LIT = [
    (look, variant)
    for look, variant in HEADED
    if look not in ("trailer", "construction_vehicle", "pedestrian", "bicycle", "bicycle_with_rider")
]
AHEAD_M, SLICES = 12.0, 12
IMAGE = (640, 360)


@pytest.fixture(scope="module")
def street() -> World:
    """Build a scene without scenery but for one stone far behind."""
    world = build_world(5, 2, 4.0)
    stone = dataclasses.replace(
        world.scenery,
        **{field.name: getattr(world.scenery, field.name)[:1] for field in dataclasses.fields(world.scenery)},
    )
    return dataclasses.replace(
        world, scenery=dataclasses.replace(stone, centre=np.array([[-150.0, -150.0, 0.0]])), lamps=world.lamps[:0]
    )


def _object(world: World, look: str, variant: int, turn: float, size: tuple | None = None) -> Actor:
    """Place an object ahead of the ego vehicle; turn 0 shows its back."""
    size = np.array(size or SIZES[look][0])
    x, y, yaw = world.ego.pose(0.0)
    away = AHEAD_M + size[0] / 2
    place = np.array([[x + away * np.cos(yaw), y + away * np.sin(yaw)]])
    solids = object_solids(look, variant, size, np.full(3, 0.4))
    return Actor(look, size, Track(place, yaw=yaw + turn), "vehicle.stopped", 0.0, solids)


def _profile(solids, half_length: float) -> np.ndarray:
    """Lowest and highest point (SLICES, 2) of each slice across, back to front, above the box's centre [m]."""
    edges = np.linspace(-half_length, half_length, SLICES + 1)
    low, high = solids.centre - solids.half, solids.centre + solids.half
    rows = []
    for start, end in pairwise(edges):
        inside = (low[:, 0] < end - 1e-6) & (high[:, 0] > start + 1e-6)
        rows.append((low[inside, 2].min(), high[inside, 2].max()) if inside.any() else (0.0, 0.0))
    return np.array(rows)


@pytest.mark.parametrize(("look", "variant"), HEADED)
def test_the_side_view_of_everything_with_a_heading_is_not_its_own_mirror_image(look, variant):
    size = np.array(SIZES[look][0])
    profile = _profile(object_solids(look, variant, size, np.zeros(3)), size[0] / 2 - BOX_MARGIN_M)
    assert np.abs(profile - profile[::-1]).mean() > 0.04 * size[2]


@pytest.mark.parametrize(("look", "variant"), HEADED)
def test_lidar_and_camera_see_whether_something_faces_them(street, look, variant):
    seen, images = [], []
    day = dataclasses.replace(street, weather=make_weather(DAY, 0.0, np.random.default_rng(0)))
    for turn in (np.pi, 0.0):
        actor = _object(street, look, variant, turn)
        world = dataclasses.replace(day, actors=[actor])
        points = scan(world, 0.0, random_stream(0, 0, 1)).points[:, :3].astype(np.float64)
        points = apply(world_from_ego(world.ego, 0.0) @ world.rig.base_from_lidar, points)
        centre, yaw = actor.box(0.0)
        near = points[np.abs(points - centre).max(1) < actor.size.max()]
        points = np.array([p for p in near if points_inside(p[None], actor, 0.0)]) - centre
        towards = -np.cos(yaw - world.ego.pose(0.0)[2]) * np.cos(yaw) * points[:, 0]
        towards -= np.cos(yaw - world.ego.pose(0.0)[2]) * np.sin(yaw) * points[:, 1]
        seen.append((actor.size[0] / 2 - towards).clip(0))  # how deep behind the near face
        images.append(
            render(
                world, world.rig.cameras[0], 0.0, IMAGE, LightSource(world).at(0.0), np.random.default_rng(0)
            ).astype(float)
        )
    ahead, behind = (np.percentile(depths, np.arange(10, 100, 10)) for depths in seen)
    assert np.abs(ahead - behind).max() > 0.08
    assert (np.abs(images[0] - images[1]).max(-1) > 25).sum() > 40


@pytest.mark.parametrize(("look", "variant"), LIT)
def test_vehicles_shine_white_ahead_and_red_behind(street, look, variant):
    dark = dataclasses.replace(street, weather=make_weather(NIGHT, 0.0, np.random.default_rng(0)))
    white, red = [], []
    for turn in (np.pi, 0.0):
        world = dataclasses.replace(dark, actors=[_object(street, look, variant, turn)])
        image = render(
            world, world.rig.cameras[0], 0.0, IMAGE, LightSource(world).at(0.0), np.random.default_rng(0)
        ).astype(float)
        white.append((image.min(-1) > 200).sum())
        red.append(((image[..., 0] > 220) & (image[..., 1:].max(-1) < 60)).sum())
    assert white[0] > white[1] + 5  # paint on the road and number plates are white, too
    assert red[1] > 5
    assert not red[0]


def test_trailers_have_red_lamps_behind_and_none_ahead(street):
    dark = dataclasses.replace(street, weather=make_weather(NIGHT, 0.0, np.random.default_rng(0)))
    for variant in range(len(SHAPES["trailer"])):
        red = []
        for turn in (np.pi, 0.0):
            world = dataclasses.replace(dark, actors=[_object(street, "trailer", variant, turn)])
            image = render(
                world, world.rig.cameras[0], 0.0, IMAGE, LightSource(world).at(0.0), np.random.default_rng(0)
            ).astype(float)
            red.append(((image[..., 0] > 220) & (image[..., 1:].max(-1) < 60)).sum())
        assert red[0] == 0
        assert red[1] > 5


def test_every_part_lies_inside_its_box():
    for look, variants in SHAPES.items():
        for part in (part for variant in variants for part in variant):
            assert -0.5 <= part.x[0] < part.x[1] <= 0.5, (look, part)
            assert -0.5 <= part.y[0] < part.y[1] <= 0.5, (look, part)
            assert 0.0 <= part.z[0] < part.z[1] <= 1.0, (look, part)


def test_a_small_bus_and_a_truck_of_one_body_differ_in_windows_and_in_their_roofs_box_alone():
    size = np.array(SMALL_BUS[0])
    bus, truck = (object_solids(look, variant, size, np.zeros(3)) for look, variant in (("bus", 0), ("truck", 2)))
    same = (np.abs(bus.centre - truck.centre) < 1e-9).all(1) & (np.abs(bus.half - truck.half) < 1e-9).all(1)
    assert len(bus) - same.sum() == 1
    sizes = np.array([draw_size(np.random.default_rng(i), "bus") for i in range(400)])
    assert np.mean(sizes[:, 0] < 8.8) == pytest.approx(0.3, abs=0.08)
