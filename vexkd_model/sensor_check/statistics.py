"""Statistics of a student's sensors: of one sweep or image, and over the training as a student's card carries them.

The card holds InputStatistics as JSON; pydantic reads, checks and writes it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from vexkd_model.config.section import Section

DIGITS = 6  # significant; a card is read by people, too


@dataclass(frozen=True)
class SweepStatistics:
    """Statistics of one LiDAR sweep; NaN where the cloud does not show a value.

    points: beyond the own vehicle. range_…: distance of those points from the sensor [m]. ground: its height in
    base_link [m]. intensity_…: as received. beams: number of distinct elevations, seen from the sensor. coverage: share
    of the horizon's sectors that hold a point. lengthwise: far points ahead and behind to those at the sides. height:
    of the sensor above base_link [m]. elevation_…: within which nearly all points lie, seen from the sensor [°].
    """

    points: float
    range_p50: float
    range_p90: float
    range_p99: float
    range_max: float
    ground: float
    intensity_p50: float
    intensity_p99: float
    intensity_max: float
    beams: float
    coverage: float
    lengthwise: float
    height: float
    elevation_low: float
    elevation_high: float


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of one image and its camera's calibration.

    size: (width, height) of the image as it was stored or received [px]. focal: focal length over width. brightness:
    mean luma of what is read of it, 0 … 255. saturated: share of pixels of which every channel is at its end. position:
    of the camera in base_link [m]. direction: unit vector of its view in base_link. roll: by how much the image's rows
    are turned against the horizon [°].
    """

    size: tuple[int, int]
    focal: float
    brightness: float
    saturated: float
    position: tuple[float, float, float]
    direction: tuple[float, float, float]
    roll: float


class Spread(Section):
    """Least, median and most of one value over the frames measured."""

    least: float
    median: float
    most: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread | None":
        """Summarise the finite values; None where there is none."""
        finite = np.asarray([value for value in values if np.isfinite(value)])
        if not len(finite):
            return None
        return cls(least=_short(finite.min()), median=_short(float(np.median(finite))), most=_short(finite.max()))


class LidarStatistics(Section):
    """Statistics of training frames' newest sweeps; fields as in SweepStatistics, null where no sweep shows one.

    interval: median time between two sweeps [s], null where frames have one.
    """

    frames: int
    points: Spread
    range_p50: Spread | None
    range_p90: Spread | None
    range_p99: Spread | None
    range_max: Spread | None
    ground: Spread | None
    intensity_p50: Spread | None
    intensity_p99: Spread | None
    intensity_max: Spread | None
    beams: Spread | None
    coverage: Spread | None
    lengthwise: Spread | None
    height: Spread | None = None
    elevation_low: Spread | None = None
    elevation_high: Spread | None = None
    interval: float | None = None

    @classmethod
    def over(cls, sweeps: Sequence[SweepStatistics], intervals: Sequence[float] = ()) -> "LidarStatistics":
        """Summarise the sweeps of all frames measured. intervals: between sweeps of one frame [s]."""
        spreads = {
            field.name: Spread.over([getattr(sweep, field.name) for sweep in sweeps])
            for field in fields(SweepStatistics)
        }
        interval = _short(float(np.median(intervals))) if len(intervals) else None
        return cls.model_validate({"frames": len(sweeps), "interval": interval, **spreads})


class CameraStatistics(Section):
    """Statistics of one camera's training images; fields as in ImageStatistics.

    size: the most frequent one. position and direction: means.
    """

    name: str
    frames: int
    size: tuple[int, int]
    focal: Spread
    brightness: Spread
    saturated: Spread
    position: tuple[float, float, float]
    direction: tuple[float, float, float]
    roll: Spread

    @classmethod
    def over(cls, name: str, images: Sequence[ImageStatistics]) -> "CameraStatistics":
        """Summarise the images of one camera, at least one."""
        position = np.mean([image.position for image in images], axis=0)
        direction = np.sum([image.direction for image in images], axis=0)
        spreads = {
            field: Spread.over([getattr(image, field) for image in images])
            for field in ("focal", "brightness", "saturated", "roll")
        }
        return cls.model_validate(
            {
                "name": name,
                "frames": len(images),
                "size": Counter(image.size for image in images).most_common(1)[0][0],
                "position": tuple(map(_short, position)),
                "direction": tuple(map(_short, direction / np.linalg.norm(direction))),
                **spreads,
            }
        )


class InputStatistics(Section):
    """Statistics of every sensor of a student, as its card states them.

    lidar: null for a student without LiDAR. cameras: in the order of types.CAMERAS.
    """

    lidar: LidarStatistics | None
    cameras: tuple[CameraStatistics, ...]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
