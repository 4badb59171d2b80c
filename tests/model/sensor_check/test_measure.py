"""Statistics of a LiDAR sweep, against a plane and walls whose geometry is known."""

import numpy as np
import pytest

from vexkd_model.data.sweeps import Sweep
from vexkd_model.sensor_check.measure import measure_cloud

HEIGHT = 1.8  # of the LiDAR above the ground [m]


def mount(z=HEIGHT):
    """Make the mounting of nuScenes' LiDAR, whose y axis points ahead."""
    matrix = np.array([[0.0, 1, 0, 1.0], [-1, 0, 0, 0], [0, 0, 1, z], [0, 0, 0, 1]])
    return matrix


def plane(beams=16, columns=1800, wall=None, sector=(-180, 180)):
    """Make a cloud float32 (N, 4) in the sensor frame: `beams` rays to level ground or a round wall at `wall` [m]."""
    below = np.radians(np.linspace(-25, -2, beams))[:, None]
    azimuth = np.radians(np.linspace(*sector, columns, endpoint=False))[None]
    distance = HEIGHT / np.tan(-below) + 0 * azimuth
    if wall:
        distance = np.minimum(distance, wall)
    xyz = np.stack([distance * np.cos(azimuth), distance * np.sin(azimuth), distance * np.tan(below) + 0 * azimuth])
    points = np.concatenate([xyz.reshape(3, -1).T, np.full((beams * columns, 1), 40.0)], axis=1)
    return points.astype(np.float32)


def measured(points, base_from_sensor=None):
    return measure_cloud(Sweep(points, 0, mount() if base_from_sensor is None else base_from_sensor, np.eye(4)))


def test_the_ground_lies_where_the_mounting_puts_it():
    assert measured(plane()).ground == pytest.approx(0, abs=0.01)
    assert measured(plane(), mount(0.0)).ground == pytest.approx(-HEIGHT, abs=0.01)


def test_walls_do_not_pass_for_the_ground_whatever_their_share():
    """Three quarters of the beams end on a wall 10 m away; a wall's points have many heights, the ground's have one."""
    assert measured(plane(beams=64, wall=10.0)).ground == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("beams", [16, 32, 64])
def test_beams_are_counted_from_the_points_alone(beams):
    assert measured(plane(beams)).beams == beams


def test_a_cloud_that_has_been_moved_to_base_link_does_not_tell_its_beams():
    assert np.isnan(measured(plane(), np.eye(4)).beams)


def test_ranges_and_intensities_are_those_of_the_points():
    points = plane(columns=3600)
    distance = np.linalg.norm(points[:, :3], axis=1)
    points[::50, 3] = 200
    figures = measured(points)
    assert figures.points == len(points) and figures.range_max == pytest.approx(distance.max())
    assert figures.range_p50 == pytest.approx(np.median(distance), rel=0.1)
    assert (figures.intensity_p50, figures.intensity_p99, figures.intensity_max) == (40, 200, 200)


def test_rays_without_return_and_the_own_roof_are_no_points():
    nothing = np.zeros((5000, 4), np.float32)
    assert measured(np.concatenate([plane(), nothing])) == measured(plane())


def test_half_a_revolution_covers_half_of_the_horizon():
    assert measured(plane()).coverage == 1
    assert measured(plane(sector=(-90, 90))).coverage == pytest.approx(0.5, abs=0.02)


def test_a_street_ahead_is_lengthwise_and_across_when_turned():
    random = np.random.default_rng(1)
    street = np.column_stack(
        [random.uniform(-80, 80, 5000), random.uniform(-8, 8, 5000), np.zeros(5000), np.zeros(5000)]
    ).astype(np.float32)
    assert measured(street, np.eye(4)).lengthwise > 100
    assert measured(street).lengthwise < 0.01  # the mount turns by 90°


@pytest.mark.parametrize("points", [0, 1, 99])
def test_a_cloud_of_too_few_points_tells_nothing_and_breaks_nothing(points):
    figures = measured(plane()[:points])
    assert figures.points == points and np.isnan(figures.ground) and np.isnan(figures.range_p50)
