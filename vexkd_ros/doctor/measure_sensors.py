"""Measurement of a vehicle's sensors, as the description that `vexkd synth --like` imitates."""

from typing import Any

import numpy as np

from vexkd_model.config.sensors import CameraSensor, LidarSensor, SensorsConfig
from vexkd_model.errors import UserError
from vexkd_model.sensor_check.measure import LEAST_POINTS, MOUNTED_M, OWN_VEHICLE_M
from vexkd_model.types import CAMERAS
from vexkd_ros.bags.dataset.clouds import GREATEST, RINGS, guessed_intensity
from vexkd_ros.bags.dataset.guess import AZIMUTHS
from vexkd_ros.doctor.examine import INFO_NAME, Wiring, points_topic, prefixes_of
from vexkd_ros.doctor.observation import INFO, Heard, Observation
from vexkd_ros.inputs.calibration import read_calibration
from vexkd_ros.inputs.errors import CloudError, ImageError, TransformUnavailable
from vexkd_ros.inputs.pointcloud import read_cloud

BIN_DEG = 0.02  # of the histogram in which beams are found where no field counts them
BEAM_SHARE = 0.1  # of the points of a well-filled bin: fewer lie between two beams
FEWEST = 20  # points of a beam, in all clouds
SAME_DEG = 0.01  # beams nearer than this are one
UPRIGHT_DEG = 2.0


def measure_sensors(seen: Observation, wiring: Wiring) -> tuple[SensorsConfig, list[str]]:
    """Measure the LiDAR and all cameras that have a calibration and a mounting; also return remarks for people.

    UserError where there is no LiDAR, or where its clouds do not show its beams.
    """
    topic, problem = points_topic(seen, wiring.points)
    heard = seen.heard.get(topic)
    if problem or heard is None or len(heard.stamps) < 2:
        raise UserError(f"{seen.source}: {problem.text if problem else f'{topic} holds no two clouds'}")
    lidar, remarks = _lidar(seen, heard, wiring.base)
    cameras: dict[str, CameraSensor] = {}
    for name, prefix in prefixes_of(seen, wiring, None).items():
        infos = seen.heard.get(f"{prefix}/{INFO_NAME}")
        try:
            if infos is None or infos.msgtype != INFO or not (messages := infos.messages()):
                raise ImageError("no CameraInfo")
            mount = _mount(seen, infos, wiring.base)
            known = _nearest(mount) if name not in CAMERAS else name
            if known in cameras:
                raise ImageError(f"looks where {known} does; name it with --camera NAME={prefix}")
            cameras[known] = _camera(messages[-1], mount)
            remarks.append(f"{prefix}: {known}")
        except (ImageError, TransformUnavailable) as error:
            remarks.append(f"{prefix}: left out, {error}")
    return SensorsConfig(lidar=lidar, cameras=cameras), remarks


def _lidar(seen: Observation, heard: Heard, base: str) -> tuple[LidarSensor, list[str]]:
    try:
        mount = _mount(seen, heard, base)
    except TransformUnavailable as error:
        raise UserError(f"{heard.topic}: {error}; its height and beams cannot be measured without") from None
    if np.linalg.norm(mount[:3, 3]) < MOUNTED_M:
        raise UserError(f"{heard.topic}: its clouds come in {base}; give those in the sensor's own frame with --points")
    clouds = [cloud for message in heard.messages() if len(cloud := _points(message)) >= LEAST_POINTS]
    if not clouds:
        raise UserError(f"{heard.topic}: no cloud of {LEAST_POINTS} points beyond the own vehicle")
    sign = np.sign(mount[2, 2]) or 1.0  # one that hangs upside down
    elevation = [
        sign * np.degrees(np.arctan2(cloud[:, 2], np.hypot(cloud[:, 0], cloud[:, 1]))).astype(np.float64)
        for cloud in clouds
    ]
    rings = [cloud[:, 3] for cloud in clouds]
    counted = bool(np.isfinite(rings[0]).all() and len(np.unique(rings[0])) > 1)
    beams = _of_rings(elevation, rings) if counted else _clusters(np.concatenate(elevation))
    if not len(beams):
        raise UserError(f"{heard.topic}: no beams stand out in its clouds; has somebody filtered or moved them?")
    tilt = float(np.degrees(np.arccos(np.clip(abs(mount[2, 2]), -1, 1))))
    interval = float(np.median(np.diff(np.unique(heard.stamps)))) * 1e-9
    sensor = LidarSensor(
        elevations=tuple(np.round(beams, 3).tolist()),
        columns=_columns(clouds, elevation, beams),
        max_range=max(5.0, round(max(float(np.linalg.norm(cloud[:, :3], axis=1).max()) for cloud in clouds), 1)),
        translation=_rounded(mount[:3, 3]),
        yaw=round(float(np.degrees(np.arctan2(mount[1, 0], mount[0, 0]))), 2),
        rate=float(np.clip(round(1 / interval, 2), 2, 100)),
        intensity_max=round(GREATEST / guessed_intensity(heard)[1], 3),
    )
    remarks = [
        f"{heard.topic}: {len(beams)} beams by {'their field of rings' if counted else 'their elevations'}, "
        f"{beams[0]:.3g}° … {beams[-1]:.3g}°, {sensor.columns} columns, {sensor.rate:g} Hz, "
        f"{sensor.translation[2]:.2f} m high, intensity up to {sensor.intensity_max:g}"
    ]
    if tilt > UPRIGHT_DEG:
        remarks.append(f"{heard.topic}: leans by {tilt:.1f}°, which the description leaves out: synthetic ones stand")
    return sensor, remarks


