"""A spinning 32-beam LiDAR (HDL-32E) on the roof: rays, returns, noise and intensity."""

from dataclasses import dataclass

import numpy as np
import torch

from vexkd_model.data.synth.ground import GROUND_INTENSITY, PAINT_WHITE, PAINT_YELLOW
from vexkd_model.data.synth.raycast import NO_HIT, Hits, Primitives, cast, normals
from vexkd_model.data.synth.shapes import CAR_BODY, GLASS, INTENSITY
from vexkd_model.data.synth.world import World, world_from_ego

BEAMS, COLUMNS = 32, 1084
ELEVATION = np.deg2rad(np.linspace(-30.67, 10.67, BEAMS))  # ring 0 looks down most
MAX_RANGE_M, MIN_RANGE_M = 100.0, 1.0
RANGE_NOISE_M = 0.02
DROPPED = 0.02  # of all returns, at random
GLASS_PASSES = 0.55  # of the rays that meet a window
WEAKEST_ECHO = 1.5e-4  # intensity · cos(incidence) / range²: a return is detected above about this
INTENSITY_NOISE = 0.25  # standard deviation of the logarithm
PAINT_BONUS, PAINT_REACH_M = 22.0, 12.0  # paint stands out of asphalt only near the vehicle
TRANSLATION = (0.94, 0.0, 1.84)  # of the sensor in base_link [m]
YAW = -np.pi / 2  # its x axis points to the vehicle's right, as in nuScenes
ROOF_HALF = np.array([0.95, 0.85])  # the own roof below the sensor [m]
ROOF_TOP_M = 1.42


@dataclass(frozen=True)
class Scan:
    """One revolution. points: float32 (N, 5), x, y, z [m] in the sensor frame, intensity 0 … 255, ring.

    visible: float32 (A,), the seen share of each actor's outline; NaN for one that no ray would meet.
    """

    points: np.ndarray
    visible: np.ndarray


def base_from_lidar() -> np.ndarray:
    """float64 (4, 4) extrinsics."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[0, 1], [-1, 0]]
    matrix[:3, 3] = TRANSLATION
    return matrix


def scan(world: World, time_s: float, rng: np.random.Generator, device: str = "cpu") -> Scan:
    """Turn once, at one instant: nuScenes' motion within a revolution is not modelled."""
    world_from_base = world_from_ego(world.ego, time_s)
    yaw = float(np.arctan2(world_from_base[1, 0], world_from_base[0, 0]))
    origin = torch.tensor(world_from_base[:3, :3] @ TRANSLATION + world_from_base[:3, 3], dtype=torch.float32,
                          device=device)
    directions = _directions(yaw, device)
    primitives = world.primitives(time_s, device)
    hits = cast(primitives, origin, directions, lidar_windows(primitives, origin, yaw), (BEAMS, COLUMNS))
    ground, kind = world.ground.cast(origin, directions)
    on_ground = ground < hits.depth
    depth = torch.where(on_ground, ground, hits.depth)
    roof = _own_roof(device)
    seen = torch.nonzero((depth < MAX_RANGE_M) & (depth > MIN_RANGE_M) & ~roof).squeeze(1)
    strength, window = _strength(world, primitives, hits, origin, directions, depth, on_ground, kind, seen)
    points = _returns(seen.cpu().numpy(), depth[seen].cpu().numpy(), strength, window, rng)
    return Scan(points, _visible_share(world, hits, torch.minimum(depth, torch.tensor(MAX_RANGE_M, device=device))))


def _directions(yaw: float, device: str) -> torch.Tensor:
    """float32 (BEAMS · COLUMNS, 3) unit vectors in the world; column 0 looks along the vehicle."""
    azimuth = yaw + np.arange(COLUMNS) * (2 * np.pi / COLUMNS)
    cos = np.cos(ELEVATION)[:, None]
    z = np.broadcast_to(np.sin(ELEVATION)[:, None], (BEAMS, COLUMNS))
    rays = np.stack([cos * np.cos(azimuth), cos * np.sin(azimuth), z], -1).reshape(-1, 3)
    return torch.from_numpy(rays.astype(np.float32)).to(device)


def _own_roof(device: str) -> torch.Tensor:
    """bool (BEAMS · COLUMNS,): rays that end on the vehicle's own roof, which the driver software drops."""
    azimuth = np.arange(COLUMNS) * (2 * np.pi / COLUMNS)
    with np.errstate(divide="ignore"):
        edge = np.minimum(ROOF_HALF[0] / np.abs(np.cos(azimuth)), ROOF_HALF[1] / np.abs(np.sin(azimuth)))
    height_at_edge = TRANSLATION[2] + np.tan(ELEVATION)[:, None] * edge
    return torch.from_numpy((height_at_edge < ROOF_TOP_M).reshape(-1)).to(device)


