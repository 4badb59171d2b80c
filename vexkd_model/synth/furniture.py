"""Street furniture: trees, lamps, signs, and objects that look like a pedestrian, a cone or a barrier."""

from dataclasses import replace

import numpy as np
from shapely.geometry import Polygon

from vexkd_model.synth.actors import Site, footprint
from vexkd_model.synth.layout import KERB_HEIGHT_M, Layout
from vexkd_model.synth.raycast import BOX, CONE, CYLINDER, ELLIPSOID
from vexkd_model.synth.shapes import (
    BARK,
    CLOTH,
    CONCRETE,
    FOLIAGE,
    METAL,
    PLASTIC,
    PYLON,
    SHAPES,
    SIGN,
    STRIPED,
    Solids,
    draw_colour,
    draw_size,
    object_solids,
)

_LEAVES, _TRUNK, _POLE = (0.16, 0.33, 0.10), (0.25, 0.18, 0.12), (0.38, 0.39, 0.40)
_PAINTS = ((0.10, 0.18, 0.42), (0.60, 0.12, 0.10), (0.14, 0.30, 0.16), (0.30,) * 3)
_PYLONS = ((0.45, 0.45, 0.44), (0.15, 0.35, 0.18), (0.12, 0.22, 0.45), (0.30, 0.26, 0.22))
LAMP_HEIGHT_M, CAR_PARK_LAMP_HEIGHT_M = 8.0, 7.0
# Shares along the kerb. Much of it is easily taken for a detection class by one of the sensors: a meter, a post, a slim
# bush or a mailbox for a pedestrian; a hydrant, a bollard or a delineator for a cone; a planter or a board for a
# barrier. A statue and a plain pylon have the very outline of a pedestrian and of a cone, which cameras tell from
# them; a person on a poster is flat, which LiDAR sees.
AT_KERB = {
    "none": 0.11,
    "tree": 0.22,
    "lamp": 0.18,
    "sign": 0.06,
    "bin": 0.05,
    "bollard": 0.07,
    "hydrant": 0.05,
    "mailbox": 0.05,
    "meter": 0.06,
    "delineator": 0.05,
    "slim_bush": 0.03,
    "planter": 0.02,
    "pylon": 0.05,
}
# Shares along the walkway's far edge, where pedestrians stand too.
AT_FRONTS = {
    "none": 0.38,
    "slim_bush": 0.16,
    "post": 0.10,
    "mailbox": 0.07,
    "board": 0.07,
    "planter": 0.06,
    "bin": 0.06,
    "statue": 0.05,
    "poster": 0.05,
}
LONGEST_M = {"planter": 1.9, "board": 0.7, "statue": 0.8, "poster": 1.3}  # of things that are not round; along the road


