"""World of one scene: its streets and everything that stands or moves there, at any time."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from vexkd_model.config.sensors import NUSCENES, SensorsConfig
from vexkd_model.synth.actors import Actor, Site, Track
from vexkd_model.synth.ground import Ground, draw_ground
from vexkd_model.synth.layout import Layout, make_layout
from vexkd_model.synth.presets import PATCH_EDGE_M
from vexkd_model.synth.raycast import Primitives
from vexkd_model.synth.rig import Rig, draw_rig
from vexkd_model.synth.scenery import build_scenery
from vexkd_model.synth.shapes import Solids
from vexkd_model.synth.traffic import drive_ego, ego_corridor, populate
from vexkd_model.synth.weather import Weather, draw_weather

SCENERY = -1
DARK = ("vehicle.parked", "cycle.without_rider")
WORLD_STREAM, LIDAR_STREAM, CAMERA_STREAM, WEATHER_STREAM, RIG_STREAM, TRIGGER_STREAM = range(6)


def random_stream(seed: int, scene_index: int, stream: int, *step: int) -> np.random.Generator:
    """Make independent random numbers, so that draws of one sensor never change the data of another."""
    return np.random.default_rng([seed, scene_index, stream, *step])


@dataclass(frozen=True)
class World:
    """World of a scene in its own frame [m]: origin at the middle of its patch of the map, z = 0 on the road.

    lamps: float64 (L, 3), street lamps. rig: the sensors of the vehicle that drives here.
    """

    layout: Layout
    ground: Ground
    ego: Track
    actors: list[Actor]
    scenery: Solids
    lamps: np.ndarray
    weather: Weather
    rig: Rig

    @cached_property
    def owner(self) -> np.ndarray:
        """Index int64 (Q,) of the actor that each solid belongs to, or SCENERY."""
        counts = [len(actor.solids) for actor in self.actors]
        return np.concatenate([np.full(len(self.scenery), SCENERY), np.repeat(np.arange(len(counts)), counts)])

    @cached_property
    def _at_rest(self) -> Solids:
        """Solids of the scenery, in the world, and of the actors, in the frames of their boxes."""
        return Solids.join([self.scenery, *(actor.solids for actor in self.actors)])

    @property
    def materials(self) -> np.ndarray:
        """Materials int64 (Q,) of the solids."""
        return self._at_rest.material

    @property
    def colours(self) -> np.ndarray:
        """Colours float32 (Q, 3) of the solids."""
        return self._at_rest.colour

    @cached_property
    def lights_on(self) -> np.ndarray:
        """Mask bool (Q,) of solids whose lamps and windows shine once it is dark; those of parked vehicles do not."""
        awake = np.array([actor.attribute not in DARK for actor in self.actors] + [True])  # index −1: the scenery
        return awake[self.owner]

    def primitives(self, time_s: float, device: torch.device | str = "cpu") -> Primitives:
        """Compute the poses of all solids at a time."""
        rest, own = self._at_rest, self.owner >= 0
        boxes = [actor.box(time_s) for actor in self.actors]
        centres = np.stack([centre for centre, _ in boxes])[self.owner[own]]
        yaws = np.array([yaw for _, yaw in boxes])[self.owner[own]]
        centre, yaw = rest.centre.copy(), rest.yaw.copy()
        cos, sin, (x, y, z) = np.cos(yaws), np.sin(yaws), rest.centre[own].T
        centre[own] = centres + np.stack([cos * x - sin * y, sin * x + cos * y, z], 1)
        yaw[own] += yaws
        as_tensor = [torch.from_numpy(a.astype(np.float32)).to(device) for a in (centre, rest.half, yaw)]
        return Primitives(torch.from_numpy(rest.kind.astype(np.int64)).to(device), *as_tensor)


def build_world(
    seed: int, scene_index: int, duration_s: float, device: str = "cpu", sensors: SensorsConfig = NUSCENES
) -> World:
    """Draw a scene; the same seed and index always give the same scene, whatever sensors drive through it."""
    rng = random_stream(seed, scene_index, WORLD_STREAM)
    layout = make_layout(rng)
    ego, lane = drive_ego(layout, rng, duration_s)
    site = Site()
    site.take(ego_corridor(ego, duration_s))
    actors = populate(layout, rng, site, ego, lane, duration_s)
    scenery, lamps = build_scenery(layout, rng, site)
    weather = draw_weather(random_stream(seed, scene_index, WEATHER_STREAM))
    rig = draw_rig(random_stream(seed, scene_index, RIG_STREAM), sensors=sensors)
    return World(layout, draw_ground(layout, device), ego, actors, scenery, lamps, weather, rig)


def world_from_ego(ego: Track, time_s: float) -> np.ndarray:
    """Pose float64 (4, 4) of base_link in the scene's frame."""
    x, y, yaw = ego.pose(time_s)
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    matrix[:2, 3] = x, y
    return matrix


def patch_origin(slot: int) -> np.ndarray:
    """Origin (2,) of the scene of a slot on its map [m]."""
    return (np.array([slot % 8, slot // 8]) + 0.5) * PATCH_EDGE_M
