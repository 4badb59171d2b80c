"""Measurement of a training split's sensors, for the card of a student; once, at export.

Apart from measure.py because the index of a split needs pyarrow, which no vehicle has to load.
"""

from dataclasses import replace

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.data.image_files import load_view
from vexkd_model.data.index import FrameIndex
from vexkd_model.progress import progress
from vexkd_model.sensor_check.measure import measure_cloud, measure_image
from vexkd_model.sensor_check.statistics import (
    CameraStatistics,
    ImageStatistics,
    InputStatistics,
    LidarStatistics,
    SweepStatistics,
)

FRAMES = 64  # spread over the split: of as many scenes, where there are as many


def measure_inputs(index: FrameIndex, config: ModelConfig, frames: int = FRAMES) -> InputStatistics:
    """Measure frames spread evenly over a split, as they lie on disk, without augmentation.

    UserError names a file that cannot be read.
    """
    chosen = np.unique(np.linspace(0, len(index) - 1, min(frames, len(index))).round().astype(int)).tolist()
    images = config.camera.images if config.camera else None
    clouds: list[SweepStatistics] = []
    intervals: list[float] = []
    views: dict[str, list[ImageStatistics]] = {name: [] for name in (images.cameras if images else ())}
    for i in progress(chosen, f"measure the inputs of {index.split}", unit="frames"):
        record = index[i]
        if config.lidar:
            clouds.append(measure_cloud(record.sweeps[0].load()))
            intervals += np.abs(np.diff([sweep.stamp_ns for sweep in record.sweeps]) * 1e-9).tolist()
        for camera in record.cameras:
            if images and camera.name in views:
                # Where it is mounted, without the way driven between its stamp and the frame's.
                mounted = replace(camera, base_from_camera=camera.base_from_sensor)
                views[camera.name].append(measure_image(load_view(mounted, images), images))
    return InputStatistics(
        lidar=LidarStatistics.over(clouds, intervals) if config.lidar else None,
        cameras=tuple(CameraStatistics.over(name, measured) for name, measured in views.items() if measured),
    )
