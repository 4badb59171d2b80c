"""What stands in a scene and is not annotated: buildings, trees, lamps, signs, bins, containers, heaps."""

import numpy as np
from shapely.geometry import Point, Polygon
from shapely.ops import unary_union
from shapely.prepared import prep

from vexkd_model.data.synth.actors import Site, footprint
from vexkd_model.data.synth.layout import KERB_HEIGHT_M, Layout, Lot
from vexkd_model.data.synth.raycast import BOX, CYLINDER, ELLIPSOID
from vexkd_model.data.synth.shapes import BARK, CONCRETE, FACADE, FOLIAGE, METAL, PLASTIC, SIGN, Solids

BUILDING_LENGTH_M = 20.0  # longer fronts are built of several houses, so that they follow a curved road
_FACADES = ((0.62, 0.48, 0.38), (0.55, 0.30, 0.24), (0.70, 0.67, 0.60), (0.48, 0.50, 0.54), (0.66, 0.60, 0.44))
_LEAVES, _TRUNK, _POLE = (0.16, 0.33, 0.10), (0.25, 0.18, 0.12), (0.38, 0.39, 0.40)
STREET_FURNITURE = {"tree": 0.30, "lamp": 0.18, "sign": 0.08, "bin": 0.08, "bollard": 0.10, "none": 0.26}


class _Pile:
    """Collects solids one by one."""

    def __init__(self) -> None:
        self.rows: list[tuple] = []

    def add(self, kind: int, material: int, centre: tuple, half: tuple, colour: tuple, yaw: float = 0.0) -> None:
        self.rows.append((kind, material, centre, half, yaw, colour))

    def solids(self) -> Solids:
        kind, material, centre, half, yaw, colour = zip(*self.rows, strict=True)
        return Solids(np.array(kind), np.array(material), np.array(centre, float), np.array(half, float),
                      np.array(yaw, float), np.array(colour, np.float32))


def build_scenery(layout: Layout, rng: np.random.Generator, site: Site) -> Solids:
    """Everything that stands along the roads, clear of what the site already holds."""
    pile = _Pile()
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
        _street_furniture(pile, layout, side, rng, site)
    return pile.solids()


def _shade(rng: np.random.Generator, colour: tuple, spread: float = 0.05) -> tuple:
    return tuple(np.clip(np.asarray(colour) + rng.normal(0, spread), 0.03, 0.95))


def _houses(pile: _Pile, layout: Layout, lot: Lot, rng: np.random.Generator, kept_free) -> None:
    count = int(np.ceil((lot.s1 - lot.s0) / BUILDING_LENGTH_M))
    length = (lot.s1 - lot.s0) / count
    set_back = rng.uniform(0.8, 4.5)
    for i in range(count):
        s, depth = lot.s0 + (i + 0.5) * length, lot.depth - set_back
        x, y = layout.main.point(s, lot.side * (lot.d_near + set_back + depth / 2))
        yaw = float(layout.main.heading(s))
        height, colour = float(rng.uniform(4.5, 20.0)), _shade(rng, _FACADES[rng.integers(len(_FACADES))])
        if not kept_free.intersects(footprint(x, y, yaw, length, depth)):
            pile.add(BOX, FACADE, (x, y, height / 2), (length / 2, depth / 2, height / 2), colour, yaw)


def _tree(pile: _Pile, x: float, y: float, rng: np.random.Generator, radius: float) -> None:
    bottom, thickness = float(rng.uniform(2.9, 3.7)), float(rng.uniform(0.10, 0.24))
    height = float(rng.uniform(1.3, 2.4))
    pile.add(CYLINDER, BARK, (x, y, bottom / 2 + 0.2), (thickness, thickness, bottom / 2 + 0.2), _shade(rng, _TRUNK))
    pile.add(ELLIPSOID, FOLIAGE, (x, y, bottom + height), (radius, radius, height), _shade(rng, _LEAVES))


def _garden(pile: _Pile, layout: Layout, lot: Lot, rng: np.random.Generator, site: Site, kept_free) -> None:
    for _ in range(int((lot.s1 - lot.s0) * rng.uniform(0.15, 0.4))):
        x, y = layout.main.point(rng.uniform(lot.s0 + 2, lot.s1 - 2),
                                 lot.side * (lot.d_near + rng.uniform(2.0, lot.depth)))
        if kept_free.intersects(Point(x, y).buffer(1.0)) or not site.take(_square(x, y, 0.5)):
            continue
        if rng.random() < 0.55:
            _tree(pile, x, y, rng, float(rng.uniform(1.2, 2.6)))
        else:
            r, h = float(rng.uniform(0.4, 1.1)), float(rng.uniform(0.3, 0.9))
            pile.add(ELLIPSOID, FOLIAGE, (x, y, KERB_HEIGHT_M + h * 0.7), (r, r, h), _shade(rng, _LEAVES))


