"""Plan of one street scene: roads and their map layers, lanes to drive on, and the lots along the road.

Everything is in the scene's own frame: metres, origin at the middle of its patch of the map, z = 0 on the road.
"""

from dataclasses import dataclass, field

import numpy as np
from shapely.geometry import Polygon
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from vexkd_model.synth.presets import PATCH_EDGE_M

REACH_M = PATCH_EDGE_M / 2 - 5  # roads end here, inside the patch
LANE_REACH_M = 260.0  # vehicles may drive on beyond the patch, out of every sensor's sight
PARKING_WIDTH_M = 2.4
KERB_HEIGHT_M = 0.14
CROSSING_WIDTH_M = 3.2
STOP_LINE_WIDTH_M = 1.0


@dataclass(frozen=True)
class Road:
    """Road along a centre line of constant curvature. s: arc length [m]; d: offset to the left [m]."""

    origin: tuple[float, float]
    heading0: float
    curvature: float

    def heading(self, s: np.ndarray | float) -> np.ndarray | float:
        """Direction of travel at s [rad]."""
        return self.heading0 + self.curvature * s

    def point(self, s: np.ndarray | float, d: np.ndarray | float) -> np.ndarray:
        """Position (..., 2) of (s, d)."""
        s, d = np.broadcast_arrays(np.asarray(s, float), np.asarray(d, float))
        half = self.curvature * s / 2
        chord = s * np.sinc(half / np.pi)
        heading = self.heading0 + self.curvature * s
        return np.stack(
            [
                self.origin[0] + chord * np.cos(self.heading0 + half) - d * np.sin(heading),
                self.origin[1] + chord * np.sin(self.heading0 + half) + d * np.cos(heading),
            ],
            -1,
        )

    def line(self, s0: float, s1: float, d: float, step: float = 2.0) -> np.ndarray:
        """Points (N, 2) from s0 to s1 at offset d."""
        return self.point(np.linspace(s0, s1, max(2, int(abs(s1 - s0) / step) + 1)), d)

    def strip(self, s0: float, s1: float, d0: float, d1: float) -> Polygon:
        """Area between two offsets."""
        return Polygon(np.concatenate([self.line(s0, s1, d0), self.line(s1, s0, d1)]))


@dataclass(frozen=True)
class Lane:
    """Lane to drive on.

    road, d: its place; forward: along the road or against it. stop_s: the road's s of its stop line if traffic waits
    there, else None. outgoing_from: traffic only beyond this distance along the lane.
    """

    road: Road
    d: float
    forward: bool
    stop_s: float | None = None
    outgoing_from: float | None = None

    def path(self) -> np.ndarray:
        """Points (N, 2) in the direction of travel, from −LANE_REACH_M to LANE_REACH_M."""
        sign = 1 if self.forward else -1
        return self.road.line(-sign * LANE_REACH_M, sign * LANE_REACH_M, self.d, step=1.0)


@dataclass(frozen=True)
class Lot:
    """Piece of land along the main road: s from s0 to s1, from the walkway's edge to `depth` metres behind it."""

    kind: str  # building, carpark, construction, green
    s0: float
    s1: float
    side: int  # +1 left, −1 right
    d_near: float  # |d| of its front
    depth: float


@dataclass
class Layout:
    """Plan of one scene. areas: map layer → polygons; dividers: map layer → (N, 2) lines."""

    main: Road
    lane_width: float
    d_left: float  # kerbs of the main road, ±
    d_right: float
    walkway_width: float
    parking: dict[int, bool]  # side → is there a parking strip
    cross: Road | None
    cross_half_width: float
    cross_s: float
    arms: tuple[int, ...]  # sides on which the cross road leaves: +1 left, −1 right
    lanes: list[Lane] = field(default_factory=list)
    cross_lanes: list[Lane] = field(default_factory=list)
    lots: list[Lot] = field(default_factory=list)
    areas: dict[str, list[Polygon]] = field(default_factory=dict)
    dividers: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def kerb(self, side: int) -> float:
        """Distance |d| of the main road's kerb from its centre line [m]."""
        return self.d_left if side > 0 else -self.d_right

    def near_junction(self, s: float, margin: float) -> bool:
        """Check whether the main road's s lies within `margin` metres of the cross road's carriageway."""
        return self.cross is not None and abs(s - self.cross_s) < self.cross_half_width + margin


