"""Rendering of a camera's image of a world: its rays, and the colours of their hits."""

import numpy as np
import torch

from vexkd_model.synth.appearance import ground_colour, sky_colour, solid_colour
from vexkd_model.synth.lighting import Lighting
from vexkd_model.synth.raycast import Primitives, cast
from vexkd_model.synth.rig import RigCamera
from vexkd_model.synth.world import World, world_from_ego

NEAR_M, FAR_M = 0.3, 260.0
# Index pairs of a box's twelve edges, in the order of Primitives.corners().
EDGES = [(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7)]


def render(
    world: World,
    camera: RigCamera,
    time_s: float,
    size: tuple[int, int],
    light: Lighting,
    rng: np.random.Generator,
    device: str = "cpu",
) -> np.ndarray:
    """Render the camera's image, uint8 (height, width, 3) RGB. size: (width, height) [px]."""
    width, height = size
    world_from_camera = world_from_ego(world.ego, time_s) @ camera.base_from_camera
    origin = torch.tensor(world_from_camera[:3, 3], dtype=torch.float32, device=device)
    rotation = torch.tensor(world_from_camera[:3, :3], dtype=torch.float32, device=device)
    intrinsics = camera.intrinsics(width, height)
    directions = pixel_rays(intrinsics, size, device) @ rotation.T
    primitives = world.primitives(time_s, device)
    windows = camera_windows(primitives, origin, rotation, intrinsics, size)
    hits = cast(primitives, origin, directions, windows, (height, width))
    ground, kind = world.ground.cast(origin, directions)
    depth = torch.minimum(ground, hits.depth)
    weather = light.weather
    colour = sky_colour(directions, weather)
    for chosen, shade in (
        (
            torch.nonzero((ground < hits.depth) & (ground < FAR_M)).squeeze(1),
            lambda i, points: ground_colour(kind[i], points, depth[i], directions[i], light),
        ),
        (
            torch.nonzero((hits.depth <= ground) & (hits.depth < FAR_M)).squeeze(1),
            lambda i, points: solid_colour(world, primitives, hits.primitive[i], points, light),
        ),
    ):
        points = origin + depth[chosen, None] * directions[chosen]
        haze = torch.exp(-depth[chosen] / weather.haze_m)[:, None]
        colour[chosen] = shade(chosen, points) * haze + colour[chosen] * (1 - haze)
    noise = torch.from_numpy(rng.standard_normal((height * width, 3), dtype=np.float32)).to(device)
    image = (colour * (255 * weather.gain) + noise * weather.noise).clamp(0, 255).round().to(torch.uint8)
    return image.view(height, width, 3).cpu().numpy()


def pixel_rays(intrinsics: np.ndarray, size: tuple[int, int], device: str) -> torch.Tensor:
    """Rays float32 (height · width, 3) through the pixels' middles, camera frame, z = 1: a ray's t is its depth."""
    width, height = size
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.stack(
        [np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width)), np.ones((height, width))],
        -1,
    )
    return torch.from_numpy(rays.reshape(-1, 3).astype(np.float32)).to(device)


def camera_windows(
    primitives: Primitives, origin: torch.Tensor, rotation: torch.Tensor, intrinsics: np.ndarray, size: tuple[int, int]
) -> torch.Tensor:
    """Windows int64 (P, 4) for `cast`: the rows and columns that can meet each primitive.

    rotation: world_from_camera (3, 3). A box that reaches behind the camera is cut at NEAR_M first.
    """
    corners = (primitives.corners() - origin) @ rotation
    start, end = corners[:, [a for a, _ in EDGES]], corners[:, [b for _, b in EDGES]]
    rise = end[..., 2] - start[..., 2]
    share = (NEAR_M - start[..., 2]) / torch.where(rise.abs() < 1e-9, 1e-9, rise)
    cut = start + share.clamp(0, 1)[..., None] * (end - start)
    points = torch.cat([corners, cut], 1)
    valid = torch.cat([corners[..., 2] >= NEAR_M, (share >= 0) & (share <= 1)], 1)
    z = points[..., 2].clamp_min(NEAR_M)
    bounds = []
    for axis, pixels in ((1, size[1]), (0, size[0])):
        position = points[..., axis] / z * intrinsics[axis, axis] + intrinsics[axis, 2]
        low = torch.where(valid, position, torch.inf).amin(1).clamp(0, pixels)
        high = torch.where(valid, position, -torch.inf).amax(1).clamp(0, pixels)
        bounds += [torch.floor(low), torch.ceil(high)]
    visible = valid.any(1) & (corners[..., 2].amin(1) < FAR_M)
    bounds[1] = torch.where(visible, bounds[1], bounds[0])
    return torch.stack(bounds, 1).long()
