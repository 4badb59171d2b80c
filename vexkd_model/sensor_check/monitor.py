"""Monitor of running sensors: their data against the statistics of the training on the student's card.

Medians over some moments are compared, so that one odd sweep does not count.
"""

import time
from collections import deque
from dataclasses import fields, replace

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.data.sweeps import Sweep
from vexkd_model.sensor_check.measure import measure_cloud, measure_image
from vexkd_model.sensor_check.rules import LIDAR, Mismatch, camera_mismatches, lidar_mismatches
from vexkd_model.sensor_check.statistics import ImageStatistics, InputStatistics, SweepStatistics
from vexkd_model.types import CameraImage

MOMENTS = 10  # remembered of each sensor
FEWEST = 3  # before anything is reported


class SensorMonitor:
    """Continuous comparison of each sensor with the training's.

    Measures each sensor at most once in `every_s` (0: always), about 4 ms a sweep and 1 ms an image. `see_…` from one
    thread; `mismatches` from any.
    """

    def __init__(self, trained: InputStatistics, config: ModelConfig, every_s: float = 1.0) -> None:
        self._trained, self._config, self._every_s = trained, config, every_s
        sensors = ([LIDAR] if trained.lidar else []) + [camera.name for camera in trained.cameras]
        self._seen: dict[str, deque] = {sensor: deque(maxlen=MOMENTS) for sensor in sensors}
        self._mismatches: dict[str, list[Mismatch]] = {sensor: [] for sensor in sensors}
        self._looked: dict[str, float] = {}

    @property
    def mismatches(self) -> list[Mismatch]:
        """Present differences: LiDAR first, then the cameras in the order of types.CAMERAS."""
        return [mismatch for mismatches in self._mismatches.values() for mismatch in mismatches]

    @property
    def moments(self) -> dict[str, int]:
        """Number of moments that the comparison rests on, by sensor; nothing is reported below FEWEST."""
        return {sensor: len(seen) for sensor, seen in self._seen.items()}

    def see_cloud(self, sweep: Sweep) -> None:
        """Measure a sweep as it came, with its mounting: intensity as received."""
        if self._trained.lidar and self._due(LIDAR):
            seen = self._seen[LIDAR]
            seen.append(measure_cloud(sweep))
            if len(seen) >= FEWEST:
                self._mismatches[LIDAR] = lidar_mismatches(
                    _median_cloud(seen), len(seen), self._trained.lidar, self._config
                )

    def see_camera(self, image: CameraImage) -> None:
        """Measure an image as the student reads it; the motion between its stamp and the frame's does not matter."""
        if self._config.camera and self._due(image.name):
            seen = self._seen[image.name]
            seen.append(measure_image(image, self._config.camera.images))
            if len(seen) >= FEWEST:
                self._mismatches[image.name] = camera_mismatches(
                    _median_camera(seen), image.name, self._trained.cameras, self._config
                )

    def _due(self, sensor: str) -> bool:
        """Check whether to measure a sensor now, and note the time; False if the card does not have it."""
        now = time.monotonic()
        if sensor not in self._seen or now - self._looked.get(sensor, -np.inf) < self._every_s:
            return False
        self._looked[sensor] = now
        return True


def _median_cloud(seen: deque[SweepStatistics]) -> SweepStatistics:
    """Return the medians over the sweeps that show a value; NaN where none does."""
    table = np.array([[getattr(sweep, field.name) for field in fields(SweepStatistics)] for sweep in seen])
    return SweepStatistics(
        *(float(np.median(finite)) if len(finite := column[np.isfinite(column)]) else np.nan for column in table.T)
    )


def _median_camera(seen: deque[ImageStatistics]) -> ImageStatistics:
    """Return the newest statistics with median light, which comes and goes; size and calibration are those of now."""
    return replace(
        seen[-1],
        **{name: float(np.median([getattr(image, name) for image in seen])) for name in ("brightness", "saturated")},
    )
