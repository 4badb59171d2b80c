"""Appearance of surfaces in images: albedo, texture, markings, wetness. All colours are RGB in [0, 1]."""

import torch

from vexkd_model.synth.ground import GRASS, GROUND_COLOUR
from vexkd_model.synth.lighting import Lighting
from vexkd_model.synth.raycast import Primitives, normals
from vexkd_model.synth.shapes import (
    BUS_BODY,
    CAR_BODY,
    FACADE,
    FOLIAGE,
    GLASS_COLOUR,
    HEAD,
    HEADLAMP,
    LAMP,
    STRIPED,
    TAIL,
    TAIL_LAMP,
)
from vexkd_model.synth.weather import Weather
from vexkd_model.synth.world import World

STOREY_M, WINDOW_PITCH_M = 3.1, 2.4
STRIPE_WHITE = (0.88, 0.88, 0.86)
NUMBER_PLATE, GRILLE, DOORS = (0.80, 0.80, 0.78), (0.06, 0.06, 0.07), (0.30, 0.31, 0.33)
PANE, LIT_PANE = (0.16, 0.20, 0.25), (0.95, 0.80, 0.50)
LIT_WINDOWS = 0.25  # of all windows, once the lamps are on
LAMP_GLOW, PANE_GLOW = 1.6, 0.55  # light that a lamp and a lit window give off, in units of a white surface's
WET_ALBEDO, WET_MIRROR = 0.45, 0.55  # what rain takes from the ground's albedo, and how much sky a wet road mirrors


def sky_colour(directions: torch.Tensor, weather: Weather) -> torch.Tensor:
    """Colour of the sky (R, 3), paler towards the horizon."""
    up = torch.nn.functional.normalize(directions, dim=-1)[:, 2].clamp(0, 1)[:, None]
    overhead, horizon = (
        torch.tensor(rgb, dtype=torch.float32, device=directions.device) for rgb in (weather.sky, weather.horizon)
    )
    return overhead + (horizon - overhead) * (1 - up) ** 6


def _hash(number: torch.Tensor) -> torch.Tensor:
    """Hash numbers to int64 (N,) in [0, 65535], the same on every device."""
    number = number & 0xFFFFFFFF
    number = ((number ^ (number >> 13)) * 1_274_126_177) & 0xFFFFFFFF
    return (number ^ (number >> 16)) & 0xFFFF


def _noise(x: torch.Tensor, y: torch.Tensor, cell_m: float) -> torch.Tensor:
    """Smooth noise in [−1, 1] by position: hashed at the corners of cells, bilinear between."""
    x, y = x / cell_m, y / cell_m
    x0, y0 = torch.floor(x), torch.floor(y)
    fx, fy = x - x0, y - y0
    ix, iy = x0.long(), y0.long()

    def corner(dx: int, dy: int) -> torch.Tensor:
        return _hash((ix + dx) * 374_761_393 + (iy + dy) * 668_265_263).float() / 32767.5 - 1

    low = corner(0, 0) * (1 - fx) + corner(1, 0) * fx
    high = corner(0, 1) * (1 - fx) + corner(1, 1) * fx
    return low * (1 - fy) + high * fy


def ground_colour(
    kind: torch.Tensor, points: torch.Tensor, depth: torch.Tensor, directions: torch.Tensor, light: Lighting
) -> torch.Tensor:
    """Colour (N, 3) of the ground of a kind (N,) at points (N, 3) [m], seen along directions (N, 3).

    Fine grain fades with distance. Rain darkens the ground, and makes it mirror the sky, most at grazing angles.
    """
    albedo = torch.from_numpy(GROUND_COLOUR).to(points.device)[kind]
    x, y = points[:, 0], points[:, 1]
    rough = torch.where(kind == GRASS, 0.20, 0.08)
    grain = 1 + rough * _noise(x, y, 0.15) * torch.exp(-depth / 15) + 0.10 * _noise(x, y, 3.0)
    rain = light.weather.rain
    colour = albedo * grain[:, None] * (1 - WET_ALBEDO * rain) * light.on_ground(points)
    if rain:
        steep = -torch.nn.functional.normalize(directions, dim=-1)[:, 2]
        mirror = WET_MIRROR * rain * (1 - steep.clamp(0, 1))[:, None] ** 4 * (1 + 0.5 * _noise(x, y, 1.3))[:, None]
        colour = colour * (1 - mirror) + mirror * torch.tensor(light.weather.horizon, device=points.device)
    return colour


