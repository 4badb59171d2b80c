"""Does this sensor fit the student? What comes in against what the card says of the training.

Only figures are compared that neither augmentation nor the grid makes irrelevant, as medians over some moments, so that
one odd sweep says nothing. Each mismatch tells what is seen, what the student saw, and the cure.
"""

import time
from collections import deque
from dataclasses import fields, replace

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.data.sweeps import Sweep
from vexkd_model.deploy.camera_figures import CameraFigures, measure_camera
from vexkd_model.deploy.camera_fit import camera_mismatches
from vexkd_model.deploy.cloud_figures import CloudFigures, measure_cloud
from vexkd_model.deploy.cloud_fit import SENSOR, cloud_mismatches
from vexkd_model.deploy.input_statistics import InputStatistics
from vexkd_model.deploy.mismatch import Mismatch
from vexkd_model.types import CameraImage

MOMENTS = 10  # remembered of each sensor
FEWEST = 3  # before anything is said


class SensorFit:
    """Looks at each sensor at most once in `every_s` (0: always), about 4 ms a sweep and 1 ms an image.

    `see_…` from one thread; `mismatches` from any.
    """

    def __init__(self, trained: InputStatistics, config: ModelConfig, every_s: float = 1.0) -> None:
        self._trained, self._config, self._every_s = trained, config, every_s
        sensors = ([SENSOR] if trained.lidar else []) + [camera.name for camera in trained.cameras]
        self._seen: dict[str, deque] = {sensor: deque(maxlen=MOMENTS) for sensor in sensors}
        self._mismatches: dict[str, list[Mismatch]] = {sensor: [] for sensor in sensors}
        self._looked: dict[str, float] = {}

    @property
    def mismatches(self) -> list[Mismatch]:
        """What differs now: LiDAR first, then the cameras in the order of types.CAMERAS."""
        return [mismatch for found in self._mismatches.values() for mismatch in found]

    @property
    def moments(self) -> dict[str, int]:
        """How many moments of each sensor the judgement rests on; nothing is said below FEWEST."""
        return {sensor: len(seen) for sensor, seen in self._seen.items()}

    def see_cloud(self, sweep: Sweep) -> None:
        """A sweep as it came, with its mounting: intensity as received."""
        if self._due(SENSOR):
            seen = self._seen[SENSOR]
            seen.append(measure_cloud(sweep))
            if len(seen) >= FEWEST:
                self._mismatches[SENSOR] = cloud_mismatches(
                    _median_cloud(seen), len(seen), self._trained.lidar, self._config)

    def see_camera(self, image: CameraImage) -> None:
        """What the student reads of an image; the way driven between its stamp and the frame's does not matter."""
        if self._due(image.name):
            seen = self._seen[image.name]
            seen.append(measure_camera(image, self._config.camera.images))
            if len(seen) >= FEWEST:
                self._mismatches[image.name] = camera_mismatches(
                    _median_camera(seen), image.name, self._trained.cameras, self._config)

    def _due(self, sensor: str) -> bool:
        """False, too, for a sensor that the card does not know."""
        now = time.monotonic()
        if sensor not in self._seen or now - self._looked.get(sensor, -np.inf) < self._every_s:
            return False
        self._looked[sensor] = now
        return True


def _median_cloud(seen: deque[CloudFigures]) -> CloudFigures:
    """Of the clouds that tell; NaN where none does."""
    table = np.array([[getattr(figures, field.name) for field in fields(CloudFigures)] for figures in seen])
    return CloudFigures(*(float(np.median(told)) if len(told := column[np.isfinite(column)]) else np.nan
                          for column in table.T))


def _median_camera(seen: deque[CameraFigures]) -> CameraFigures:
    """Light comes and goes; size and calibration are what they are now."""
    return replace(seen[-1], **{name: float(np.median([getattr(figures, name) for figures in seen]))
                                for name in ("brightness", "saturated")})
