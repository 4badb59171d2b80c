"""Map around a scene as markers, and the ground-truth BEV maps of its keyframes as OccupancyGrids."""

from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from shapely.geometry import MultiPoint

from vexkd_model.data.map_masks import MapRasteriser, expansion_path
from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.types import MAP_CLASSES
from vexkd_ros.bags.scene.messages import HERE, LINE_LIST, header, marker, point, pose
from vexkd_ros.bags.scene.tables import Keyframe, SceneRecord
from vexkd_ros.bags.scene.topics import GROUND_TRUTH_MAPS, MAP_MARKERS, Due
from vexkd_ros.bags.typestore import message_type

AROUND_M = 75.0  # of the way that the vehicle drives
LINE_WIDTH_M = 0.2
CENTRELINE_COLOUR = (150, 150, 150)


def has_map(scene: SceneRecord) -> bool:
    """Tell whether the map expansion of the scene's town is there."""
    return expansion_path(scene.dataroot, scene.location).is_file()


def ground_truth_maps(scene: SceneRecord) -> Iterator[Due]:
    """Yield /ground_truth/map/<class> at every keyframe: what a student's ~/map/<class> is compared with."""
    for keyframe in scene.keyframes if has_map(scene) else ():
        for name, topic in zip(MAP_CLASSES, GROUND_TRUTH_MAPS, strict=True):
            yield Due(keyframe.stamp_ns, topic, partial(_occupancy_grid, scene, keyframe, name))


def map_markers(scene: SceneRecord, stamp_ns: int) -> Iterator[Due]:
    """Yield the outlines of the six map classes and the lanes' centre lines around the vehicle's way, in odom: a marker
    each, once, latched."""
    if has_map(scene) and scene.keyframes:
        yield Due(stamp_ns, MAP_MARKERS, partial(_map_markers, scene, stamp_ns))


@lru_cache(maxsize=1)
def _rasteriser(dataroot: Path, location: str) -> MapRasteriser:
    return MapRasteriser(dataroot, location)


def _occupancy_grid(scene: SceneRecord, keyframe: Keyframe, name: str) -> object:
    rasteriser = _rasteriser(scene.dataroot, scene.location)
    grid, mask = rasteriser.grid, rasteriser.mask(name, keyframe.odom_from_base.matrix)
    at = header(keyframe.stamp_ns, "base_link")
    rows, columns = grid.shape
    origin = pose(HERE._replace(translation=(grid.x_min, grid.y_min, 0.0)))
    info = message_type("nav_msgs/msg/MapMetaData")(at.stamp, grid.cell, columns, rows, origin)
    return message_type("nav_msgs/msg/OccupancyGrid")(at, info, mask.ravel().astype(np.int8) * np.int8(100))


def _map_markers(scene: SceneRecord, stamp_ns: int) -> object:
    rasteriser = _rasteriser(scene.dataroot, scene.location)
    way = np.array([keyframe.odom_from_base.translation for keyframe in scene.keyframes])
    area = MultiPoint(way[:, :2]).buffer(AROUND_M)
    lines = {name: rasteriser.outlines(name, area) for name in MAP_CLASSES}
    lines["centreline"] = rasteriser.centrelines(area)
    colours, at = {**MAP_COLOURS, "centreline": CENTRELINE_COLOUR}, header(stamp_ns, "odom")
    return message_type(MAP_MARKERS.msgtype)(
        [
            marker(
                at,
                name,
                0,
                LINE_LIST,
                (LINE_WIDTH_M, 0.0, 0.0),
                colours[name],
                1.0,
                [point((*corner, way[0, 2])) for line in found for edge in pairwise(line.tolist()) for corner in edge],
            )
            for name, found in lines.items()
        ]
    )
