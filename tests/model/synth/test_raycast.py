"""Ray caster against the definition of its solids: which points are inside."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vexkd_model.config.sensors import LidarSensor, SensorsConfig
from vexkd_model.synth.cameras import camera_windows, pixel_rays
from vexkd_model.synth.lidar import lidar_windows, ray_directions
from vexkd_model.synth.raycast import BOX, CONE, CYLINDER, ELLIPSOID, NO_HIT, Primitives, cast, normals
from vexkd_model.synth.rig import RigLidar, draw_rig

ORIGIN = np.array([3.0, -2.0, 1.8])
STEP_M = 0.02
REACH_M = 45.0
SLACK = 0.01  # of a half-size: single precision costs millimetres where a ray grazes the tip of a cone


def _solids(count: int = 60) -> Primitives:
    """Draw solids of all kinds around the sensor, none of them around its own position."""
    rng = np.random.default_rng(0)
    angle, distance = rng.uniform(-np.pi, np.pi, count), rng.uniform(5.0, 35.0, count)
    half = rng.uniform(0.3, 2.2, (count, 3))
    centre = np.stack([np.cos(angle) * distance, np.sin(angle) * distance, rng.uniform(-0.5, 4.0, count)], 1) + ORIGIN
    kind = np.arange(count) % 4
    # A cone is only ever seen from beside or above: its base stands on the ground.
    centre[kind == CONE, 2] = half[kind == CONE, 2] - 1.0
    as_float = [torch.tensor(a, dtype=torch.float32) for a in (centre, half, rng.uniform(-np.pi, np.pi, count))]
    return Primitives(torch.from_numpy(kind), *as_float)


def _turned(yaw: float, roll: float = 0.0) -> np.ndarray:
    """Make world_from_lidar (4, 4) at the origin: column 0 looks along `yaw`, the axis leans by `roll`."""
    matrix = np.eye(4)
    c, s = np.cos(yaw - np.pi / 2), np.sin(yaw - np.pi / 2)
    lean = np.array([[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]])
    matrix[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ lean
    matrix[:3, 3] = ORIGIN
    return matrix


def _lidar(**sensor) -> RigLidar:
    return draw_rig(np.random.default_rng(0), 0.0, SensorsConfig(lidar=LidarSensor(**sensor))).lidar


def _holds(solids: Primitives, points: np.ndarray, slack: float) -> np.ndarray:
    """Mask bool (P, N), in float64, of the points inside each solid, grown by the factor 1 + slack."""
    inside = []
    for kind, centre, half, yaw in zip(
        *(t.numpy() for t in (solids.kind, solids.centre, solids.half, solids.yaw)), strict=True
    ):
        d = points - centre.astype(np.float64)
        c, s = np.cos(np.float64(yaw)), np.sin(np.float64(yaw))
        x, y, z = (
            np.stack([c * d[..., 0] + s * d[..., 1], c * d[..., 1] - s * d[..., 0], d[..., 2]], 0)
            / half.astype(np.float64)[:, None]
            / (1 + slack)
        )
        inside.append(
            {
                BOX: np.maximum(np.maximum(abs(x), abs(y)), abs(z)) <= 1,
                ELLIPSOID: x * x + y * y + z * z <= 1,
                CYLINDER: (np.hypot(x, y) <= 1) & (abs(z) <= 1),
                CONE: (np.hypot(x, y) <= (1 - z) / 2) & (abs(z) <= 1),
            }[int(kind)]
        )
    return np.array(inside)


def _assert_first_hits(solids: Primitives, directions: torch.Tensor, hits, rays: np.ndarray) -> None:
    """Assert that every hit lies on its solid, and that no ray is inside any solid before its hit."""
    walk = np.arange(STEP_M, REACH_M, STEP_M)
    for ray in rays:
        direction = directions[ray].numpy().astype(np.float64)
        end = float(hits.depth[ray])
        before = walk / np.linalg.norm(direction)
        before = before[before < end - 2 * STEP_M]
        assert not _holds(solids, ORIGIN + before[:, None] * direction, -0.01).any(), ray
        if hits.primitive[ray] != NO_HIT:
            point = ORIGIN + end * direction[None]
            assert _holds(solids, point, SLACK)[hits.primitive[ray], 0], ray
            assert not _holds(solids, point, -SLACK)[hits.primitive[ray], 0], ray


@pytest.mark.parametrize("sensor", ["lidar", "camera"])
def test_a_ray_ends_where_it_first_enters_a_solid(sensor):
    solids, origin = _solids(), torch.tensor(ORIGIN, dtype=torch.float32)
    if sensor == "lidar":
        lidar = _lidar()
        directions, grid = ray_directions(lidar, _turned(0.7), "cpu"), lidar.grid
        windows = lidar_windows(lidar, solids, _turned(0.7))
    else:
        size, camera = (96, 54), draw_rig(np.random.default_rng(0)).cameras[1]
        rotation = torch.tensor(camera.base_from_camera[:3, :3], dtype=torch.float32)
        directions, grid = pixel_rays(camera.intrinsics(*size), size, "cpu") @ rotation.T, (size[1], size[0])
        windows = camera_windows(solids, origin, rotation, camera.intrinsics(*size), size)
    hits = cast(solids, origin, directions, windows, grid)
    hit = torch.nonzero(hits.primitive != NO_HIT).squeeze(1).numpy()
    missed = torch.nonzero(hits.primitive == NO_HIT).squeeze(1).numpy()
    assert len(hit) > 200
    rng = np.random.default_rng(1)
    _assert_first_hits(solids, directions, hits, rng.choice(hit, 120, replace=False))
    _assert_first_hits(solids, directions, hits, rng.choice(missed, 60, replace=False))


SENSORS = {
    "nuScenes'": {},
    "dense about the horizon": {"elevations": tuple(20 * np.sign(u) * u * u for u in np.linspace(-1.3, 0.9, 47))},
    "two beams": {"elevations": (-61.0, 3.0), "columns": 4001, "yaw": 25.0},
    "one beam": {"elevations": (0.5,)},
    "gaps and pairs": {"elevations": (-25.0, -24.99, -3.0, -2.9, 0.0, 0.01, 15.0, 44.0), "columns": 360, "yaw": 180.0},
}


@pytest.mark.parametrize("roll", [0.0, 0.01, 0.1])
@pytest.mark.parametrize("sensor", SENSORS)
def test_windows_lose_no_hit_against_testing_every_ray(sensor, roll):
    solids, origin, lidar = _solids(), torch.tensor(ORIGIN, dtype=torch.float32), _lidar(**SENSORS[sensor])
    beams, columns = lidar.grid
    pose = _turned(-2.0, roll)
    directions = ray_directions(lidar, pose, "cpu")
    every = torch.tensor([[0, beams, 0, columns]]).expand(len(solids), 4)
    windows = lidar_windows(lidar, solids, pose)
    windowed = cast(solids, origin, directions, windows, lidar.grid)
    exhaustive = cast(solids, origin, directions, every, lidar.grid)
    assert (exhaustive.primitive != NO_HIT).any()
    assert torch.equal(windowed.depth, exhaustive.depth)
    assert torch.equal(windowed.primitive, exhaustive.primitive)
    rays = ((windows[:, 1] - windows[:, 0]).clamp_min(0) * (windows[:, 3] - windows[:, 2]).clamp(0, columns)).sum()
    assert rays < 0.3 * len(solids) * beams * columns  # and spare most of the work


@given(
    elevations=st.lists(st.floats(-80, 80), min_size=1, max_size=12, unique=True).map(sorted),
    yaw=st.floats(-180, 180),
    roll=st.floats(-0.05, 0.05),
)
@settings(max_examples=40, deadline=None)
def test_windows_lose_no_hit_whatever_the_elevations(elevations, yaw, roll):
    solids, origin = _solids(24), torch.tensor(ORIGIN, dtype=torch.float32)
    lidar, pose = _lidar(elevations=tuple(elevations), columns=180, yaw=yaw), _turned(0.4, roll)
    directions = ray_directions(lidar, pose, "cpu")
    every = torch.tensor([[0, len(elevations), 0, 180]]).expand(len(solids), 4)
    windowed, exhaustive = (
        cast(solids, origin, directions, windows, lidar.grid) for windows in (lidar_windows(lidar, solids, pose), every)
    )
    assert torch.equal(windowed.depth, exhaustive.depth)
    assert torch.equal(windowed.primitive, exhaustive.primitive)


def test_a_box_straight_ahead_is_hit_at_its_front_face():
    box = Primitives(
        torch.tensor([BOX]), torch.tensor([[10.0, 0.0, 0.0]]), torch.tensor([[1.0, 2.0, 1.5]]), torch.tensor([0.0])
    )
    forward = torch.tensor([[1.0, 0.0, 0.0]])
    hits = cast(box, torch.zeros(3), forward, torch.tensor([[0, 1, 0, 1]]), (1, 1))
    assert hits.depth.item() == pytest.approx(9.0, abs=1e-4)
    normal, _ = normals(box, hits.primitive, hits.depth[:, None] * forward)
    assert normal.squeeze(0).tolist() == pytest.approx([-1.0, 0.0, 0.0], abs=1e-6)


def test_normals_point_outwards_at_right_angles_to_the_surface():
    solids, origin = _solids(), torch.tensor(ORIGIN, dtype=torch.float32)
    lidar = _lidar()
    directions = ray_directions(lidar, _turned(0.0), "cpu")
    hits = cast(solids, origin, directions, lidar_windows(lidar, solids, _turned(0.0)), lidar.grid)
    ray = torch.nonzero(hits.primitive != NO_HIT).squeeze(1)[::7]
    points = origin + hits.depth[ray, None] * directions[ray]
    normal, _ = normals(solids, hits.primitive[ray], points)
    assert torch.allclose(normal.norm(dim=1), torch.ones(len(ray)), atol=1e-5)
    outside = (points + 0.03 * normal).numpy().astype(np.float64)
    inside = (points - 0.03 * normal).numpy().astype(np.float64)
    of = hits.primitive[ray].numpy(), np.arange(len(ray))
    assert not _holds(solids, outside, 0.0)[of].any()
    assert _holds(solids, inside, 0.0)[of].mean() > 0.98  # a thin edge may be passed through


def test_a_ray_into_the_empty_world_hits_nothing():
    nothing = Primitives(torch.zeros(0, dtype=torch.long), torch.zeros(0, 3), torch.zeros(0, 3), torch.zeros(0))
    hits = cast(nothing, torch.zeros(3), torch.tensor([[1.0, 0.0, 0.0]]), torch.zeros(0, 4, dtype=torch.long), (1, 1))
    assert hits.primitive.tolist() == [NO_HIT]
    assert torch.isinf(hits.depth).all()
