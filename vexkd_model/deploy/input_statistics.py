"""What a student's sensors were like in training: measured once, at export, and carried in its card."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from vexkd_model.config import ModelConfig
from vexkd_model.config.section import Section
from vexkd_model.data.images import load_view
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.camera_figures import CameraFigures, measure_camera
from vexkd_model.deploy.cloud_figures import CloudFigures, measure_cloud
from vexkd_model.progress import progress

FRAMES = 64  # spread over the split: of as many scenes, where there are as many
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


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
