"""A tiny dataset in the nuScenes schema by another maker, like Lyft's: sensors, categories and scenes of its own."""

import json
from pathlib import Path

from support.tiny_nuscenes import write_tiny_nuscenes

VERSION, TOWN = "train_data", "Palo Alto"
SCENES = {"host-a101-lidar0-1241893239199111666": 2, "host-a004-lidar0-1232815254300468606": 1}
CAMERAS = {
    "CAM_FRONT_LEFT": "CAMERA_1",
    "CAM_FRONT": "CAMERA_2",
    "CAM_FRONT_RIGHT": "CAMERA_3",
    "CAM_BACK_LEFT": "CAMERA_4",
    "CAM_BACK": "CAMERA_5",
    "CAM_BACK_RIGHT": "CAMERA_6",
}
CATEGORIES = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.rigid": "bus",
    "animal": "animal",
    "movable_object.barrier": "other_object",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "movable_object.trafficcone": "cone",
}
NAMES = {
    "sensors": {own: name for name, own in CAMERAS.items()},
    "categories": {
        "car": "car",
        "truck": "truck",
        "bus": "bus",
        "motorcycle": "motorcycle",
        "bicycle": "bicycle",
        "pedestrian": "pedestrian",
        "cone": "traffic_cone",
        "other_object": "barrier",
    },
}


def write_other_dataset(root: Path, **files: object) -> Path:
    """Write the tiny dataset's street under other names and return `root`; files: JSON to write beside the tables.

    As in Lyft's: stamps are fractions of a microsecond, points are not counted, there are two attributes a box and more
    LiDARs. There is no raster of the map, no table `map`, and a lidarseg table without its files.
    """
    write_tiny_nuscenes(root, SCENES, with_map=False, version=VERSION)
    (root / "maps" / "mask.png").unlink()
    change_rows(root, "sensor", lambda row: row.update(channel=CAMERAS.get(row["channel"], row["channel"])))
    change_rows(root, "category", lambda row: row.update(name=CATEGORIES[row["name"]]))
    change_rows(root, "attribute", lambda row: row.update(name=f"object_action_{row['name'].split('.')[1]}"))
    change_rows(
        root,
        "sample_annotation",
        lambda row: row.update(num_lidar_pts=-1, num_radar_pts=0, attribute_tokens=row["attribute_tokens"] * 2),
    )
    change_rows(root, "log", lambda row: row.update(location=TOWN))
    change_rows(root, "scene", lambda row: row.pop("nbr_samples"))
    for table in ("sample", "sample_data", "ego_pose"):
        change_rows(root, table, lambda row: row.update(timestamp=row["timestamp"] + 0.25))
    folder = root / VERSION
    sensors = json.loads((folder / "sensor.json").read_text())
    sensors.append({"token": "second", "channel": "LIDAR_FRONT_LEFT", "modality": "lidar"})
    (folder / "sensor.json").write_text(json.dumps(sensors))
    (folder / "map.json").unlink()
    (folder / "lidarseg.json").write_text(json.dumps([{"token": "x", "sample_data_token": "x", "filename": "x"}]))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return root


def change_rows(root: Path, table: str, change: object) -> None:
    """Call `change` with every row of a table of the dataset."""
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    for row in rows:
        change(row)
    path.write_text(json.dumps(rows))