def lidar_windows(primitives: Primitives, origin: torch.Tensor, yaw: float) -> torch.Tensor:
    """int64 (P, 4) windows for `cast`: the beams and columns that can meet each primitive."""
    delta = primitives.centre - origin
    cos, sin = torch.cos(primitives.yaw), torch.sin(primitives.yaw)
    local = torch.stack([cos * delta[:, 0] + sin * delta[:, 1], cos * delta[:, 1] - sin * delta[:, 0]], 1).abs()
    near = (local - primitives.half[:, :2]).clamp_min(0).norm(dim=1)
    far = (local + primitives.half[:, :2]).norm(dim=1)
    top, bottom = delta[:, 2] + primitives.half[:, 2], delta[:, 2] - primitives.half[:, 2]
    high = torch.atan2(top, torch.where(top > 0, near, far))
    low = torch.atan2(bottom, torch.where(bottom > 0, far, near))
    step = (ELEVATION[-1] - ELEVATION[0]) / (BEAMS - 1)
    rows = torch.stack([torch.ceil((low - ELEVATION[0]) / step - 1e-3),
                        torch.floor((high - ELEVATION[0]) / step + 1e-3) + 1]).clamp(0, BEAMS).long()
    corners = primitives.corners() - origin
    middle = torch.atan2(delta[:, 1], delta[:, 0])
    turn = torch.atan2(corners[..., 1], corners[..., 0]) - middle[:, None]
    turn = torch.remainder(turn + np.pi, 2 * np.pi) - np.pi
    column = 2 * np.pi / COLUMNS
    first = torch.ceil((middle + turn.amin(1) - yaw) / column - 1e-2).long()
    last = torch.floor((middle + turn.amax(1) - yaw) / column + 1e-2).long() + 1
    inside = near < 1e-3
    first, last = torch.where(inside, 0, first), torch.where(inside, COLUMNS, last)
    last = torch.where(near > MAX_RANGE_M, first, last)
    return torch.stack([rows[0], rows[1], first, last], 1)


def _strength(world: World, primitives: Primitives, hits: Hits, origin: torch.Tensor, directions: torch.Tensor,
              depth: torch.Tensor, on_ground: torch.Tensor, kind: torch.Tensor,
              seen: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of the rays `seen`: intensity and cosine of incidence, float32 (N, 2); whether they met a window, bool (N,)."""
    ground, t = on_ground[seen], depth[seen]
    cosine = directions[seen, 2].abs()
    ground_kind = kind[seen].cpu().numpy()
    intensity = GROUND_INTENSITY[ground_kind].copy()
    painted = (ground_kind == PAINT_WHITE) | (ground_kind == PAINT_YELLOW)
    intensity += painted * PAINT_BONUS * np.exp(-((t.cpu().numpy() / PAINT_REACH_M) ** 2))
    solid = torch.nonzero(~ground).squeeze(1)
    index = hits.primitive[seen[solid]]
    points = origin + t[solid, None] * directions[seen[solid]]
    normal, _ = normals(primitives, index, points)
    cosine[solid] = (normal * directions[seen[solid]]).sum(1).abs()
    of, where = index.cpu().numpy(), solid.cpu().numpy()
    material = world.materials[of]
    # The own colour shows only faintly: a white car answers a little more strongly than a black one.
    brightness = world.colours[of].mean(1)
    intensity[where] = INTENSITY[material] * np.where(material >= CAR_BODY, 0.8 + 0.4 * brightness, 1.0)
    window = np.zeros(len(seen), bool)
    window[where] = material == GLASS
    return np.stack([intensity, cosine.cpu().numpy()], 1), window


def _returns(ray: np.ndarray, depth: np.ndarray, strength: np.ndarray, window: np.ndarray,
             rng: np.random.Generator) -> np.ndarray:
    """Points (N, 5) of the rays that give a return."""
    chance, threshold = rng.random((2, len(ray)))
    noise_range, noise_intensity = rng.normal(size=(2, len(ray))).astype(np.float32)
    intensity, cosine = strength.T
    echo = intensity * cosine / depth**2
    # Around the detection threshold the chance of a return falls smoothly from one to none.
    detected = echo > WEAKEST_ECHO * np.exp(1.2 * (threshold - 0.5) * 2)
    kept = detected & (chance > np.where(window, GLASS_PASSES, DROPPED))
    ray, intensity, cosine = ray[kept], intensity[kept], cosine[kept]
    distance = depth[kept] + RANGE_NOISE_M * noise_range[kept]
    ring, column = ray // COLUMNS, ray % COLUMNS
    # Vehicle axes → sensor axes: the sensor's x points right, its y forward.
    azimuth = column * (2 * np.pi / COLUMNS) - YAW
    flat = distance * np.cos(ELEVATION)[ring]
    value = intensity * (0.55 + 0.45 * cosine) * np.exp(INTENSITY_NOISE * noise_intensity[kept])
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(ELEVATION)[ring],
                     np.clip(np.round(value), 0, 255), ring], 1).astype(np.float32)


def _visible_share(world: World, hits: Hits, depth: torch.Tensor) -> np.ndarray:
    """Share of the rays that would meet each actor alone and do meet it first."""
    owner = torch.from_numpy(world.owner).to(depth.device)
    primitive, ray = hits.pairs
    actor = owner[primitive]
    own = actor >= 0
    outline = torch.unique(actor[own] * len(depth) + ray[own])
    whole = torch.bincount(torch.div(outline, len(depth), rounding_mode="floor"), minlength=len(world.actors))
    first = hits.primitive[(hits.primitive != NO_HIT) & (hits.depth <= depth)]
    seen = torch.bincount(owner[first][owner[first] >= 0], minlength=len(world.actors))
    return (seen / whole).cpu().numpy()