def make_layout(rng: np.random.Generator) -> Layout:
    """Draw a street: 2 … 4 lanes, straight or gently curved, with or without a junction."""
    curvature = 0.0 if rng.random() < 0.45 else float(rng.choice([-1, 1]) / rng.uniform(140, 500))
    main = Road((0.0, 0.0), float(rng.uniform(-np.pi, np.pi)), curvature)
    width = float(rng.uniform(3.3, 3.7))
    right, left = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    parking = {1: bool(rng.random() < 0.7), -1: bool(rng.random() < 0.7)}
    layout = Layout(
        main=main,
        lane_width=width,
        parking=parking,
        walkway_width=float(rng.uniform(2.6, 4.2)),
        d_left=left * width + parking[1] * PARKING_WIDTH_M,
        d_right=-right * width - parking[-1] * PARKING_WIDTH_M,
        cross=None,
        cross_half_width=0.0,
        cross_s=0.0,
        arms=(),
    )
    layout.lanes = [Lane(main, -(i + 0.5) * width, True) for i in range(right)]
    layout.lanes += [Lane(main, (i + 0.5) * width, False) for i in range(left)]
    if rng.random() < 0.65:
        _add_cross_road(layout, rng)
    _draw_carriageways(layout, right, left)
    _draw_crossings(layout, rng)
    _add_lots(layout, rng)
    return layout


def _add_cross_road(layout: Layout, rng: np.random.Generator) -> None:
    layout.cross_s = float(rng.choice([-1, 1]) * rng.uniform(8, 42))
    layout.cross_half_width = layout.lane_width
    heading = layout.main.heading(layout.cross_s) + np.pi / 2
    origin = layout.main.point(layout.cross_s, 0.0)
    layout.cross = Road((float(origin[0]), float(origin[1])), float(heading), 0.0)
    layout.arms = ((1, -1), (1,), (-1,))[rng.choice(3, p=[0.6, 0.2, 0.2])]
    for arm in layout.arms:
        gap = layout.kerb(arm) + CROSSING_WIDTH_M + 2.5
        # On each arm the incoming lane waits at its stop line, the outgoing one is left free of the junction.
        incoming_d = layout.lane_width / 2 * (1 if arm > 0 else -1)
        layout.cross_lanes.append(Lane(layout.cross, incoming_d, forward=arm < 0, stop_s=arm * gap))
        layout.cross_lanes.append(Lane(layout.cross, -incoming_d, forward=arm > 0, outgoing_from=gap + 4))


def _draw_carriageways(layout: Layout, right: int, left: int) -> None:
    main, width, walk = layout.main, layout.lane_width, layout.walkway_width
    roads = [main.strip(-REACH_M, REACH_M, layout.d_right, layout.d_left)]
    walks = [
        main.strip(-REACH_M, REACH_M, layout.d_left, layout.d_left + walk),
        main.strip(-REACH_M, REACH_M, layout.d_right - walk, layout.d_right),
    ]
    road_dividers, lane_dividers = [], []
    spans = [(-REACH_M, REACH_M)]
    if layout.cross is not None:
        half = layout.cross_half_width
        margin = half + CROSSING_WIDTH_M + 2.0
        spans = [(-REACH_M, layout.cross_s - margin), (layout.cross_s + margin, REACH_M)]
        for arm in layout.arms:
            roads.append(layout.cross.strip(0.0, arm * REACH_M, -half, half))
            road_dividers.append(
                layout.cross.line(arm * (layout.kerb(arm) + CROSSING_WIDTH_M + 2.0), arm * REACH_M, 0.0)
            )
            start = arm * layout.kerb(arm)
            walks += [
                layout.cross.strip(start, arm * REACH_M, half, half + walk),
                layout.cross.strip(start, arm * REACH_M, -half - walk, -half),
            ]
    for s0, s1 in spans:
        road_dividers.append(main.line(s0, s1, 0.0))
        lane_dividers += [main.line(s0, s1, -i * width) for i in range(1, right)]
        lane_dividers += [main.line(s0, s1, i * width) for i in range(1, left)]
        lane_dividers += [
            main.line(s0, s1, side * (layout.kerb(side) - PARKING_WIDTH_M)) for side in (1, -1) if layout.parking[side]
        ]
    patch = main_square()
    drivable = unary_union(roads).intersection(patch)
    layout.areas["drivable_area"] = polygons_of(drivable)
    layout.areas["walkway"] = polygons_of(unary_union(walks).difference(drivable).intersection(patch))
    layout.dividers = {"road_divider": road_dividers, "lane_divider": lane_dividers}


