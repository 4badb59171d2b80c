"""Sensor variety: what each change takes away, and that nothing else moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vexkd_model.config.training import SensorVarietyConfig
from vexkd_model.data.sensor_variety import varied
from vexkd_model.types import CameraImage, Frame

LIDAR = np.array([0.9, 0.0, 1.8])
NOTHING = {
    "share": 0.999999,
    "fewer_sweeps": False,
    "dropped_beams": 0.0,
    "dropped_points": 0.0,
    "intensity": 1.0,
    "noise": 0.0,
    "exposure": 1.0,
}


def frame(count=4000):
    random = np.random.default_rng(0)
    points = np.column_stack(
        [
            random.uniform(-40, 40, (count, 2)),
            random.uniform(-1, 3, count),
            random.uniform(1, 100, count),
            random.choice([0.0, 0.1, 0.2, 0.3, 0.4], count),
        ]
    )
    pixels = random.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    camera = CameraImage("CAM_FRONT", pixels, 0, np.eye(3), np.eye(3), np.eye(4))
    return Frame(points.astype(np.float32), 0, cameras=(camera, camera))


def changed(seed=0, **keys):
    return varied(frame(), SensorVarietyConfig(**{**NOTHING, **keys}), LIDAR, np.random.default_rng(seed))


def kept_rows(after):
    """Row numbers of the frame's points that are left, compared to the bit."""
    numbers = {row.tobytes(): i for i, row in enumerate(frame().points)}
    return np.array([numbers[row.tobytes()] for row in after.points])


def test_with_every_change_at_nothing_a_frame_stays_as_it_is():
    after = changed()
    assert np.array_equal(after.points, frame().points)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(after.cameras, frame().cameras, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_fewer_sweeps_leave_the_newest_ones_whole(seed):
    after = changed(seed, fewer_sweeps=True)
    oldest = after.points[:, 4].max()
    assert np.array_equal(kept_rows(after), np.flatnonzero(frame().points[:, 4] <= oldest))


def test_dropped_points_are_about_as_many_as_asked_and_the_others_stay_to_the_bit():
    shares = [1 - len(kept_rows(changed(seed, dropped_points=0.3))) / 4000 for seed in range(200)]
    assert min(shares) >= 0 and max(shares) < 0.33 and np.mean(shares) == pytest.approx(0.15, abs=0.02)


def test_dropped_beams_take_whole_bands_of_elevation():
    after = kept_rows(changed(3, dropped_beams=0.5))
    x, y, z = (frame().points[:, :3] - LIDAR.astype(np.float32)).T
    band = np.floor(np.arctan2(z, np.hypot(x, y)) / np.deg2rad(1.33)).astype(int)
    left = set(band[after])
    assert 0 < len(left) < len(set(band))
    assert np.array_equal(after, np.flatnonzero(np.isin(band, list(left))))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_intensity_is_scaled_by_one_factor_and_positions_stay(seed):
    before, after = frame().points, changed(seed, intensity=1.5).points
    ratio = after[:, 3] / before[:, 3]
    assert np.allclose(ratio, ratio[0], atol=1e-5) and 1 / 1.5 - 1e-5 <= ratio[0] <= 1.5 + 1e-5
    assert np.array_equal(np.delete(after, 3, axis=1), np.delete(before, 3, axis=1))


def test_intensities_stay_within_those_of_the_sensor():
    settings = SensorVarietyConfig(**{**NOTHING, "intensity": 4.0})
    varieties = [varied(frame(), settings, LIDAR, np.random.default_rng(seed), 60.0).points[:, 3] for seed in range(20)]
    assert max(intensity.max() for intensity in varieties) == 60
    assert min(intensity.max() for intensity in varieties) < 50


def test_noise_has_at_most_the_given_deviation_and_leaves_intensity_and_age():
    before = frame().points
    moves = [changed(seed, noise=0.05).points - before for seed in range(40)]
    assert max(move[:, :3].std() for move in moves) < 0.052 and not np.any([move[:, 3:] for move in moves])
    assert np.mean([move[:, :3].std() for move in moves]) == pytest.approx(0.025, abs=0.007)


def test_exposure_brightens_or_darkens_each_camera_by_a_factor_of_its_own():
    first, second = (camera.pixels.astype(float) for camera in changed(1, exposure=1.5).cameras)
    before = frame().cameras[0].pixels
    factors = [(image[before > 30] / before[before > 30])[image[before > 30] < 255].mean() for image in (first, second)]
    assert factors[0] != pytest.approx(factors[1], abs=1e-3) and all(1 / 1.55 < f < 1.5 for f in factors)


def test_each_change_happens_in_its_share_of_the_samples():
    config = SensorVarietyConfig(**{**NOTHING, "share": 0.3, "noise": 0.05})
    moved = sum(
        not np.array_equal(varied(frame(50), config, LIDAR, np.random.default_rng(seed)).points, frame(50).points)
        for seed in range(500)
    )
    assert moved / 500 == pytest.approx(0.3, abs=0.06)
