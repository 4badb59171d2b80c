"""Street furniture that looks like detection classes: it is there, of the right size, out of the way."""

import numpy as np
import pytest
from shapely.geometry import Point
from shapely.ops import unary_union

from vexkd_model.synth.actors import footprint
from vexkd_model.synth.furniture import THINGS, SolidCollection
from vexkd_model.synth.shapes import SHAPES, SIZES, STRIPED, object_solids
from vexkd_model.synth.world import World, build_world

WORLDS = 8


@pytest.fixture(scope="module")
def worlds() -> list[World]:
    return [build_world(21, i, 4.0) for i in range(WORLDS)]


def _low(world: World) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Find centre, half size, yaw and top of every unannotated solid on the ground, without houses."""
    solids = world.scenery
    low = (solids.centre[:, 2] - solids.half[:, 2] < 0.4) & (solids.half.max(1) < 4.0)
    return solids.centre[low], solids.half[low], solids.yaw[low], (solids.centre + solids.half)[low, 2]


def test_every_scene_holds_things_of_the_size_of_pedestrians_cones_and_barriers(worlds):
    for name, wanted in (("pedestrian", 8), ("traffic_cone", 2), ("barrier", 0.5)):
        length, width, height = SIZES[name][0]
        counts = []
        for world in worlds:
            _, half, _, top = _low(world)
            broad, slim = 2 * half[:, :2].max(1), 2 * half[:, :2].min(1)
            alike = (np.abs(top - height) < 0.35 * height) & (slim < 1.3 * min(length, width))
            counts.append((alike & (np.abs(broad - max(length, width)) < 0.7 * max(length, width))).sum())
        assert np.mean(counts) > wanted, name


def test_nothing_unannotated_stands_on_the_road_or_in_an_actor_that_stands(worlds):
    for world in worlds:
        road = unary_union(world.layout.areas["drivable_area"])
        taken = unary_union(
            [
                footprint(*a.track.pose(0.0), *a.size[:2], -0.05)
                for a in world.actors
                if a.track.speed == 0 and a.name != "pedestrian"
            ]
        )
        centre, half, yaw, _ = _low(world)
        for c, h, turn in zip(centre, half, yaw, strict=True):
            shape = footprint(c[0], c[1], turn, 2 * h[0], 2 * h[1])
            assert not road.contains(Point(c[:2]))
            assert taken.intersection(shape).area < 0.02


def test_hardly_anybody_walks_through_a_post(worlds):
    met = walkers = 0
    for world in worlds:
        centre, half, _, _ = _low(world)
        for actor in world.actors:
            if actor.name == "pedestrian":
                for time_s in (0.0, 2.0, 4.0):
                    x, y, _ = actor.track.pose(time_s)
                    walkers += 1
                    met += (np.hypot(*(centre[:, :2] - [x, y]).T) < 0.25 + half[:, :2].min(1)).any()
    assert walkers > 300
    assert met / walkers < 0.03


def test_lamps_stand_along_the_street(worlds):
    for world in worlds:
        assert len(world.lamps) >= 4
        s = [min(np.hypot(*(world.layout.main.line(-140, 140, 0.0) - lamp[:2]).T)) for lamp in world.lamps]
        assert max(s) < 40


def test_a_person_on_a_poster_is_flat_and_as_broad_as_one():
    pile = SolidCollection()
    THINGS["poster"](pile, 0.0, 0.0, 0.0, np.random.default_rng(0))
    figure = pile.rows[1:]
    assert len(figure) in [len(parts) for parts in SHAPES["pedestrian"]]
    assert max(abs(centre[1]) + half[0] for _, _, centre, half, _, _ in figure) < 0.1
    assert 2 * max(abs(centre[0]) + half[1] for _, _, centre, half, _, _ in figure) == pytest.approx(0.57, abs=0.15)


def test_statues_and_pylons_are_pedestrians_and_cones_in_outline_and_of_one_colour():
    for thing, look in (("statue", "pedestrian"), ("pylon", "traffic_cone")):
        pile = SolidCollection()
        THINGS[thing](pile, 0.0, 0.0, 0.0, np.random.default_rng(0))
        solids = pile.solids()
        assert len(np.unique(solids.colour, axis=0)) == 1
        assert STRIPED not in solids.material
        size = 2 * solids.half.max(0) + 0.1  # of the broadest part, with the box's margin
        shapes = [
            object_solids(look, variant, np.array(SIZES[look][0]), np.zeros(3)) for variant in range(len(SHAPES[look]))
        ]
        alike = [shape for shape in shapes if np.array_equal(shape.kind, solids.kind)]
        assert alike
        assert size[2] == pytest.approx(2 * alike[0].half.max(0)[2] + 0.1, rel=0.3)