class SolidCollection:
    """Collection of solids, built one by one, and the positions of lamps."""

    def __init__(self) -> None:
        self.rows: list[tuple] = []
        self.lamps: list[tuple[float, float, float]] = []

    def add(self, kind: int, material: int, centre: tuple, half: tuple, colour: tuple, yaw: float = 0.0) -> None:
        self.rows.append((kind, material, centre, half, yaw, colour))

    def upright(
        self, kind: int, material: int, x: float, y: float, bottom: float, top: float, radius: float, colour: tuple
    ) -> None:
        """Add a round solid from one height to another."""
        self.add(kind, material, (x, y, (bottom + top) / 2), (radius, radius, (top - bottom) / 2), colour)

    def place(self, solids: Solids, x: float, y: float, bottom: float, yaw: float) -> None:
        """Add an object's solids, given in its own frame, at a pose."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        lift = bottom - (solids.centre - solids.half)[:, 2].min()
        for kind, material, (px, py, pz), half, turn, colour in zip(
            solids.kind, solids.material, solids.centre, solids.half, solids.yaw, solids.colour, strict=True
        ):
            self.add(
                kind,
                material,
                (x + cos * px - sin * py, y + sin * px + cos * py, pz + lift),
                tuple(half),
                tuple(colour),
                yaw + turn,
            )

    def solids(self) -> Solids:
        kind, material, centre, half, yaw, colour = zip(*self.rows, strict=True)
        return Solids(
            np.array(kind),
            np.array(material),
            np.array(centre, float),
            np.array(half, float),
            np.array(yaw, float),
            np.array(colour, np.float32),
        )


def shade(rng: np.random.Generator, colour: tuple, spread: float = 0.05) -> tuple:
    """Draw a colour near a given one."""
    return tuple(np.clip(np.asarray(colour) + rng.normal(0, spread), 0.03, 0.95))


def square(x: float, y: float, half: float) -> Polygon:
    """Square of ground that a round object covers."""
    return footprint(x, y, 0.0, 2 * half, 2 * half)


def tree(pile: SolidCollection, x: float, y: float, rng: np.random.Generator, radius: float) -> None:
    bottom, thickness = float(rng.uniform(2.9, 3.7)), float(rng.uniform(0.10, 0.24))
    height = float(rng.uniform(1.3, 2.4))
    pile.upright(CYLINDER, BARK, x, y, 0.2, bottom + 0.2, thickness, shade(rng, _TRUNK))
    pile.add(ELLIPSOID, FOLIAGE, (x, y, bottom + height), (radius, radius, height), shade(rng, _LEAVES))


def bush(pile: SolidCollection, x: float, y: float, rng: np.random.Generator) -> None:
    r, h = float(rng.uniform(0.4, 1.1)), float(rng.uniform(0.3, 0.9))
    pile.add(ELLIPSOID, FOLIAGE, (x, y, KERB_HEIGHT_M + h * 0.7), (r, r, h), shade(rng, _LEAVES))


def lamp(pile: SolidCollection, x: float, y: float, yaw: float, height: float) -> None:
    pile.upright(CYLINDER, METAL, x, y, 0.0, height, 0.08, _POLE)
    arm = np.array([np.cos(yaw), np.sin(yaw)]) * 0.8
    pile.add(BOX, METAL, (x + arm[0], y + arm[1], height), (0.9, 0.12, 0.06), _POLE, yaw)
    pile.lamps.append((float(x + 1.5 * arm[0]), float(y + 1.5 * arm[1]), height))


def street_furniture(pile: SolidCollection, layout: Layout, side: int, rng: np.random.Generator, site: Site) -> None:
    """Add furniture along the kerb, on the walkway's strip where nobody walks, and along its far edge."""
    rows = ((AT_KERB, 6.0, layout.kerb(side) + 0.55), (AT_FRONTS, 5.0, layout.kerb(side) + layout.walkway_width + 0.35))
    for things, pitch, d in rows:
        for s in np.arange(-120.0, 120.0, pitch):
            s = float(s + rng.uniform(-2, 2))
            what = str(rng.choice(list(things), p=list(things.values())))
            x, y = (float(v) for v in layout.main.point(s, side * d))
            along = float(layout.main.heading(s))
            busy = layout.near_junction(s, layout.walkway_width + 2.0) and side in layout.arms
            length = LONGEST_M.get(what, 0.6)
            if what == "none" or busy or not site.take(footprint(x, y, along, length, 0.6)):
                continue
            if what == "lamp":
                lamp(pile, x, y, along - side * np.pi / 2, LAMP_HEIGHT_M)
            elif what == "tree":
                tree(pile, x, y, rng, float(rng.uniform(0.9, 1.5)))
            else:
                THINGS[what](pile, x, y, along, rng)


