"""How surfaces look to a camera: albedo, texture, markings, daylight. All colours are RGB in [0, 1]."""

from dataclasses import dataclass

import numpy as np
import torch

from vexkd_model.data.synth.ground import GRASS, GROUND_COLOUR
from vexkd_model.data.synth.raycast import Primitives, normals
from vexkd_model.data.synth.shapes import BUS_BODY, CAR_BODY, FACADE, FOLIAGE, GLASS_COLOUR, STRIPED
from vexkd_model.data.synth.world import World

STOREY_M, WINDOW_PITCH_M = 3.1, 2.4
STRIPE_WHITE = (0.88, 0.88, 0.86)
HEADLAMP, TAIL_LAMP, NUMBER_PLATE = (0.90, 0.90, 0.82), (0.62, 0.05, 0.05), (0.80, 0.80, 0.78)


@dataclass(frozen=True)
class Daylight:
    """One scene's light. sun: unit vector towards it, float32 (3,). direct, ambient: strengths. sky: RGB overhead."""

    sun: tuple[float, float, float]
    direct: float
    ambient: float
    sky: tuple[float, float, float]
    exposure: float


def draw_daylight(rng: np.random.Generator) -> Daylight:
    """Sunny or overcast, morning to evening."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(0.35, 1.2)
    clear = float(rng.uniform(0.0, 1.0))
    sun = (np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation))
    sky = tuple((1 - clear) * np.array([0.74, 0.76, 0.78]) + clear * np.array([0.45, 0.63, 0.86]))
    return Daylight(sun, 0.15 + 0.55 * clear, 0.80 - 0.30 * clear, sky, float(rng.uniform(0.85, 1.12)))


def sky_colour(directions: torch.Tensor, light: Daylight) -> torch.Tensor:
    """(R, 3): paler towards the horizon."""
    up = torch.nn.functional.normalize(directions, dim=-1)[:, 2].clamp(0, 1)[:, None]
    overhead = torch.tensor(light.sky, dtype=torch.float32, device=directions.device)
    return overhead + (0.90 - overhead) * (1 - up) ** 6


def _noise(x: torch.Tensor, y: torch.Tensor, cell_m: float) -> torch.Tensor:
    """Smooth noise in [−1, 1] fixed to the place: hashed at the corners of cells, bilinear between."""
    x, y = x / cell_m, y / cell_m
    x0, y0 = torch.floor(x), torch.floor(y)
    fx, fy = x - x0, y - y0
    ix, iy = x0.long(), y0.long()

    def corner(dx: int, dy: int) -> torch.Tensor:
        h = ((ix + dx) * 374_761_393 + (iy + dy) * 668_265_263) & 0xFFFFFFFF
        h = ((h ^ (h >> 13)) * 1_274_126_177) & 0xFFFFFFFF
        return ((h ^ (h >> 16)) & 0xFFFF).float() / 32767.5 - 1

    low = corner(0, 0) * (1 - fx) + corner(1, 0) * fx
    high = corner(0, 1) * (1 - fx) + corner(1, 1) * fx
    return low * (1 - fy) + high * fy


def ground_colour(kind: torch.Tensor, points: torch.Tensor, depth: torch.Tensor, light: Daylight) -> torch.Tensor:
    """(N, 3) of the ground of a kind (N,) at points (N, 3) [m]. Fine grain fades with the distance that blurs it."""
    albedo = torch.from_numpy(GROUND_COLOUR).to(points.device)[kind]
    x, y = points[:, 0], points[:, 1]
    rough = torch.where(kind == GRASS, 0.20, 0.08)
    grain = 1 + rough * _noise(x, y, 0.15) * torch.exp(-depth / 15) + 0.10 * _noise(x, y, 3.0)
    return albedo * grain[:, None] * (light.ambient + light.direct * light.sun[2])


def solid_colour(world: World, primitives: Primitives, index: torch.Tensor, points: torch.Tensor,
                 light: Daylight) -> torch.Tensor:
    """(N, 3) of the primitives `index` (N,) at surface points (N, 3) [m]."""
    device = points.device
    normal, unit = normals(primitives, index, points)
    material = torch.from_numpy(world.materials).to(device)[index]
    albedo = torch.from_numpy(world.colours).to(device)[index]
    metres = unit * primitives.half[index]
    albedo = _markings(albedo, material, unit, metres, primitives.half[index], points[:, 2])
    leaf = (material == FOLIAGE).float() * 0.35
    along = points[:, 0] + points[:, 1]
    grain = 1 + (0.04 + leaf) * _noise(along, points[:, 2], 0.35)
    sun = torch.tensor(light.sun, dtype=torch.float32, device=device)
    # Light from above and, weaker, back from the ground.
    ambient = light.ambient * (0.80 + 0.20 * normal[:, 2])
    return albedo * (grain * (ambient + light.direct * (normal @ sun).clamp_min(0)))[:, None]


def _markings(albedo: torch.Tensor, material: torch.Tensor, unit: torch.Tensor, metres: torch.Tensor,
              half: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
    """What is drawn on surfaces: windows of houses and buses, lamps of vehicles, stripes of cones and barriers."""
    def paint(where: torch.Tensor, colour: tuple) -> None:
        nonlocal albedo
        albedo = torch.where(where[:, None], torch.tensor(colour, device=albedo.device), albedo)

    upright = unit[:, 2].abs() < 0.995
    across = torch.where(unit[:, 0].abs() > 0.995, metres[:, 1], metres[:, 0])
    in_storey, in_pitch = torch.remainder(height, STOREY_M), torch.remainder(across, WINDOW_PITCH_M)
    pane = (in_storey > 1.0) & (in_storey < 2.5) & (in_pitch > 0.6) & (in_pitch < 1.9)
    paint((material == FACADE) & upright & pane & (height > 0.8), (0.16, 0.20, 0.25))
    bus = material == BUS_BODY
    post = torch.remainder(across, 1.5) < 0.12
    paint(bus & upright & (unit[:, 2] > -0.05) & (unit[:, 2] < 0.62) & ~post, GLASS_COLOUR)
    body = bus | (material == CAR_BODY)
    lamp = (unit[:, 1].abs() > 0.62) & (unit[:, 1].abs() < 0.95) & (height > 0.45) & (height < 0.95)
    paint(body & (unit[:, 0] > 0.985) & lamp, HEADLAMP)
    paint(body & (unit[:, 0] < -0.985) & lamp, TAIL_LAMP)
    plate = (unit[:, 1].abs() < 0.26) & (height > 0.35) & (height < 0.55)
    paint(body & (unit[:, 0].abs() > 0.985) & plate, NUMBER_PLATE)
    slanted = torch.remainder(metres[:, 1] + metres[:, 2], 0.5) < 0.25
    cone = half[:, 1] < 0.3
    band = (unit[:, 2] > -0.25) & (unit[:, 2] < 0.25)
    paint((material == STRIPED) & torch.where(cone, band, slanted), STRIPE_WHITE)
    return albedo
