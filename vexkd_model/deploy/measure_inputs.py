"""What a student's sensors were like in training: measured once, at export."""

from dataclasses import replace

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.data.image_files import load_view
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.camera_figures import CameraFigures, measure_camera
from vexkd_model.deploy.cloud_figures import CloudFigures, measure_cloud
from vexkd_model.deploy.input_statistics import CameraStatistics, InputStatistics, LidarStatistics
from vexkd_model.progress import progress

FRAMES = 64  # spread over the split: of as many scenes, where there are as many


def measure_inputs(index: FrameIndex, config: ModelConfig, frames: int = FRAMES) -> InputStatistics:
    """Of frames spread evenly over a split, as they lie on disk: what augmentation makes of them is in the
    configuration. UserError names a file that cannot be read."""
    chosen = np.unique(np.linspace(0, len(index) - 1, min(frames, len(index))).round().astype(int)).tolist()
    images = config.camera.images if config.camera else None
    clouds: list[CloudFigures] = []
    views: dict[str, list[CameraFigures]] = {name: [] for name in (images.cameras if images else ())}
    for i in progress(chosen, f"measure the inputs of {index.split}", unit="frames"):
        record = index[i]
        if config.lidar:
            clouds.append(measure_cloud(record.sweeps[0].load()))
        for camera in record.cameras:
            if camera.name in views:
                # Where it is mounted, without the way driven between its stamp and the frame's.
                mounted = replace(camera, base_from_camera=camera.base_from_sensor)
                views[camera.name].append(measure_camera(load_view(mounted, images), images))
    return InputStatistics(
        lidar=LidarStatistics.of(clouds) if config.lidar else None,
        cameras=tuple(CameraStatistics.of(name, measured) for name, measured in views.items() if measured))
