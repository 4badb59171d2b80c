"""Light at one moment of a scene: sun and sky, their shadows on the ground, street lamps and the own headlights."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from vexkd_model.geometry.transforms import inverse
from vexkd_model.synth.ground import CELL_M, CELLS
from vexkd_model.synth.presets import PATCH_EDGE_M
from vexkd_model.synth.raycast import CYLINDER, ELLIPSOID, Primitives
from vexkd_model.synth.weather import Weather
from vexkd_model.synth.world import SCENERY, World, world_from_ego

SUNLESS, COVERED = 1, 2  # bits of the shadow raster
UNDER_A_VEHICLE = 0.35  # what is left of the sky's light there
FAINTEST_SUN = 0.04  # a weaker sun casts no shadow that anyone could see
LAMP_CELL_M = 0.5
LAMP_CELLS = round(PATCH_EDGE_M / LAMP_CELL_M)
LAMP_STRENGTH = 1.6  # on the ground right below a lamp
LAMP_REACH_M = 30.0
HEADLIGHT_AHEAD_M, HEADLIGHT_HEIGHT_M = 3.4, 0.7  # in base_link
HEADLIGHT_STRENGTH, HEADLIGHT_REACH_M, HEADLIGHT_HALF_WIDTH = 1.7, 14.0, 0.42  # [rad]
ABOVE_CUT_OFF = 0.12  # share of a dipped headlight's strength above its own height
LAMP_COLOUR = (1.0, 0.86, 0.66)


@dataclass(frozen=True)
class Lighting:
    """Light at one moment.

    shadows: uint8 (CELLS, CELLS), the ground's raster, SUNLESS | COVERED. lamplight: float32 (LAMP_CELLS,
    LAMP_CELLS), the same square, the light of all street lamps on the ground. world_from_base: float64 (4, 4).
    """

    weather: Weather
    shadows: torch.Tensor
    lamplight: torch.Tensor
    world_from_base: np.ndarray

    def on_ground(self, points: torch.Tensor) -> torch.Tensor:
        """Light RGB (N, 3) that falls on the ground at points (N, 3) [m]."""
        shadow = self.shadows.view(-1)[_cell(points, CELL_M, CELLS)]
        sky = self.weather.ambient * torch.where((shadow & COVERED) > 0, UNDER_A_VEHICLE, 1.0)
        sun = self.weather.direct * self.weather.sun[2] * (shadow == 0)
        return self._coloured(sky, sun, points, 1.0)

    def on_solids(self, points: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        """Light RGB (N, 3) that falls on surfaces at points (N, 3) [m] with unit normals (N, 3)."""
        sun = torch.tensor(self.weather.sun, dtype=torch.float32, device=points.device)
        # Light from above and, weaker, back from the ground.
        sky = self.weather.ambient * (0.80 + 0.20 * normals[:, 2])
        return self._coloured(sky, self.weather.direct * (normals @ sun).clamp_min(0), points, 0.6)

    def _coloured(self, sky: torch.Tensor, sun: torch.Tensor, points: torch.Tensor, share: float) -> torch.Tensor:
        """Sum up all light, RGB (N, 3). share: of the street lamps' light on the ground that reaches such a surface."""

        def colour(rgb: tuple) -> torch.Tensor:
            return torch.tensor(rgb, dtype=torch.float32, device=points.device)

        light = sky[:, None] + sun[:, None] * colour(self.weather.tint)
        if self.weather.lamps:
            pools = share * self.lamplight.view(-1)[_cell(points, LAMP_CELL_M, LAMP_CELLS)]
            lamps = self.weather.lamps * (pools + self._headlights(points))
            light = light + lamps[:, None] * colour(LAMP_COLOUR)
        return light

    def _headlights(self, points: torch.Tensor) -> torch.Tensor:
        """Strength (N,) of the own dipped headlights."""
        base_from_world = torch.tensor(inverse(self.world_from_base), dtype=torch.float32, device=points.device)
        x, y, z = (points @ base_from_world[:3, :3].T + base_from_world[:3, 3]).unbind(-1)
        ahead = x - HEADLIGHT_AHEAD_M
        distance = torch.hypot(ahead, y)
        beam = torch.exp(-((torch.atan2(y, ahead) / HEADLIGHT_HALF_WIDTH) ** 2))
        above = torch.sigmoid((z - HEADLIGHT_HEIGHT_M) * 6)
        cut_off = 1 - (1 - ABOVE_CUT_OFF) * above
        return HEADLIGHT_STRENGTH * beam * cut_off / (1 + (distance / HEADLIGHT_REACH_M) ** 2)


