"""Ground of a scene as a raster of its kinds and heights."""

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike
from shapely.geometry import Polygon

from vexkd_model.synth.layout import KERB_HEIGHT_M, PARKING_WIDTH_M, Layout
from vexkd_model.synth.presets import PATCH_EDGE_M

CELL_M = 0.1
CELLS = round(PATCH_EDGE_M / CELL_M)
# Kinds of ground. GRASS, PAVING and WALKWAY lie a kerb above the road; KERB is the step between.
FIELD, ASPHALT, PAINT_WHITE, PAINT_YELLOW, GRAVEL, GRASS, PAVING, WALKWAY, KERB = range(9)
FIRST_RAISED = GRASS
# Mean LiDAR intensity (0 … 255) at perpendicular incidence; paint reflects like asphalt but for a bonus nearby.
GROUND_INTENSITY = np.array([18, 11, 11, 11, 17, 21, 15, 16, 22], np.float32)
GROUND_COLOUR = np.array(
    [
        (0.33, 0.36, 0.22),
        (0.27, 0.27, 0.28),
        (0.82, 0.82, 0.80),
        (0.78, 0.62, 0.15),
        (0.45, 0.38, 0.29),
        (0.22, 0.36, 0.14),
        (0.47, 0.44, 0.41),
        (0.55, 0.54, 0.52),
        (0.62, 0.61, 0.59),
    ],
    np.float32,
)
LOT_GROUND = {"building": PAVING, "green": GRASS, "carpark": ASPHALT, "construction": GRAVEL}
LINE_WIDTH_M = 0.15
DASH_M, DASH_GAP_M = 3.0, 4.5
STRIPE_M = 0.5  # of a crossing: width of a stripe, and of the gap to the next


@dataclass(frozen=True)
class Ground:
    """Raster of the ground.

    kinds: uint8 (CELLS, CELLS), rows along y, columns along x, from −PATCH_EDGE_M / 2; FIELD outside.
    """

    kinds: torch.Tensor

    def kind_at(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Look up the kind of ground, int64, at positions in the scene's frame [m]."""
        column = torch.floor((x + PATCH_EDGE_M / 2) / CELL_M).long()
        row = torch.floor((y + PATCH_EDGE_M / 2) / CELL_M).long()
        inside = (column >= 0) & (column < CELLS) & (row >= 0) & (row < CELLS)
        kinds = self.kinds.view(-1)[torch.where(inside, row * CELLS + column, 0)].long()
        return torch.where(inside, kinds, FIELD)

    def cast(self, origin: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Intersect rays origin (3,) + t · directions (R, 3) with the ground: t (R,) and kind (R,).

        t is infinite above the horizon. A ray that passes below the raised level but meets raised ground has hit the
        kerb between the two.
        """
        down = directions[:, 2] < -1e-6
        dz = torch.where(down, directions[:, 2], -1.0)
        t_raised, t_low = (KERB_HEIGHT_M - origin[2]) / dz, -origin[2] / dz
        kind_raised = self.kind_at(*(origin[:2] + t_raised[:, None] * directions[:, :2]).unbind(-1))
        kind_low = self.kind_at(*(origin[:2] + t_low[:, None] * directions[:, :2]).unbind(-1))
        on_top, in_kerb = kind_raised >= FIRST_RAISED, kind_low >= FIRST_RAISED
        t = torch.where(on_top, t_raised, torch.where(in_kerb, (t_raised + t_low) / 2, t_low))
        kind = torch.where(on_top, kind_raised, torch.where(in_kerb, KERB, kind_low))
        return torch.where(down, t, torch.inf), kind


def draw_ground(layout: Layout, device: str = "cpu") -> Ground:
    """Draw a layout onto the raster: land, then roads, then road markings."""
    kinds = np.full((CELLS, CELLS), FIELD, np.uint8)
    for lot in layout.lots:
        near, far = lot.side * lot.d_near, lot.side * (lot.d_near + lot.depth)
        _fill(kinds, layout.main.strip(lot.s0, lot.s1, near, far), LOT_GROUND[lot.kind])
    for polygon in layout.areas["walkway"]:
        _fill(kinds, polygon, WALKWAY)
    for polygon in layout.areas["drivable_area"]:
        _fill(kinds, polygon, ASPHALT)
    for polygon in layout.areas["stop_line"]:
        _fill(kinds, polygon, PAINT_WHITE)
    for polygon in layout.areas["ped_crossing"]:
        for stripe in _stripes(polygon):
            _fill(kinds, stripe, PAINT_WHITE)
    for line in layout.dividers["road_divider"]:
        _line(kinds, line, PAINT_YELLOW)
    for line in layout.dividers["lane_divider"]:
        dashed = not _bounds_parking(layout, line)
        for piece in _dashes(line) if dashed else (line,):
            _line(kinds, piece, PAINT_WHITE)
    return Ground(torch.from_numpy(kinds).to(device))


def _bounds_parking(layout: Layout, line: np.ndarray) -> bool:
    """Check whether a lane divider is the solid line along a parking strip."""
    middle = line[len(line) // 2]
    return any(
        layout.parking[side]
        and np.abs(
            np.hypot(*(layout.main.line(-200, 200, side * (layout.kerb(side) - PARKING_WIDTH_M), 0.5) - middle).T)
        ).min()
        < 0.3
        for side in (1, -1)
    )


def _pixels(points: ArrayLike) -> np.ndarray:
    """Convert scene metres (N, 2) to raster cells with four fractional bits, as cv2 takes them."""
    return np.round(((np.asarray(points) + PATCH_EDGE_M / 2) / CELL_M - 0.5) * 16).astype(np.int32)


def _fill(kinds: np.ndarray, polygon: Polygon, kind: int) -> None:
    rings = [_pixels(np.asarray(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
    cv2.fillPoly(kinds, rings, (kind,), shift=4)


def _line(kinds: np.ndarray, points: np.ndarray, kind: int) -> None:
    steps = np.diff(points, axis=0)
    normal = np.stack([-steps[:, 1], steps[:, 0]], 1) / np.hypot(*steps.T)[:, None] * LINE_WIDTH_M / 2
    for a, b, n in zip(points[:-1], points[1:], normal, strict=True):
        cv2.fillPoly(kinds, [_pixels(np.array([a + n, b + n, b - n, a - n]))], (kind,), shift=4)


def _dashes(line: np.ndarray) -> list[np.ndarray]:
    arc = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    starts = np.arange(0.0, arc[-1], DASH_M + DASH_GAP_M)
    ends = np.minimum(starts + DASH_M, arc[-1])
    return [
        np.stack([np.interp((a, b), arc, line[:, axis]) for axis in (0, 1)], 1)
        for a, b in zip(starts, ends, strict=True)
        if b - a > 0.5
    ]


def _stripes(crossing: Polygon) -> list[Polygon]:
    """Cut a crossing into zebra stripes: bars along the direction of travel, which is the crossing's short side."""
    rectangle = cast(Polygon, crossing.minimum_rotated_rectangle)
    corners = np.asarray(rectangle.exterior.coords)[:4]
    first, second = corners[1] - corners[0], corners[3] - corners[0]
    along, bar = (first, second) if np.hypot(*first) > np.hypot(*second) else (second, first)
    length = np.hypot(*along)
    unit = along / length
    return [
        Polygon(
            [
                corners[0] + unit * at,
                corners[0] + unit * (at + STRIPE_M),
                corners[0] + unit * (at + STRIPE_M) + bar,
                corners[0] + unit * at + bar,
            ]
        )
        for at in np.arange(0.25, length - STRIPE_M, 2 * STRIPE_M)
    ]