def _mount(seen: Observation, heard: Heard, base: str) -> np.ndarray:
    """Pose (4, 4) of a sensor in `base`; raises TransformUnavailable."""
    frame = heard.frames.most_common(1)[0][0]
    return seen.transforms.lookup(base, frame, heard.stamps[len(heard.stamps) // 2])


def _points(message: Any) -> np.ndarray:
    """Points beyond the own vehicle, (N, 4): x, y, z [m] in the sensor's frame, ring or NaN; none if unreadable."""
    ring = next((field.name for field in message.fields if field.name in RINGS), None)
    try:
        points = read_cloud(message, ring or "intensity").points
    except CloudError:  # said where clouds are checked
        return np.empty((0, 4), np.float32)
    points = points[np.linalg.norm(points[:, :3], axis=1) > OWN_VEHICLE_M]
    if ring is None:
        points[:, 3] = np.nan
    return points


def _of_rings(elevation: list[np.ndarray], rings: list[np.ndarray]) -> np.ndarray:
    """Elevations of beams, ascending [°]: the median of each ring's points."""
    of_all, ring_of_all = np.concatenate(elevation), np.concatenate(rings)
    found = [np.median(own) for ring in np.unique(ring_of_all) if len(own := of_all[ring_of_all == ring]) >= FEWEST]
    return _apart(np.sort(found))


def _clusters(elevation: np.ndarray) -> np.ndarray:
    """Elevations of beams, ascending [°]: runs of well-filled bins of their histogram."""
    edges = np.arange(-90, 90 + BIN_DEG, BIN_DEG)
    counts = np.histogram(elevation, edges)[0]
    smooth = np.convolve(counts, [0.5, 1, 0.5], "same")
    full = smooth >= max(FEWEST, BEAM_SHARE * np.percentile(smooth[smooth > 0], 95))
    steps = np.flatnonzero(np.diff(np.concatenate([[0], full.astype(int), [0]])))
    runs = [
        elevation[(elevation >= edges[a]) & (elevation < edges[b])]
        for a, b in zip(steps[::2], steps[1::2], strict=True)
    ]
    return _apart(np.array([np.median(run) for run in runs]))


def _apart(elevations: np.ndarray) -> np.ndarray:
    """Leave out what is nearer than SAME_DEG to the one before it."""
    return elevations[np.diff(elevations, prepend=-np.inf) > SAME_DEG] if len(elevations) else elevations


def _columns(clouds: list[np.ndarray], elevation: list[np.ndarray], beams: np.ndarray) -> int:
    """Rays of a beam in one turn, by the usual step of azimuth between its points."""
    middles = (beams[1:] + beams[:-1]) / 2
    steps = []
    for cloud, its_elevation in zip(clouds, elevation, strict=True):
        beam = np.searchsorted(middles, its_elevation)
        azimuth = np.degrees(np.arctan2(cloud[:, 1], cloud[:, 0]).astype(np.float64))
        order = np.lexsort([azimuth, beam])
        apart, same = np.diff(azimuth[order]), np.diff(beam[order]) == 0
        steps.append(apart[same & (apart > 0.02)])
    step = np.concatenate(steps)
    return max(16, round(360 / float(np.median(step)))) if len(step) else 16


def _camera(info: Any, mount: np.ndarray) -> CameraSensor:
    size = (int(info.width), int(info.height))
    intrinsics = read_calibration(info, size).intrinsics
    view = mount[:3, 2]
    return CameraSensor(
        translation=_rounded(mount[:3, 3]),
        yaw=round(float(np.degrees(np.arctan2(view[1], view[0]))), 2),
        pitch=round(float(np.degrees(np.arcsin(np.clip(-view[2], -1, 1)))), 2),
        focal=round(float(np.sqrt(intrinsics[0, 0] * intrinsics[1, 1])), 2),
        size=size,
        centre=(round(float(intrinsics[0, 2]), 2), round(float(intrinsics[1, 2]), 2)),
    )


def _nearest(mount: np.ndarray) -> str:
    """Find nuScenes' camera that looks most nearly where this one does."""
    yaw = np.degrees(np.arctan2(mount[1, 2], mount[0, 2]))
    return min(AZIMUTHS, key=lambda name: abs((yaw - AZIMUTHS[name] + 180) % 360 - 180))


def _rounded(position: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 3) for value in position)
    return x, y, z