def _cell(points: torch.Tensor, cell_m: float, cells: int) -> torch.Tensor:
    """Index int64 (N,) of the raster's cell below each point; points outside take the nearest cell."""
    column, row = (
        torch.floor((points[:, axis] + PATCH_EDGE_M / 2) / cell_m).long().clamp(0, cells - 1) for axis in (0, 1)
    )
    return row * cells + column


class LightSource:
    """Light of a scene at any time, with the shadows of static objects and the light of lamps computed once."""

    def __init__(self, world: World, device: str = "cpu") -> None:
        self.world, self.device = world, device
        self._still = np.zeros((CELLS, CELLS), np.uint8)
        at_rest = np.array([actor.track.speed == 0 for actor in world.actors] + [True])  # index −1: the scenery
        self._moves = ~at_rest[world.owner]
        self._draw(self._still, world.primitives(0.0), ~self._moves)
        self._lamplight = torch.from_numpy(_pools(world.lamps) if world.weather.lamps else _pools(world.lamps[:0]))

    def at(self, time_s: float) -> Lighting:
        """Compute the light at a time."""
        shadows = self._still.copy()
        self._draw(shadows, self.world.primitives(time_s), self._moves)
        return Lighting(
            self.world.weather,
            torch.from_numpy(shadows).to(self.device),
            self._lamplight.to(self.device),
            world_from_ego(self.world.ego, time_s),
        )

    def _draw(self, raster: np.ndarray, primitives: Primitives, chosen: np.ndarray) -> None:
        """Draw the shadows of the chosen solids: of the sun's light if it shines, of the sky's below vehicles."""
        weather = self.world.weather
        corners = primitives.corners().numpy().astype(np.float64)
        round_off = np.array([{ELLIPSOID: 0.75, CYLINDER: 0.85}.get(kind, 1.0) for kind in primitives.kind.tolist()])
        centre = corners.mean(1, keepdims=True)
        corners = centre + (corners - centre) * round_off[:, None, None]
        along_sun = np.array(weather.sun[:2]) / weather.sun[2]
        cast = corners[..., :2] - corners[..., 2:].clip(0) * along_sun
        if weather.direct >= FAINTEST_SUN:
            for i in np.flatnonzero(chosen):
                _fill_hull(raster, cast[i], SUNLESS)
        low = (self.world.owner != SCENERY) & chosen & (corners[..., 2].min(1) < 0.9)
        for i in np.flatnonzero(low):
            _fill_hull(raster, corners[i, :, :2], SUNLESS | COVERED)


def _fill_hull(raster: np.ndarray, points: np.ndarray, value: int) -> None:
    """Fill the convex hull of points (N, 2) [m]."""
    pixels = np.round(((points + PATCH_EDGE_M / 2) / CELL_M - 0.5) * 16).astype(np.int32)
    cv2.fillConvexPoly(raster, cv2.convexHull(pixels), (value,), shift=4)


def _pools(lamps: np.ndarray) -> np.ndarray:
    """Light float32 (LAMP_CELLS, LAMP_CELLS) of lamps (L, 3) on flat ground, by distance and angle of incidence."""
    light = np.zeros((LAMP_CELLS, LAMP_CELLS), np.float32)
    reach = round(LAMP_REACH_M / LAMP_CELL_M)
    for x, y, height in lamps:
        column, row = (int((v + PATCH_EDGE_M / 2) / LAMP_CELL_M) for v in (x, y))
        rows, columns = (slice(max(0, at - reach), max(0, at + reach)) for at in (row, column))
        window = light[rows, columns]
        centre_y = (np.arange(rows.start, rows.start + window.shape[0]) + 0.5) * LAMP_CELL_M - PATCH_EDGE_M / 2
        centre_x = (np.arange(columns.start, columns.start + window.shape[1]) + 0.5) * LAMP_CELL_M - PATCH_EDGE_M / 2
        square = (centre_x - x) ** 2 + (centre_y[:, None] - y) ** 2
        window += LAMP_STRENGTH * (height**2 / (height**2 + square)) ** 2
    return light