def _sign(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    pile.upright(CYLINDER, METAL, x, y, 0.0, 2.6, 0.04, _POLE)
    pile.add(BOX, SIGN, (x, y, 2.5), (0.03, 0.33, 0.33), (0.75, 0.12, 0.10), along)


def _bin(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    pile.upright(CYLINDER, PLASTIC, x, y, KERB_HEIGHT_M, 1.1, 0.27, shade(rng, (0.15, 0.25, 0.2)))


def _bollard(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    pile.upright(CYLINDER, CONCRETE, x, y, 0.1, 0.9, 0.11, (0.6, 0.6, 0.58))


def _hydrant(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    colour = shade(rng, ((0.65, 0.10, 0.08), (0.85, 0.60, 0.10))[rng.integers(2)])
    top = KERB_HEIGHT_M + float(rng.uniform(0.65, 0.9))
    pile.upright(CYLINDER, METAL, x, y, KERB_HEIGHT_M, top - 0.12, 0.13, colour)
    pile.upright(ELLIPSOID, METAL, x, y, top - 0.28, top, 0.15, colour)
    pile.add(BOX, METAL, (x, y, top - 0.35), (0.06, 0.21, 0.06), colour, along)


def _mailbox(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    height, half = float(rng.uniform(1.1, 1.45)), float(rng.uniform(0.20, 0.30))
    pile.add(
        BOX,
        METAL,
        (x, y, KERB_HEIGHT_M + height / 2),
        (half, 0.24, height / 2),
        shade(rng, _PAINTS[rng.integers(len(_PAINTS))]),
        along,
    )


def _meter(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    pile.upright(CYLINDER, METAL, x, y, 0.1, 1.25, 0.05, _POLE)
    pile.add(BOX, METAL, (x, y, 1.4), (0.12, 0.10, 0.18), (0.35, 0.36, 0.38), along)


def _delineator(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    """Add a plastic post as orange as a cone, with a cone's white band."""
    pile.upright(CYLINDER, STRIPED, x, y, 0.1, float(rng.uniform(0.9, 1.2)), 0.07, (0.95, 0.35, 0.05))


def _slim_bush(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    """Add a clipped conifer of a person's size."""
    top, radius = float(rng.uniform(1.3, 2.1)), float(rng.uniform(0.24, 0.38))
    kind = CONE if rng.random() < 0.4 else ELLIPSOID
    pile.upright(kind, FOLIAGE, x, y, 0.1, top, radius * (1.3 if kind == CONE else 1.0), shade(rng, _LEAVES))


def _post(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    """Add a stone post or a covered stand: for LiDAR, a person who stands still."""
    top, radius = float(rng.uniform(1.4, 1.9)), float(rng.uniform(0.16, 0.28))
    material, colour = ((CONCRETE, (0.55, 0.54, 0.50)), (CLOTH, (0.30, 0.30, 0.34)))[rng.integers(2)]
    pile.upright(CYLINDER, material, x, y, 0.1, top, radius, shade(rng, colour))


def _board(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    """Add an advertising board on the walkway, facing pedestrians."""
    pile.add(
        BOX,
        PLASTIC,
        (x, y, KERB_HEIGHT_M + 0.55),
        (0.08, 0.30, 0.55),
        shade(rng, _PAINTS[rng.integers(len(_PAINTS))], 0.1),
        along,
    )


def _planter(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    """Add a trough with low plants, of a barrier's size, material and place."""
    pile.add(BOX, CONCRETE, (x, y, KERB_HEIGHT_M + 0.3), (0.9, 0.25, 0.3), (0.6, 0.58, 0.55), along)
    pile.add(ELLIPSOID, FOLIAGE, (x, y, KERB_HEIGHT_M + 0.6), (0.85, 0.24, 0.3), shade(rng, _LEAVES), along)


def _pylon(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    """Add a plain cone-shaped post: a traffic cone's outline, in another colour and without the bright band."""
    cone = object_solids("traffic_cone", 0, draw_size(rng, "traffic_cone"), np.zeros(3))
    colour = np.array(shade(rng, _PYLONS[rng.integers(len(_PYLONS))]))
    pile.place(
        replace(cone, material=np.full(len(cone), PYLON), colour=np.tile(colour, (len(cone), 1))),
        x,
        y,
        KERB_HEIGHT_M,
        along,
    )


def _statue(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    """Add a stone figure: a pedestrian for LiDAR, plain grey for a camera."""
    figure = _figure(rng)
    stone = np.array(shade(rng, (0.58, 0.57, 0.53)))
    pile.place(
        replace(figure, material=np.full(len(figure), CONCRETE), colour=np.tile(stone, (len(figure), 1))),
        x,
        y,
        KERB_HEIGHT_M,
        along + np.pi / 2 * rng.integers(4),
    )


def _poster(pile: SolidCollection, x: float, y: float, along: float, rng: np.random.Generator) -> None:
    """Add a flat person on either side of a board: a pedestrian for a camera, a wall for LiDAR."""
    figure = _figure(rng)
    ahead = figure.centre[:, 0] + figure.half[:, 0]  # what is in front stays in front
    centre, half = figure.centre * [0, 1, 1], figure.half.copy()
    half[:, 0] = 0.06 + 0.02 * (ahead - ahead.min()) / np.ptp(ahead)
    pile.add(BOX, PLASTIC, (x, y, KERB_HEIGHT_M + 1.05), (0.6, 0.05, 1.05), shade(rng, (0.7, 0.7, 0.68), 0.1), along)
    pile.place(replace(figure, centre=centre, half=half), x, y, KERB_HEIGHT_M + 0.1, along + np.pi / 2)


def _figure(rng: np.random.Generator) -> Solids:
    """Draw a pedestrian in the frame of its box."""
    return object_solids(
        "pedestrian",
        int(rng.integers(len(SHAPES["pedestrian"]))),
        draw_size(rng, "pedestrian"),
        draw_colour(rng, "pedestrian"),
    )


THINGS = {
    "sign": _sign,
    "bin": _bin,
    "bollard": _bollard,
    "hydrant": _hydrant,
    "mailbox": _mailbox,
    "meter": _meter,
    "delineator": _delineator,
    "slim_bush": _slim_bush,
    "post": _post,
    "board": _board,
    "planter": _planter,
    "pylon": _pylon,
    "statue": _statue,
    "poster": _poster,
}
