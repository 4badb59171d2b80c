"""What a student's sensors were like in training, as its card carries it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields

import numpy as np

from vexkd_model.config.section import Section
from vexkd_model.deploy.camera_figures import CameraFigures
from vexkd_model.deploy.cloud_figures import CloudFigures

DIGITS = 6  # significant; a card is read by people, too


class Spread(Section):
    """Least, median and most of one figure over the frames measured."""

    least: float
    median: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None where no frame tells (NaN)."""
        told = np.asarray([value for value in values if np.isfinite(value)])
        if not len(told):
            return None
        return cls(least=_short(told.min()), median=_short(np.median(told)), most=_short(told.max()))


class LidarStatistics(Section):
    """Of the newest sweeps of training frames; each figure as CloudFigures explains it, null where no sweep tells."""

    frames: int
    points: Spread | None
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

    @classmethod
    def of(cls, measured: Sequence[CloudFigures]) -> "LidarStatistics":
        return cls(frames=len(measured), **{
            field.name: Spread.of([getattr(figures, field.name) for figures in measured])
            for field in fields(CloudFigures)})


class CameraStatistics(Section):
    """Of one camera's training images; each figure as CameraFigures explains it. size: the most frequent one. position
    and direction: means."""

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
    def of(cls, name: str, measured: Sequence[CameraFigures]) -> "CameraStatistics":
        position = np.mean([figures.position for figures in measured], axis=0)
        direction = np.sum([figures.direction for figures in measured], axis=0)
        return cls(
            name=name, frames=len(measured), size=Counter(figures.size for figures in measured).most_common(1)[0][0],
            position=tuple(map(_short, position)), direction=tuple(map(_short, direction / np.linalg.norm(direction))),
            **{figure: Spread.of([getattr(figures, figure) for figures in measured])
               for figure in ("focal", "brightness", "saturated", "roll")})


class InputStatistics(Section):
    """What each sensor of a student was like; lidar is null for one that has none, cameras are in the order of
    types.CAMERAS."""

    lidar: LidarStatistics | None
    cameras: tuple[CameraStatistics, ...]


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
