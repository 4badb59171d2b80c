"""Tables of any dataset in the nuScenes schema, opened under nuScenes' names of sensors and categories.

`names.json` beside the tables says which is which, where a dataset has names of its own:
{"sensors": {"CAMERA_1": "CAM_FRONT", …}, "categories": {"tram": "bus", …}}.
"""

import json
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.splits import create_splits_scenes

from vexkd_model.data.splits import LIDAR, NAMES, SPLITS, no_tables, own_splits
from vexkd_model.errors import UserError
from vexkd_model.types import ATTRIBUTE_NAMES, CAMERAS, DETECTION_CLASSES

# Keys of each table that this project or the devkit's metrics read; the tables in OPTIONAL may be absent.
KEYS = {
    "category": ("token", "name"),
    "attribute": ("token", "name"),
    "visibility": ("token",),
    "instance": ("token", "category_token"),
    "sensor": ("token", "channel", "modality"),
    "calibrated_sensor": ("token", "sensor_token", "translation", "rotation", "camera_intrinsic"),
    "ego_pose": ("token", "translation", "rotation"),
    "log": ("token", "location"),
    "scene": ("token", "name", "log_token", "first_sample_token"),
    "sample": ("token", "scene_token", "timestamp", "next"),
    "sample_data": (
        "token",
        "sample_token",
        "ego_pose_token",
        "calibrated_sensor_token",
        "timestamp",
        "filename",
        "is_key_frame",
        "width",
        "height",
        "prev",
        "next",
    ),
    "sample_annotation": (
        "token",
        "sample_token",
        "instance_token",
        "attribute_tokens",
        "translation",
        "size",
        "rotation",
        "num_lidar_pts",
        "num_radar_pts",
        "prev",
        "next",
    ),
    "map": ("token", "log_tokens"),
}
OPTIONAL = ("attribute", "visibility", "map")
# One category for each class; the devkit knows more for some.
CATEGORY_OF_CLASS = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "construction_vehicle": "vehicle.construction",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "barrier": "movable_object.barrier",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
    "traffic_cone": "movable_object.trafficcone",
}


class SchemaTables(NuScenes):
    """The devkit's view of a dataset's tables, with nothing of the dataset required that only it would look at.

    Sensors, categories and attributes have nuScenes' names. Unlike the devkit's own constructor, this one opens no
    raster of a map and no lidarseg or panoptic tables.

    own_channels: name in the dataset of each sensor, by the name that it has here.
    """

    def __init__(self, dataroot: Path, version: str) -> None:
        self.dataroot, self.version, self.verbose = str(dataroot), version, False
        self.table_names = list(KEYS)
        folder = Path(dataroot) / version
        tables = {name: _read_table(folder / f"{name}.json") for name in self.table_names}
        names = _read_names(
            folder / NAMES,
            [sensor["channel"] for sensor in tables["sensor"]],
            [category["name"] for category in tables["category"]],
        )
        self.own_channels = _rename_sensors(tables["sensor"], names["sensors"], folder / NAMES)
        for category in tables["category"]:
            if category["name"] in names["categories"]:
                category["name"] = CATEGORY_OF_CLASS[names["categories"][category["name"]]]
        _keep_known_attributes(tables["sample_annotation"], {row["token"]: row["name"] for row in tables["attribute"]})
        mapped = {token for record in tables["map"] for token in record["log_tokens"]}
        # The devkit wants a map of every log.
        tables["map"].append(
            {"token": "", "log_tokens": [log["token"] for log in tables["log"] if log["token"] not in mapped]}
        )
        for name, rows in tables.items():
            setattr(self, name, rows)
        self.__make_reverse_index__(verbose=False)


def open_nuscenes(dataroot: Path, version: str) -> SchemaTables:
    """Open the tables of `dataroot/version`; UserError names what is missing."""
    folder = Path(dataroot) / version
    if not folder.is_dir():
        raise no_tables(folder)
    try:
        return SchemaTables(dataroot, version)
    except KeyError as error:
        raise UserError(f"{folder}: the tables refer to {error}, which is not there; unpack them again") from None


