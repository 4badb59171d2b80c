"""A LiDAR against the one of the training.

The figures of one place vary with its streets and its weather, so each is compared with the least and most of the
training's frames, with room beyond them; what is looked for is wrong by more than any street makes it.
"""

import math

from vexkd_model.config import ModelConfig
from vexkd_model.deploy.cloud_figures import FAR_M, CloudFigures
from vexkd_model.deploy.input_statistics import LidarStatistics, Spread
from vexkd_model.deploy.mismatch import Mismatch

SENSOR = "lidar"
# Without augmentation a student knows the ground within a voxel or two; augmentation moves it by a normal distribution,
# of which 1.5 standard deviations hold seven eighths of what it saw. A LiDAR on a roof is 1.5 m or more above ground.
GROUND_M, GROUND_DEVIATIONS = 0.3, 1.5
# Between streets, and between nuScenes and the synthetic world, the number of points varies by less than 1.4; half the
# beams, half a revolution or every second point lost are two.
POINTS = 1.7
# Beams are told within a tenth; the usual numbers, 16, 32, 64 and 128, are a factor of two apart.
BEAMS = 1.5
# Rain and materials move the 99th percentile of intensity by a factor of 2.3 between training frames. Wrong scales are
# 0 … 1 (255 times less), 0 … 100 (2.5 times less: too near to be told) and 16 bits (up to 257 times more).
INTENSITY = 4.0
# In every street of the synthetic world 1 % of the points lie beyond 53 m; farther ones than the grid nobody needs.
RANGE = 0.5
METRES = 10.0  # centimetres are 100, millimetres 1000 and feet 3.3 times as many: too near to be told
COVERAGE = 0.75  # of the horizon: a roof rack hides a fifth; a LiDAR that looks ahead alone sees half or less
# A street runs ahead and behind. Turned by 90° the trained median would be its inverse; beyond its inverse root the
# street lies nearer to that than to none. One crossing can do that, LENGTHWISE_CLOUDS of them a second apart hardly.
LENGTHWISE_TOLD, LENGTHWISE_CLOUDS = 2.0, 10


def cloud_mismatches(seen: CloudFigures, clouds: int, trained: LidarStatistics, config: ModelConfig) -> list[Mismatch]:
    """seen: medians over `clouds` sweeps. Of figures that have one cause, the cause alone."""
    if trained.range_p50 is None:
        return []
    if math.isnan(seen.range_p50):
        return _found(("no points", f"{seen.points:.0f} points beyond the own vehicle, the student saw "
                       f"{_of(trained.points)}: the LiDAR is covered, or its driver sends none of its returns"))
    if not trained.range_p50.least / METRES < seen.range_p50 < trained.range_p50.most * METRES:
        return _found(("units", f"half of the points are nearer than {seen.range_p50:.3g} m, the student saw "
                       f"{_of(trained.range_p50, ' m', 1)}: x, y and z must be in metres"))
    return _found(_ground(seen, trained, config), _coverage(seen, trained) or _beams(seen, trained)
                  or _density(seen, trained), _reach(seen, trained, config), _intensity(seen, trained),
                  _turned(seen, clouds, trained))


def _ground(seen: CloudFigures, trained: LidarStatistics, config: ModelConfig) -> tuple[str, str] | None:
    if trained.ground is None or math.isnan(seen.ground):
        return None
    room = max(GROUND_M, GROUND_DEVIATIONS * config.training.augment.translation)
    if trained.ground.least - room <= seen.ground <= trained.ground.most + room:
        return None
    return ("ground height", f"the ground lies at z = {seen.ground:.1f} m in base_link, the student saw it at "
            f"{_of(trained.ground, ' m', 1)}: publish where the LiDAR is mounted, base_link → its frame, on "
            "/tf_static; base_link is at the height of the ground")


def _coverage(seen: CloudFigures, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.coverage is None or seen.coverage >= COVERAGE * trained.coverage.least:
        return None
    return ("coverage", f"a cloud covers {seen.coverage:.0%} of the horizon, the student saw "
            f"{_percent(trained.coverage)}: let the driver publish whole revolutions, or join the clouds of all LiDARs")


def _beams(seen: CloudFigures, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.beams is None or math.isnan(seen.beams):
        return None
    if trained.beams.least / BEAMS <= seen.beams <= trained.beams.most * BEAMS:
        return None
    return ("beams", f"the LiDAR has about {seen.beams:.0f} beams, the student saw {_of(trained.beams)}: train a "
            "student with this LiDAR, or look whether the driver leaves rings out")


def _density(seen: CloudFigures, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.points.least / POINTS <= seen.points <= trained.points.most * POINTS:
        return None
    return ("points", f"a cloud has {seen.points:.0f} points beyond the own vehicle, the student saw "
            f"{_of(trained.points)}: give it whole, unfiltered sweeps, one a message, or train a student with this "
            "LiDAR")


def _reach(seen: CloudFigures, trained: LidarStatistics, config: ModelConfig) -> tuple[str, str] | None:
    needed = RANGE * min(trained.range_p99.least, config.grid.extent)
    if seen.range_p99 >= needed:
        return None
    return ("range", f"all but 1 % of the points are nearer than {seen.range_p99:.0f} m, the student saw "
            f"{_of(trained.range_p99, ' m')}: remove a filter by range, or train a student with this LiDAR")


def _intensity(seen: CloudFigures, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.intensity_max.most <= 0:
        return None
    saw = f"the student saw 99 % of them up to {_of(trained.intensity_p99)} and some up to {_of(trained.intensity_max)}"
    if seen.intensity_max <= 0:
        return "intensity zero", f"every intensity is 0, {saw}: let the driver publish intensity"
    low, high = trained.intensity_p99.least / INTENSITY, trained.intensity_p99.most * INTENSITY
    if low <= seen.intensity_p99 <= high:
        return None
    return ("intensity scale", f"99 % of the intensities are up to {seen.intensity_p99:.3g}, {saw}: let the driver "
            "publish 0 … 255" + (", which is 255 times as much" if seen.intensity_max <= 1 else ""))


def _turned(seen: CloudFigures, clouds: int, trained: LidarStatistics) -> tuple[str, str] | None:
    if trained.lengthwise is None or math.isnan(seen.lengthwise) or clouds < LENGTHWISE_CLOUDS:
        return None
    if trained.lengthwise.median < LENGTHWISE_TOLD or seen.lengthwise > trained.lengthwise.median**-0.5:
        return None
    return ("turned", f"beyond {FAR_M:.0f} m {1 / seen.lengthwise:.1f} times as many points lie at the sides as ahead "
            f"and behind, the student saw {trained.lengthwise.median:.1f} times as many ahead and behind: x is forward "
            "and y left in base_link; correct the yaw of base_link → the LiDAR's frame, unless this is a wide place")


def _found(*found: tuple[str, str] | None) -> list[Mismatch]:
    return [Mismatch(SENSOR, *one) for one in found if one]


def _percent(spread: Spread) -> str:
    return f"{spread.least:.0%}" + (" or more" if spread.least < 1 else "")


def _of(spread: Spread, unit: str = "", digits: int = 0) -> str:
    low, high = f"{spread.least + 0.0:.{digits}f}", f"{spread.most:.{digits}f}"
    return (low if low == high else f"{low} … {high}").replace("-0.0 ", "0.0 ") + unit
