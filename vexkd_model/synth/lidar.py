"""Spinning LiDAR on the roof: its rays, and the surfaces of a world that they meet."""

from dataclasses import dataclass

import numpy as np
import torch

from vexkd_model.synth.echoes import Surfaces, returns
from vexkd_model.synth.ground import GROUND_INTENSITY, PAINT_WHITE, PAINT_YELLOW
from vexkd_model.synth.raycast import NO_HIT, Hits, Primitives, cast, normals
from vexkd_model.synth.rig import RigLidar
from vexkd_model.synth.shapes import CAR_BODY, GLASS, INTENSITY
from vexkd_model.synth.world import World, world_from_ego

PAINT_BONUS, PAINT_REACH_M = 22.0, 12.0  # paint stands out of asphalt only near the vehicle
ELEVATION_SLACK = 1e-5  # [rad], for single precision
WET_GROUND = 0.55  # a wet road throws this share of the light away from the sensor


@dataclass(frozen=True)
class Scan:
    """Revolution of the LiDAR.

    points: float32 (beams · columns, 5), x, y, z [m] in the sensor frame, intensity, ring, in firing order, one for
    every ray: see `echoes.returns`. visible: float32 (A,), the seen share of each actor's outline; NaN for one that
    no ray would meet.
    """

    points: np.ndarray
    visible: np.ndarray


def scan(world: World, time_s: float, rng: np.random.Generator, device: str = "cpu") -> Scan:
    """Scan the world at one instant; motion within a revolution only shows in rays without a return, as in nuScenes."""
    lidar = world.rig.lidar
    world_from_lidar = world_from_ego(world.ego, time_s) @ lidar.base_from_lidar
    origin = torch.tensor(world_from_lidar[:3, 3], dtype=torch.float32, device=device)
    directions = ray_directions(lidar, world_from_lidar, device)
    primitives = world.primitives(time_s, device)
    hits = cast(primitives, origin, directions, lidar_windows(lidar, primitives, world_from_lidar), lidar.grid)
    ground, kind = world.ground.cast(origin, directions)
    on_ground = ground < hits.depth
    depth = torch.where(on_ground, ground, hits.depth)
    surfaces = _surfaces(world, primitives, hits, origin, directions, depth, on_ground, kind)
    points = returns(surfaces, world.weather, lidar, world.ego.speed, rng)
    return Scan(points, _visible_share(world, hits, depth.clamp_max(lidar.max_range)))


def ray_directions(lidar: RigLidar, world_from_lidar: np.ndarray, device: str) -> torch.Tensor:
    """Unit vectors float32 (beams · columns, 3) in the world; column 0 looks along the vehicle."""
    azimuth = lidar.azimuth + lidar.ahead
    cos = np.cos(lidar.elevation)[:, None]
    z = np.broadcast_to(np.sin(lidar.elevation)[:, None], lidar.grid)
    rays = np.stack([cos * np.cos(azimuth), cos * np.sin(azimuth), z], -1).reshape(-1, 3)
    return torch.from_numpy((rays @ world_from_lidar[:3, :3].T).astype(np.float32)).to(device)


