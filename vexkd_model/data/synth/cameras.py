"""Six cameras around the vehicle, calibrated like nuScenes': rays, and the image of what they hit."""

from dataclasses import dataclass

import numpy as np
import torch

from vexkd_model.data.synth.appearance import Daylight, ground_colour, sky_colour, solid_colour
from vexkd_model.data.synth.raycast import Primitives, cast
from vexkd_model.data.synth.world import World, world_from_ego

FULL_WIDTH = 1600  # focal lengths below are for images of this width [px]
NEAR_M, FAR_M = 0.3, 260.0
PIXEL_NOISE = 2.5  # standard deviation, of 255
HAZE_M = 240.0  # distance at which 1 − 1/e of a colour has become sky
# Index pairs of a box's twelve edges, in the order of Primitives.corners().
EDGES = [(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (0, 4), (1, 5), (2, 6), (3, 7)]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. translation [m] in base_link; yaw [rad] of its view; focal length [px at FULL_WIDTH]."""

    channel: str
    translation: tuple[float, float, float]
    yaw: float
    focal: float

    def base_from_camera(self) -> np.ndarray:
        """float64 (4, 4): camera axes are x right, y down, z along the view."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([[s, -c, 0.0], [0.0, 0.0, -1.0], [c, s, 0.0]], 1)
        matrix[:3, 3] = self.translation
        return matrix

    def intrinsics(self, width: int, height: int) -> np.ndarray:
        """float64 (3, 3) for an image of this size; the principal point is its middle."""
        focal = self.focal * width / FULL_WIDTH
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


RIG = (
    Camera("CAM_FRONT", (1.70, 0.0, 1.51), 0.0, 1260.0),
    Camera("CAM_FRONT_RIGHT", (1.55, -0.49, 1.50), np.deg2rad(-55), 1260.0),
    Camera("CAM_BACK_RIGHT", (1.01, -0.48, 1.56), np.deg2rad(-110), 1260.0),
    Camera("CAM_BACK", (0.03, 0.0, 1.58), np.deg2rad(180), 810.0),
    Camera("CAM_BACK_LEFT", (1.03, 0.48, 1.59), np.deg2rad(110), 1260.0),
    Camera("CAM_FRONT_LEFT", (1.52, 0.49, 1.51), np.deg2rad(55), 1260.0),
)


def render(world: World, camera: Camera, time_s: float, size: tuple[int, int], light: Daylight,
           rng: np.random.Generator, device: str = "cpu") -> np.ndarray:
    """What the camera sees: uint8 (height, width, 3) RGB. size: (width, height) [px]."""
    width, height = size
    world_from_camera = world_from_ego(world.ego, time_s) @ camera.base_from_camera()
    origin = torch.tensor(world_from_camera[:3, 3], dtype=torch.float32, device=device)
    rotation = torch.tensor(world_from_camera[:3, :3], dtype=torch.float32, device=device)
    intrinsics = camera.intrinsics(width, height)
    directions = _pixel_rays(intrinsics, size, device) @ rotation.T
    primitives = world.primitives(time_s, device)
    windows = camera_windows(primitives, origin, rotation, intrinsics, size)
    hits = cast(primitives, origin, directions, windows, (height, width))
    ground, kind = world.ground.cast(origin, directions)
    depth = torch.minimum(ground, hits.depth)
    colour = sky_colour(directions, light)
    for chosen, shade in (
        (torch.nonzero((ground < hits.depth) & (ground < FAR_M)).squeeze(1),
         lambda i, points: ground_colour(kind[i], points, depth[i], light)),
        (torch.nonzero((hits.depth <= ground) & (hits.depth < FAR_M)).squeeze(1),
         lambda i, points: solid_colour(world, primitives, hits.primitive[i], points, light)),
    ):
        points = origin + depth[chosen, None] * directions[chosen]
        haze = torch.exp(-depth[chosen] / HAZE_M)[:, None]
        colour[chosen] = shade(chosen, points) * haze + colour[chosen] * (1 - haze)
    noise = torch.from_numpy(rng.normal(0, PIXEL_NOISE, (height * width, 3)).astype(np.float32)).to(device)
    image = (colour * 255 * light.exposure + noise).clamp(0, 255).round().to(torch.uint8)
    return image.view(height, width, 3).cpu().numpy()


def _pixel_rays(intrinsics: np.ndarray, size: tuple[int, int], device: str) -> torch.Tensor:
    """float32 (height · width, 3) through the pixels' middles, camera frame, z = 1: a ray's t is its depth."""
    width, height = size
    x = (np.arange(width) + 0.5 - intrinsics[0, 2]) / intrinsics[0, 0]
    y = (np.arange(height) + 0.5 - intrinsics[1, 2]) / intrinsics[1, 1]
    rays = np.stack([np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width)),
                     np.ones((height, width))], -1)
    return torch.from_numpy(rays.reshape(-1, 3).astype(np.float32)).to(device)


def camera_windows(primitives: Primitives, origin: torch.Tensor, rotation: torch.Tensor, intrinsics: np.ndarray,
                   size: tuple[int, int]) -> torch.Tensor:
    """int64 (P, 4) windows for `cast`: the rows and columns that can meet each primitive.

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
