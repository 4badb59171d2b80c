"""Rows of a synthetic scene: its vehicle's sensors, and the annotations of its actors."""

import numpy as np

from vexkd_model.data.scene_tables import Annotation, SceneTables
from vexkd_model.data.splits import LIDAR
from vexkd_model.synth.actors import CATEGORIES, Actor
from vexkd_model.synth.rig import Rig

VISIBILITY_EDGES = (0.4, 0.6, 0.8)


def calibrate(tables: SceneTables, rig: Rig, width: int) -> dict[str, str]:
    """Add the vehicle's sensors, for images of this width [px]; return the token of each one's calibration."""
    tokens = {LIDAR: tables.calibration(LIDAR, rig.base_from_lidar, [])}
    for camera in rig.cameras:
        intrinsic = camera.intrinsics(width, camera.height(width)).tolist()
        tokens[camera.channel] = tables.calibration(camera.channel, camera.base_from_camera, intrinsic)
    return tokens


def add_annotations(
    tables: SceneTables,
    actors: list[Actor],
    stamps_us: list[int],
    times_s: list[float],
    offset: np.ndarray,
    lidar_points: np.ndarray,
    visible: np.ndarray,
) -> None:
    """Add instances and annotations.

    An object is annotated from the first to the last keyframe in which a LiDAR point lies in its box.
    offset: (2,) [m], the scene's origin on its map. lidar_points: int (K, A), points in each box at each keyframe.
    visible: float (K, A), seen share or NaN.
    """
    levels = 1 + np.digitize(np.nan_to_num(visible, nan=0.0), VISIBILITY_EDGES)
    for i, actor in enumerate(actors):
        touched = np.flatnonzero(lidar_points[:, i])
        if len(touched):
            rows = []
            for k in range(touched[0], touched[-1] + 1):
                sample = tables.token("sample", stamps_us[k])
                rows.append(_annotation(actor, k, sample, times_s[k], offset, lidar_points[k, i], levels[k, i]))
            tables.add_instance(i, CATEGORIES[actor.name], rows)


def _annotation(
    actor: Actor, k: int, sample: str, time_s: float, offset: np.ndarray, lidar_points: int, level: int
) -> Annotation:
    centre, yaw = actor.box(time_s)
    length, width, height = actor.size.tolist()
    return Annotation(
        k,
        sample,
        [centre[0] + offset[0], centre[1] + offset[1], centre[2]],
        [width, length, height],
        [np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)],
        int(lidar_points),
        str(level),
        actor.attribute or "",
    )