def _square(x: float, y: float, half: float) -> Polygon:
    return footprint(x, y, 0.0, 2 * half, 2 * half)


def _lamp(pile: _Pile, x: float, y: float, yaw: float, height: float) -> None:
    pile.add(CYLINDER, METAL, (x, y, height / 2), (0.08, 0.08, height / 2), _POLE)
    arm = np.array([np.cos(yaw), np.sin(yaw)]) * 0.8
    pile.add(BOX, METAL, (x + arm[0], y + arm[1], height), (0.9, 0.12, 0.06), _POLE, yaw)


def _car_park_lamps(pile: _Pile, layout: Layout, lot: Lot, rng: np.random.Generator, site: Site) -> None:
    for s in np.arange(lot.s0 + 4, lot.s1 - 3, 14.0):
        x, y = layout.main.point(s, lot.side * (lot.d_near + 8.1))
        if site.take(_square(x, y, 0.3)):
            _lamp(pile, x, y, float(layout.main.heading(s)), 7.0)


def _heaps(pile: _Pile, layout: Layout, lot: Lot, rng: np.random.Generator, site: Site) -> None:
    """Sand, stacked blocks and now and then a container on a building site."""
    for _ in range(int(rng.integers(2, 5))):
        s = rng.uniform(lot.s0 + 3, lot.s1 - 3)
        x, y = layout.main.point(s, lot.side * (lot.d_near + rng.uniform(3.0, lot.depth - 2)))
        kind, yaw = rng.random(), float(rng.uniform(-np.pi, np.pi))
        if kind < 0.2 and site.take(footprint(x, y, yaw, 6.1, 2.4, 0.3)):
            pile.add(BOX, METAL, (x, y, 1.3), (3.05, 1.22, 1.3), _shade(rng, (0.25, 0.35, 0.45), 0.1), yaw)
        elif kind < 0.6 and site.take(_square(x, y, 1.6)):
            r = float(rng.uniform(0.9, 1.6))
            pile.add(ELLIPSOID, CONCRETE, (x, y, 0.0), (r, r, r * 0.7), (0.55, 0.46, 0.33))
        elif site.take(footprint(x, y, yaw, 1.3, 1.0, 0.2)):
            h = float(rng.uniform(0.4, 1.2))
            pile.add(BOX, CONCRETE, (x, y, h / 2), (0.6, 0.45, h / 2), (0.6, 0.58, 0.55), yaw)


def _street_furniture(pile: _Pile, layout: Layout, side: int, rng: np.random.Generator, site: Site) -> None:
    """Along the kerb, on the walkway's outer strip where nobody walks."""
    for s in np.arange(-120.0, 120.0, 7.0):
        s = float(s + rng.uniform(-2, 2))
        what = str(rng.choice(list(STREET_FURNITURE), p=list(STREET_FURNITURE.values())))
        x, y = layout.main.point(s, side * (layout.kerb(side) + 0.55))
        towards_road = float(layout.main.heading(s)) - side * np.pi / 2
        busy = layout.near_junction(s, 5.0) and side in layout.arms
        if what == "none" or busy or not site.take(_square(x, y, 0.3)):
            continue
        if what == "tree":
            _tree(pile, x, y, rng, float(rng.uniform(0.9, 1.5)))
        elif what == "lamp":
            _lamp(pile, x, y, towards_road, 8.0)
        elif what == "sign":
            pile.add(CYLINDER, METAL, (x, y, 1.3), (0.04, 0.04, 1.3), _POLE)
            pile.add(BOX, SIGN, (x, y, 2.5), (0.03, 0.33, 0.33), (0.75, 0.12, 0.10), towards_road + np.pi / 2)
        elif what == "bin":
            pile.add(CYLINDER, PLASTIC, (x, y, 0.62), (0.27, 0.27, 0.48), _shade(rng, (0.15, 0.25, 0.2)))
        else:
            pile.add(CYLINDER, CONCRETE, (x, y, 0.5), (0.11, 0.11, 0.40), (0.6, 0.6, 0.58))