def scenes_of_split(nusc: NuScenes, split: str) -> list[dict]:
    """List the dataset's scenes of a split of its own or of nuScenes', in the split's order.

    UserError for another name, and for a scene of `splits.json` that the tables do not hold.
    """
    present = {scene["name"]: scene for scene in nusc.scene}
    own, official = own_splits(Path(nusc.dataroot), nusc.version), create_splits_scenes()
    if split in own:
        strange = [name for name in own[split] if name not in present]
        if strange:
            raise UserError(
                f"{Path(nusc.dataroot) / nusc.version / SPLITS}: {split}: scene {strange[0]} is not in "
                f"scene.json, which has {', '.join(list(present)[:5])} …"
            )
        return [present[name] for name in own[split]]
    if split not in official:
        raise UserError(f"--split {split}: no split of that name; there are {', '.join([*own, *official])}")
    return [present[name] for name in official[split] if name in present]


def unused_categories(nusc: NuScenes, scenes: Collection[dict]) -> dict[str, int]:
    """Count the annotations in these scenes of each category that is none of the detection classes."""
    tokens = {scene["token"] for scene in scenes}
    counts = Counter(
        nusc.get("sample_annotation", token)["category_name"]
        for sample in nusc.sample
        if sample["scene_token"] in tokens
        for token in sample["anns"]
    )
    return {name: count for name, count in counts.most_common() if category_to_detection_name(name) is None}


def _read_table(path: Path) -> list[dict]:
    """Read a table and check that every record has the keys that are read."""
    keys = KEYS[path.stem]
    try:
        rows = json.loads(path.read_text())
    except FileNotFoundError:
        if path.stem in OPTIONAL:
            return []
        raise UserError(f"{path}: no such table; complete the dataset") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a table of nuScenes ({error}); unpack it again") from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: not a table of nuScenes, which is a list of records")
    for i, row in enumerate(rows):
        missing = [key for key in keys if key not in row] if isinstance(row, dict) else keys
        if missing:
            token = row.get("token", i) if isinstance(row, dict) else i
            unknown = "; write -1 where it is not known" if missing[0] in ("num_lidar_pts", "num_radar_pts") else ""
            raise UserError(f"{path}: record {token} has no {missing[0]}{unknown}")
        if "timestamp" in row:
            row["timestamp"] = round(row["timestamp"])  # some write fractions of a microsecond
    return rows


def _read_names(path: Path, channels: Collection[str], categories: Collection[str]) -> dict[str, dict[str, str]]:
    """Read and check `names.json`; empty mappings without it."""
    try:
        names = json.loads(path.read_text())
    except FileNotFoundError:
        names = {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    possible = {"sensors": (channels, (LIDAR, *CAMERAS)), "categories": (categories, DETECTION_CLASSES)}
    if not isinstance(names, dict) or not all(isinstance(names.get(kind, {}), dict) for kind in possible):
        raise UserError(
            f'{path}: must hold {{"sensors": {{…}}, "categories": {{…}}}}, each from names of this dataset '
            "to names of nuScenes"
        )
    for kind, mapping in names.items():
        if kind not in possible:
            raise UserError(f"{path}: {kind}: unknown key; there are sensors and categories")
        for own, name in mapping.items():
            for given, known in ((own, possible[kind][0]), (name, possible[kind][1])):
                if given not in known:
                    raise UserError(f"{path}: {kind}: {given} is none of {', '.join(sorted(known))}")
    return {kind: names.get(kind, {}) for kind in possible}


def _rename_sensors(sensors: list[dict], names: Mapping[str, str], path: Path) -> dict[str, str]:
    """Give sensors nuScenes' names in place; return their own names by those. The only LiDAR needs no mapping."""
    lidars = {sensor["channel"] for sensor in sensors if sensor["modality"] == "lidar"}
    if LIDAR not in (*lidars, *names.values()) and len(lidars) == 1:
        names = {**names, lidars.pop(): LIDAR}
    own: dict[str, str] = {}
    for sensor in sensors:
        channel: str = sensor["channel"]
        name = sensor["channel"] = names.get(channel, channel)
        if own.setdefault(name, channel) != channel:
            raise UserError(f"{path}: {own[name]} and {channel} would both be {name}; map one sensor to each name")
    return own


def _keep_known_attributes(annotations: list[dict], names: Mapping[str, str]) -> None:
    """Leave each annotation the first attribute that nuScenes knows, if any: its metrics fail on others."""
    known = {token for token, name in names.items() if name in ATTRIBUTE_NAMES}
    for annotation in annotations:
        annotation["attribute_tokens"] = [token for token in annotation["attribute_tokens"] if token in known][:1]
