"""Scenery, which is not annotated: buildings, gardens, heaps, and the furniture of the street."""

import numpy as np
from shapely.geometry import Point
from shapely.ops import unary_union
from shapely.prepared import prep

from vexkd_model.synth.actors import Site, footprint
from vexkd_model.synth.furniture import (
    CAR_PARK_LAMP_HEIGHT_M,
    SolidCollection,
    bush,
    lamp,
    shade,
    square,
    street_furniture,
    tree,
)
from vexkd_model.synth.layout import Layout, Lot
from vexkd_model.synth.raycast import BOX, ELLIPSOID
from vexkd_model.synth.shapes import CONCRETE, FACADE, METAL, Solids

BUILDING_LENGTH_M = 20.0  # longer fronts are built of several houses, so that they follow a curved road
_FACADES = ((0.62, 0.48, 0.38), (0.55, 0.30, 0.24), (0.70, 0.67, 0.60), (0.48, 0.50, 0.54), (0.66, 0.60, 0.44))


def build_scenery(layout: Layout, rng: np.random.Generator, site: Site) -> tuple[Solids, np.ndarray]:
    """Build all scenery along the roads, outside the occupied areas; also return the lamps (L, 3) [m]."""
    pile = SolidCollection()
    kept_free = prep(unary_union(layout.areas["drivable_area"] + layout.areas["walkway"]))
    for lot in layout.lots:
        if lot.kind == "building":
            _houses(pile, layout, lot, rng, kept_free)
        elif lot.kind == "green":
            _garden(pile, layout, lot, rng, site, kept_free)
        elif lot.kind == "carpark":
            _car_park_lamps(pile, layout, lot, rng, site)
        else:
            _heaps(pile, layout, lot, rng, site)
    for side in (1, -1):
        street_furniture(pile, layout, side, rng, site)
    return pile.solids(), np.array(pile.lamps, float).reshape(-1, 3)


def _houses(pile: SolidCollection, layout: Layout, lot: Lot, rng: np.random.Generator, kept_free) -> None:
    count = int(np.ceil((lot.s1 - lot.s0) / BUILDING_LENGTH_M))
    length = (lot.s1 - lot.s0) / count
    set_back = rng.uniform(0.8, 4.5)
    for i in range(count):
        s, depth = lot.s0 + (i + 0.5) * length, lot.depth - set_back
        x, y = layout.main.point(s, lot.side * (lot.d_near + set_back + depth / 2))
        yaw = float(layout.main.heading(s))
        height, colour = float(rng.uniform(4.5, 20.0)), shade(rng, _FACADES[rng.integers(len(_FACADES))])
        if not kept_free.intersects(footprint(x, y, yaw, length, depth)):
            pile.add(BOX, FACADE, (x, y, height / 2), (length / 2, depth / 2, height / 2), colour, yaw)


def _garden(pile: SolidCollection, layout: Layout, lot: Lot, rng: np.random.Generator, site: Site, kept_free) -> None:
    for _ in range(int((lot.s1 - lot.s0) * rng.uniform(0.15, 0.4))):
        x, y = layout.main.point(
            rng.uniform(lot.s0 + 2, lot.s1 - 2), lot.side * (lot.d_near + rng.uniform(2.0, lot.depth))
        )
        if kept_free.intersects(Point(x, y).buffer(1.0)) or not site.take(square(x, y, 0.5)):
            continue
        if rng.random() < 0.55:
            tree(pile, x, y, rng, float(rng.uniform(1.2, 2.6)))
        else:
            bush(pile, x, y, rng)


def _car_park_lamps(pile: SolidCollection, layout: Layout, lot: Lot, rng: np.random.Generator, site: Site) -> None:
    for s in np.arange(lot.s0 + 4, lot.s1 - 3, 14.0):
        x, y = layout.main.point(s, lot.side * (lot.d_near + 8.1))
        if site.take(square(x, y, 0.3)):
            lamp(pile, x, y, float(layout.main.heading(s)), CAR_PARK_LAMP_HEIGHT_M)


def _heaps(pile: SolidCollection, layout: Layout, lot: Lot, rng: np.random.Generator, site: Site) -> None:
    """Add sand, stacked blocks and now and then a container on a building site."""
    for _ in range(int(rng.integers(2, 5))):
        s = rng.uniform(lot.s0 + 3, lot.s1 - 3)
        x, y = layout.main.point(s, lot.side * (lot.d_near + rng.uniform(3.0, lot.depth - 2)))
        kind, yaw = rng.random(), float(rng.uniform(-np.pi, np.pi))
        if kind < 0.2 and site.take(footprint(x, y, yaw, 6.1, 2.4, 0.3)):
            pile.add(BOX, METAL, (x, y, 1.3), (3.05, 1.22, 1.3), shade(rng, (0.25, 0.35, 0.45), 0.1), yaw)
        elif kind < 0.6 and site.take(square(x, y, 1.6)):
            r = float(rng.uniform(0.9, 1.6))
            pile.add(ELLIPSOID, CONCRETE, (x, y, 0.0), (r, r, r * 0.7), (0.55, 0.46, 0.33))
        elif site.take(footprint(x, y, yaw, 1.3, 1.0, 0.2)):
            h = float(rng.uniform(0.4, 1.2))
            pile.add(BOX, CONCRETE, (x, y, h / 2), (0.6, 0.45, h / 2), (0.6, 0.58, 0.55), yaw)