def solid_colour(
    world: World, primitives: Primitives, index: torch.Tensor, points: torch.Tensor, light: Lighting
) -> torch.Tensor:
    """Colour (N, 3) of the primitives `index` (N,) at surface points (N, 3) [m]."""
    device = points.device
    normal, unit = normals(primitives, index, points)
    material = torch.from_numpy(world.materials).to(device)[index]
    albedo = torch.from_numpy(world.colours).to(device)[index]
    metres = unit * primitives.half[index]
    albedo, glow = _markings(
        albedo, material, unit, metres, primitives.half[index], points[:, 2], index, light.weather.lamps
    )
    glow = glow * torch.from_numpy(world.lights_on).to(device)[index]
    leaf = (material == FOLIAGE).float() * 0.35
    along = points[:, 0] + points[:, 1]
    grain = 1 + (0.04 + leaf) * _noise(along, points[:, 2], 0.35)
    return albedo * (grain[:, None] * light.on_solids(points, normal) + glow[:, None])


def _markings(
    albedo: torch.Tensor,
    material: torch.Tensor,
    unit: torch.Tensor,
    metres: torch.Tensor,
    half: torch.Tensor,
    height: torch.Tensor,
    index: torch.Tensor,
    lamps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paint markings: windows of houses and buses, lamps of vehicles, stripes of cones and barriers.

    Returns albedo (N, 3) and the light (N,) that the surface emits, 0 by day (lamps 0).
    """
    glow = torch.zeros_like(height)

    def paint(where: torch.Tensor, colour: tuple, light: float = 0.0) -> None:
        nonlocal albedo, glow
        albedo = torch.where(where[:, None], torch.tensor(colour, device=albedo.device), albedo)
        if light:
            glow = torch.where(where, light, glow)

    upright = unit[:, 2].abs() < 0.995
    across = torch.where(unit[:, 0].abs() > 0.995, metres[:, 1], metres[:, 0])
    in_storey, in_pitch = torch.remainder(height, STOREY_M), torch.remainder(across, WINDOW_PITCH_M)
    pane = (in_storey > 1.0) & (in_storey < 2.5) & (in_pitch > 0.6) & (in_pitch < 1.9)
    window = (material == FACADE) & upright & pane & (height > 0.8)
    paint(window, PANE)
    if lamps:
        storey, column = (height / STOREY_M).floor().long(), (across / WINDOW_PITCH_M).floor().long()
        room = _hash(storey * 374_761_393 + column * 668_265_263 + index * 1_013_904_223)
        paint(window & (room < LIT_WINDOWS * 65536), LIT_PANE, PANE_GLOW * lamps)
    front, rear, aside, up = unit[:, 0] > 0.985, unit[:, 0] < -0.985, unit[:, 1].abs(), unit[:, 2]
    bus = material == BUS_BODY
    post = torch.remainder(across, 1.5) < 0.12
    paint(bus & upright & ~rear & (up > -0.05) & (up < 0.72) & ~post, GLASS_COLOUR)
    paint(bus & rear & (aside < 0.7) & (up > -0.7) & (up < -0.2), GRILLE)
    paint(bus & rear & (aside < 0.6) & (up > 0.3) & (up < 0.7), GLASS_COLOUR)
    paint((material == TAIL) & rear & (half[:, 2] > 0.5) & (aside < 0.85) & (aside > 0.04) & (up.abs() < 0.88), DOORS)
    both = material == CAR_BODY
    lamp = (aside > 0.62) & (aside < 0.95) & (height > 0.45) & (height < 0.95)
    plate = (aside < 0.26) & (height > 0.35) & (height < 0.6)
    for lit, colour in (
        (front & (both | (material == HEAD)), HEADLAMP),
        (rear & (both | bus | (material == TAIL)), TAIL_LAMP),
    ):
        paint(lit & lamp, colour, LAMP_GLOW * lamps)
        paint(lit & plate, NUMBER_PLATE)
    glow = torch.where(material == LAMP, LAMP_GLOW * lamps, glow)
    slanted = torch.remainder(metres[:, 1] + metres[:, 2], 0.5) < 0.25
    cone = half[:, 1] < 0.3
    band = (unit[:, 2] > -0.25) & (unit[:, 2] < 0.25)
    paint((material == STRIPED) & torch.where(cone, band, slanted), STRIPE_WHITE)
    return albedo, glow
