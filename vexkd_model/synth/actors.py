"""Annotated objects of a scene: class, shape, and pose at any time."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from shapely.geometry import Polygon

from vexkd_model.synth.shapes import SHAPES, Solids, draw_colour, draw_size, object_solids

BASE_GAP_M = 0.03  # boxes begin this far above the ground, so that ground returns stay outside
CATEGORIES = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "pedestrian": "human.pedestrian.adult",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}


@dataclass(frozen=True)
class Track:
    """Motion at constant speed along a polyline (N, 2) [m]: at time 0 the object is `start` metres along it.

    A parked object has a single point and its heading in `yaw`.
    """

    points: np.ndarray
    start: float = 0.0
    speed: float = 0.0
    yaw: float = 0.0

    @cached_property
    def _arc(self) -> np.ndarray:
        """Arc length (N,) at each point [m]."""
        return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(self.points, axis=0).T))])

    @cached_property
    def _headings(self) -> tuple[np.ndarray, np.ndarray]:
        """Arc lengths (N − 1,) in the middle of each segment [m], and its heading [rad], without jumps of 2 π."""
        steps = np.diff(self.points, axis=0)
        return (self._arc[1:] + self._arc[:-1]) / 2, np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))

    def pose(self, time_s: float) -> tuple[float, float, float]:
        """Position x, y [m] and heading [rad] at a time."""
        if len(self.points) == 1:
            return float(self.points[0, 0]), float(self.points[0, 1]), self.yaw
        at = self.start + self.speed * time_s
        return (
            float(np.interp(at, self._arc, self.points[:, 0])),
            float(np.interp(at, self._arc, self.points[:, 1])),
            float(np.interp(at, *self._headings)),
        )

    @property
    def length(self) -> float:
        """Length of the polyline [m]."""
        return float(self._arc[-1])


@dataclass(frozen=True)
class Actor:
    """Annotated object of a scene.

    size: length, width, height [m]. ground: height of the ground below it [m]. attribute: nuScenes attribute, empty for
    barriers and cones.
    """

    name: str
    size: np.ndarray
    track: Track
    attribute: str
    ground: float
    solids: Solids

    def box(self, time_s: float) -> tuple[np.ndarray, float]:
        """Box centre (3,) [m] and yaw [rad] at a time."""
        x, y, yaw = self.track.pose(time_s)
        return np.array([x, y, self.ground + BASE_GAP_M + self.size[2] / 2]), yaw


def make_actor(
    rng: np.random.Generator,
    name: str,
    track: Track,
    attribute: str = "",
    ground: float = 0.0,
    size: np.ndarray | None = None,
) -> Actor:
    """Make an object of a class, with size, shape and colour drawn at random."""
    look = f"{name}_with_rider" if attribute == "cycle.with_rider" else name
    size = draw_size(rng, look) if size is None else size
    solids = object_solids(look, int(rng.integers(len(SHAPES[look]))), size, draw_colour(rng, look))
    return Actor(name, size, track, attribute, ground, solids)


def footprint(x: float, y: float, yaw: float, length: float, width: float, margin: float = 0.0) -> Polygon:
    """Rectangle that an object covers, grown by a margin [m]."""
    l, w = length / 2 + margin, width / 2 + margin  # noqa: E741
    corners = np.array([[l, w], [-l, w], [-l, -w], [l, -w]])
    c, s = np.cos(yaw), np.sin(yaw)
    return Polygon(corners @ np.array([[c, s], [-s, c]]) + [x, y])


@dataclass
class Site:
    """Areas of a scene that are already occupied; new objects are only placed outside them."""

    shapes: list[Polygon] = field(default_factory=list)
    centres: list[tuple[float, float, float]] = field(default_factory=list)  # x, y, radius

    def take(self, shape: Polygon) -> bool:
        """Occupy an area; False if it overlaps an occupied one."""
        x, y = shape.centroid.coords[0]
        radius = max(np.hypot(px - x, py - y) for px, py in shape.exterior.coords)
        if self.centres:
            known = np.array(self.centres)
            near = np.nonzero(np.hypot(known[:, 0] - x, known[:, 1] - y) < known[:, 2] + radius)[0]
            if any(self.shapes[i].intersects(shape) for i in near):
                return False
        self.shapes.append(shape)
        self.centres.append((x, y, radius))
        return True


def place_static(
    rng: np.random.Generator,
    site: Site,
    name: str,
    x: float,
    y: float,
    yaw: float,
    attribute: str = "",
    ground: float = 0.0,
    margin: float = 0.15,
) -> Actor | None:
    """Place a standing object at a pose; None if the place is occupied."""
    actor = make_actor(rng, name, Track(np.array([[x, y]]), yaw=yaw), attribute, ground)
    taken = site.take(footprint(x, y, yaw, actor.size[0], actor.size[1], margin))
    return actor if taken else None