def main_square() -> Polygon:
    """Square of the scene's patch, less a metre, so that neighbours never touch."""
    edge = PATCH_EDGE_M / 2 - 1
    return Polygon([(-edge, -edge), (edge, -edge), (edge, edge), (-edge, edge)])


def polygons_of(geometry: BaseGeometry) -> list[Polygon]:
    """List the polygons of a geometry that are larger than 2 m²."""
    return [part for part in getattr(geometry, "geoms", [geometry]) if isinstance(part, Polygon) and part.area > 2.0]


def _draw_crossings(layout: Layout, rng: np.random.Generator) -> None:
    crossings, stop_lines = [], []
    if layout.cross is not None:
        near, far = layout.cross_half_width + 0.6, layout.cross_half_width + 0.6 + CROSSING_WIDTH_M
        for sign in (1, -1):
            _cross_main(layout, layout.cross_s + sign * near, layout.cross_s + sign * far, sign, crossings, stop_lines)
        for arm in layout.arms:
            s0 = arm * (layout.kerb(arm) + 0.6)
            s1 = s0 + arm * CROSSING_WIDTH_M
            crossings.append(layout.cross.strip(s0, s1, -layout.cross_half_width, layout.cross_half_width))
            s2 = s1 + arm * 0.8
            incoming = (0.0, layout.cross_half_width) if arm > 0 else (-layout.cross_half_width, 0.0)
            stop_lines.append(layout.cross.strip(s2, s2 + arm * STOP_LINE_WIDTH_M, *incoming))
    elif rng.random() < 0.8:
        s = float(rng.uniform(-35, 35))
        _cross_main(layout, s, s + CROSSING_WIDTH_M, 1, crossings, stop_lines)
        s2 = s - 0.8
        stop_lines.append(layout.main.strip(s2 - STOP_LINE_WIDTH_M, s2, layout.d_right, 0.0))
    layout.areas["ped_crossing"] = crossings
    layout.areas["stop_line"] = stop_lines


def _cross_main(layout: Layout, s0: float, s1: float, sign: int, crossings: list, stop_lines: list) -> None:
    """Add a crossing over the main road, and the stop line of the traffic that comes from its far side."""
    crossings.append(layout.main.strip(s0, s1, layout.d_right, layout.d_left))
    s2 = s1 + sign * 0.8
    approach = (0.0, layout.d_left) if sign > 0 else (layout.d_right, 0.0)
    stop_lines.append(layout.main.strip(s2, s2 + sign * STOP_LINE_WIDTH_M, *approach))


def _add_lots(layout: Layout, rng: np.random.Generator) -> None:
    layout.areas["carpark_area"] = []
    for side in (1, -1):
        corridor = layout.cross_half_width + layout.walkway_width + 1.5
        spans = [(-REACH_M + 8, REACH_M - 8)]
        if side in layout.arms:
            spans = [(-REACH_M + 8, layout.cross_s - corridor), (layout.cross_s + corridor, REACH_M - 8)]
        for start, end in spans:
            s = start
            while end - s > 12:
                length = min(float(rng.uniform(18, 40)), end - s)
                kind = str(rng.choice(["building", "green", "carpark", "construction"], p=[0.58, 0.2, 0.14, 0.08]))
                layout.lots.append(
                    Lot(
                        kind,
                        s,
                        s + length - 1.0,
                        side,
                        layout.kerb(side) + layout.walkway_width + 0.3,
                        float(rng.uniform(17, 26)),
                    )
                )
                s += length
    _ensure_lots(layout, rng)
    for lot in layout.lots:
        if lot.kind == "carpark":
            near, far = lot.side * lot.d_near, lot.side * (lot.d_near + lot.depth)
            layout.areas["carpark_area"] += polygons_of(
                layout.main.strip(lot.s0, lot.s1, near, far).intersection(main_square())
            )


def _ensure_lots(layout: Layout, rng: np.random.Generator) -> None:
    """Turn two lots near the ego vehicle into a building site and a car park, so that all ten classes occur."""
    close = [i for i, lot in enumerate(layout.lots) if abs(lot.s0 + lot.s1) / 2 < 32 and lot.s1 - lot.s0 > 16]
    chosen = rng.permutation(close)
    for index, kind in zip(chosen, ("construction", "carpark"), strict=False):
        lot = layout.lots[index]
        layout.lots[index] = Lot(kind, lot.s0, lot.s1, lot.side, lot.d_near, lot.depth)