def lidar_windows(lidar: RigLidar, primitives: Primitives, world_from_lidar: np.ndarray) -> torch.Tensor:
    """Windows int64 (P, 4) for `cast`: the beams and columns that can meet each primitive.

    They are those of an upright sensor, widened by what the sensor's tilt can move a ray.
    """
    column_0 = world_from_lidar[:2, :2] @ [np.cos(lidar.ahead), np.sin(lidar.ahead)]
    yaw, tilt = float(np.arctan2(column_0[1], column_0[0])), float(np.arccos(np.clip(world_from_lidar[2, 2], -1, 1)))
    origin = torch.tensor(world_from_lidar[:3, 3], dtype=torch.float32, device=primitives.centre.device)
    delta = primitives.centre - origin
    cos, sin = torch.cos(primitives.yaw), torch.sin(primitives.yaw)
    local = torch.stack([cos * delta[:, 0] + sin * delta[:, 1], cos * delta[:, 1] - sin * delta[:, 0]], 1).abs()
    near = (local - primitives.half[:, :2]).clamp_min(0).norm(dim=1)
    far = (local + primitives.half[:, :2]).norm(dim=1)
    top, bottom = delta[:, 2] + primitives.half[:, 2], delta[:, 2] - primitives.half[:, 2]
    high = torch.atan2(top, torch.where(top > 0, near, far)) + tilt
    low = torch.atan2(bottom, torch.where(bottom > 0, far, near)) - tilt
    elevation = torch.tensor(lidar.elevation, dtype=torch.float32, device=origin.device)
    first_row = torch.searchsorted(elevation, low - ELEVATION_SLACK)
    end_row = torch.searchsorted(elevation, high + ELEVATION_SLACK, right=True)
    corners = primitives.corners() - origin
    middle = torch.atan2(delta[:, 1], delta[:, 0])
    turn = torch.atan2(corners[..., 1], corners[..., 0]) - middle[:, None]
    turn = torch.remainder(turn + np.pi, 2 * np.pi) - np.pi
    column = 2 * np.pi / lidar.columns
    slack = _azimuth_change(float(np.abs(lidar.elevation).max()), tilt) / column + 1e-2
    first = torch.ceil((middle + turn.amin(1) - yaw) / column - slack).long()
    last = torch.floor((middle + turn.amax(1) - yaw) / column + slack).long() + 1
    inside = near < 1e-3
    first, last = torch.where(inside, 0, first), torch.where(inside, lidar.columns, last)
    last = torch.where(near > lidar.max_range, first, last)
    return torch.stack([first_row, end_row, first, last], 1)


def _azimuth_change(elevation: float, tilt: float) -> float:
    """Bound what a tilt changes of the azimuth of rays up to an elevation, against that of column 0 [rad].

    A tilt about x takes (cos a, sin a, tan e) to (cos a, sin a · cos t − tan e · sin t, …): the shrunk y turns a ray by
    asin(tan²(t/2)) at most, and column 0, too; the shift turns what is at least cos t long by asin(tan e · tan t).
    """
    shift = np.tan(elevation) * np.tan(tilt)
    return np.pi if shift >= 1 else float(np.arcsin(shift) + 2 * np.arcsin(np.tan(tilt / 2) ** 2))


def _surfaces(
    world: World,
    primitives: Primitives,
    hits: Hits,
    origin: torch.Tensor,
    directions: torch.Tensor,
    depth: torch.Tensor,
    on_ground: torch.Tensor,
    kind: torch.Tensor,
) -> Surfaces:
    """Look up the surface that every ray meets."""
    cosine = directions[:, 2].abs()
    kinds = kind.cpu().numpy()
    distance = depth.cpu().numpy()
    dry = 1 - world.weather.rain
    intensity = GROUND_INTENSITY[kinds] * (1 - WET_GROUND * world.weather.rain)
    painted = (kinds == PAINT_WHITE) | (kinds == PAINT_YELLOW)
    intensity += painted * (dry * PAINT_BONUS) * np.exp(-((np.minimum(distance, 99.0) / PAINT_REACH_M) ** 2))
    solid = torch.nonzero(~on_ground & (hits.primitive != NO_HIT)).squeeze(1)
    index = hits.primitive[solid]
    points = origin + depth[solid, None] * directions[solid]
    normal, _ = normals(primitives, index, points)
    cosine[solid] = (normal * directions[solid]).sum(1).abs()
    of, where = index.cpu().numpy(), solid.cpu().numpy()
    material = world.materials[of]
    # The own colour shows only faintly: a white car reflects a little more than a black one.
    brightness = world.colours[of].mean(1)
    intensity[where] = INTENSITY[material] * np.where(material >= CAR_BODY, 0.8 + 0.4 * brightness, 1.0)
    window = np.zeros(len(distance), bool)
    window[where] = material == GLASS
    return Surfaces(distance, intensity.astype(np.float32), cosine.cpu().numpy(), window)


def _visible_share(world: World, hits: Hits, depth: torch.Tensor) -> np.ndarray:
    """Share of the rays towards each actor that meet it first."""
    owner = torch.from_numpy(world.owner).to(depth.device)
    primitive, ray = hits.pairs
    actor = owner[primitive]
    own = actor >= 0
    outline = torch.unique(actor[own] * len(depth) + ray[own])
    whole = torch.bincount(torch.div(outline, len(depth), rounding_mode="floor"), minlength=len(world.actors))
    first = hits.primitive[(hits.primitive != NO_HIT) & (hits.depth <= depth)]
    seen = torch.bincount(owner[first][owner[first] >= 0], minlength=len(world.actors))
    return (seen / whole).cpu().numpy()
