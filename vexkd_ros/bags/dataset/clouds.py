"""LiDAR files of the dataset, from PointCloud2."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vexkd_model.geometry.transforms import apply
from vexkd_ros.bags.dataset.wiring import LidarWiring
from vexkd_ros.doctor.observation import Heard
from vexkd_ros.inputs.errors import CloudError
from vexkd_ros.inputs.pointcloud import read_cloud

INTENSITIES = ("intensity", "reflectivity", "remission", "intensities", "i", "signal")  # names that drivers use
RINGS = ("ring", "channel", "line", "laser_id")
GREATEST = 255.0  # of nuScenes' intensities
RANGES = (1.0, 255.0, 4095.0, 65535.0)  # that drivers use; a LiDAR's is the first that its values do not exceed
RINGS_EACH = 128  # beams of a merged LiDAR are counted from a multiple of it


def cloud_file(message: Any, wiring: LidarWiring) -> np.ndarray:
    """Convert a PointCloud2 to a nuScenes file's float32 (N, 5): x, y, z [m], intensity 0 … 255, ring.

    Rays without return are left out, as everywhere here. The ring is 0 where no field says it. Raises CloudError.
    """
    cloud = read_cloud(message, wiring.intensity_field, wiring.intensity_scale or 1.0)
    if not len(cloud.points):
        raise CloudError("the cloud has no point with finite numbers")
    points = np.zeros((len(cloud.points), 5), np.float32)
    points[:, :4] = cloud.points
    np.clip(points[:, 3], 0, GREATEST, out=points[:, 3])
    names = {field.name for field in message.fields}
    ring = next((name for name in RINGS if name in names), None)
    if ring:
        points[:, 4] = read_cloud(message, ring).points[:, 3]
    return points


def merged(clouds: Sequence[np.ndarray], sensor_from: Sequence[np.ndarray]) -> np.ndarray:
    """Merge clouds (N, 5) in the frame of the first; sensor_from: float64 (4, 4) of each one's to it."""
    parts = [clouds[0]]
    for number, (cloud, transform) in enumerate(zip(clouds[1:], sensor_from[1:], strict=True), 1):
        part = cloud.copy()
        part[:, :3] = apply(transform, cloud[:, :3].astype(np.float64))
        part[:, 4] += number * RINGS_EACH
        parts.append(part)
    return np.concatenate(parts)


def guessed_intensity(heard: Heard, field: str | None = None) -> tuple[str, float]:
    """Guess the field of intensity of a topic, where none is given, and what scales it to 0 … 255, by some clouds.

    The scale is that of the first of RANGES that no value exceeds: 255 for values up to 1, 1 for values up to 255.
    """
    greatest = 0.0
    for message in heard.messages():
        names = {one.name for one in message.fields}
        field = field or next((name for name in INTENSITIES if name in names), INTENSITIES[0])
        try:
            greatest = max(greatest, float(read_cloud(message, field).points[:, 3].max(initial=0)))
        except CloudError:  # said where clouds are checked
            continue
    reach = next((reach for reach in RANGES if greatest <= reach), greatest)
    return field or INTENSITIES[0], (GREATEST / reach if greatest else 1.0)
