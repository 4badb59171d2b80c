"""The tiny nuScenes dataset with what only bags hold beside it: a radar and the CAN bus expansion."""

import json
from pathlib import Path

import numpy as np

from support.street import EGO_SPEED, HEADING, KEYFRAME_S, LOCATION, ego_pose, quaternion, rotation, to_global
from support.tiny_nuscenes import SCENES, START_US, write_tiny_nuscenes

# As in nuScenes' own files.
RADAR_FIELDS = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("dyn_prop", "i1"),
        ("id", "<i2"),
        ("rcs", "<f4"),
        ("vx", "<f4"),
        ("vy", "<f4"),
        ("vx_comp", "<f4"),
        ("vy_comp", "<f4"),
        ("is_quality_valid", "i1"),
        ("ambig_state", "i1"),
        ("x_rms", "i1"),
        ("y_rms", "i1"),
        ("invalid_state", "i1"),
        ("pdh0", "i1"),
        ("vx_rms", "i1"),
        ("vy_rms", "i1"),
    ]
)
RADAR_DELAY_US, RADAR_XYZ = 15_000, [3.4, 0.0, 0.5]
IMU_PERIOD_US, POSE_PERIOD_US = 10_000, 20_000


def write_full_nuscenes(root: Path) -> Path:
    """Two scenes, six cameras, a radar, a map expansion, and the CAN bus of the first scene alone."""
    write_tiny_nuscenes(root)
    tables = {
        name: json.loads((root / "v1.0-mini" / f"{name}.json").read_text())
        for name in ("sensor", "calibrated_sensor", "ego_pose", "sample_data")
    }
    tables["sensor"].append({"token": "radar", "channel": "RADAR_FRONT", "modality": "radar"})
    tables["calibrated_sensor"].append(
        {
            "token": "radar",
            "sensor_token": "radar",
            "translation": RADAR_XYZ,
            "rotation": quaternion(np.eye(3)),
            "camera_intrinsic": [],
        }
    )
    (root / "samples" / "RADAR_FRONT").mkdir(parents=True)
    for number, (scene, keyframes) in enumerate(SCENES.items()):
        for k in range(keyframes):
            _add_radar(root, tables, f"{scene}-{k}", k, START_US + number * 10**9)
    for name, rows in tables.items():
        (root / "v1.0-mini" / f"{name}.json").write_text(json.dumps(rows))
    _write_can_bus(root / "can_bus", next(iter(SCENES)))
    _add_lanes(root / "maps" / "expansion" / f"{LOCATION}.json")
    return root


def _add_lanes(path: Path) -> None:
    """A straight lane of 20 m ahead of the vehicle, and one far away."""
    expansion = json.loads(path.read_text())
    for name, x in (("ahead", 0.0), ("far", 900.0)):
        start, end = to_global(np.array([[x, -2.0], [x + 20.0, -2.0]])).tolist()
        expansion["arcline_path_3"][name] = [
            {
                "start_pose": [*start, HEADING],
                "end_pose": [*end, HEADING],
                "shape": "LSR",
                "radius": 999.999,
                "segment_length": [0.0, 20.0, 0.0],
            }
        ]
    path.write_text(json.dumps(expansion))


def _add_radar(root: Path, tables: dict, sample: str, keyframe: int, start_us: int) -> None:
    seconds = keyframe * KEYFRAME_S + RADAR_DELAY_US * 1e-6
    token, path = f"{sample}-radar", f"samples/RADAR_FRONT/{sample}.pcd"
    write_radar(root / path, radar_returns(7 + keyframe))
    stamp = start_us + round(seconds * 1e6)
    tables["ego_pose"].append({"token": token, "timestamp": stamp, **ego_pose(seconds)})
    tables["sample_data"].append(
        {
            "token": token,
            "sample_token": sample,
            "ego_pose_token": token,
            "calibrated_sensor_token": "radar",
            "timestamp": stamp,
            "fileformat": "pcd",
            "is_key_frame": True,
            "height": 0,
            "width": 0,
            "filename": path,
            "prev": "",
            "next": "",
        }
    )


def radar_returns(count: int) -> np.ndarray:
    """Whole and broken, moving and standing returns."""
    random, returns = np.random.default_rng(count), np.zeros(count, RADAR_FIELDS)
    for name, (dtype, _) in RADAR_FIELDS.fields.items():
        returns[name] = random.uniform(-9, 60, count) if dtype.kind == "f" else random.integers(0, 5, count)
    return returns


def write_radar(path: Path, returns: np.ndarray) -> None:
    """A binary PCD 0.7 as nuScenes writes it, with its one byte too many at the end."""
    types = [dtype for dtype, _ in RADAR_FIELDS.fields.values()]
    header = (
        f"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS {' '.join(RADAR_FIELDS.names)}\n"
        f"SIZE {' '.join(str(dtype.itemsize) for dtype in types)}\n"
        f"TYPE {' '.join('F' if dtype.kind == 'f' else 'I' for dtype in types)}\n"
        f"COUNT {' '.join('1' for _ in types)}\nWIDTH {len(returns)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\n"
        f"POINTS {len(returns)}\nDATA binary\n"
    )
    path.write_bytes(header.encode() + returns.tobytes() + b"\n")


def _write_can_bus(folder: Path, scene: str) -> None:
    folder.mkdir()
    imu = [
        {
            "utime": START_US + i * IMU_PERIOD_US,
            "q": [0.5, 0.5, -0.5, 0.5],
            "linear_accel": [0.1 * i, -0.2, 9.8],
            "rotation_rate": [0.01, 0.02, 0.03 * i],
        }
        for i in range(20)
    ]
    pose = [
        {
            "utime": START_US + i * POSE_PERIOD_US,
            "pos": to_global(np.array([0.1 * i, 0, 0])).tolist(),
            "orientation": quaternion(rotation(HEADING)),
            "vel": [EGO_SPEED, 0.0, 0.0],
            "accel": [0.0, 0.0, 9.8],
            "rotation_rate": [0.0, 0.0, 0.1],
        }
        for i in range(10)
    ]
    vehicle = [{"utime": START_US + i * 500_000, "brake": 3, "steering": -1.5} for i in range(2)]
    for name, records in (("ms_imu", imu), ("pose", pose), ("vehicle_monitor", vehicle)):
        (folder / f"{scene}_{name}.json").write_text(json.dumps(records))
