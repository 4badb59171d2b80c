"""Files of annotation tools that mean nothing: each is refused in one line with its cure, and nothing is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import labelled_street as street
from support import vehicle_bag as vehicle

from vexkd_ros.bags.bag_to_nuscenes import main

SENSORS = f"""
base_frame: base_footprint
odom_frame: map
odometry: {vehicle.ODOMETRY}
sensors:
  LIDAR_TOP: {vehicle.POINTS["front_lidar"]}
  CAM_FRONT: {vehicle.IMAGES["cam_f"]}
classes: {{Car: car, Pedestrian: pedestrian, Truck: truck}}
"""
CLOUDS = [0, 4, 8]
SUSTECH, KITTI = "{path: <bag>}", "{path: <bag>.txt, frame: CAM_FRONT}"


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vehicle.write_vehicle_bag(tmp_path_factory.mktemp("drive") / "monday")


def refusal(drive: Path, folder: Path, annotations: str = SUSTECH, *options: str) -> str:
    """The one line that is said."""
    (folder / "sensors.yaml").write_text(f"{SENSORS}annotations: {annotations}\n")
    before = sorted(folder.rglob("*"))
    arguments = ["--out", str(folder / "data"), "--version", "mine", "--sensors", str(folder / "sensors.yaml")]
    with pytest.raises(SystemExit) as raised:
        main([str(drive), *arguments, *options])
    said = str(raised.value)
    assert said.startswith("vexkd-bag-to-nuscenes: ") and "\n" not in said
    assert sorted(folder.rglob("*")) == before, "nothing is left of it"
    return said


# --- SUSTechPOINTS ----------------------------------------------------------------------------------------------------


def first_object(**values: Any) -> Callable[[list], Any]:
    """Put values into the file's first object; those of None are removed."""

    def change(objects: list) -> Any:
        objects[0] |= values
        objects[0] = {key: value for key, value in objects[0].items() if value is not None}
        return objects

    return change


def first_psr(part: str, **values: Any) -> Callable[[list], Any]:
    def change(objects: list) -> Any:
        objects[0]["psr"][part] |= values
        return objects

    return change


def second_of_the_first(objects: list) -> Any:
    objects[1]["obj_id"] = objects[0]["obj_id"]
    return objects


def two_strange_classes(objects: list) -> Any:
    objects[0]["obj_type"], objects[2]["obj_type"] = "Van", "Bus"
    return objects


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first_object(obj_type="Tram"), "0004.json: [0]: class 'Tram' is none of nuScenes'; say which one it is"),
        (two_strange_classes, "classes: {Van: car, Bus: bus}, or null to leave it out"),
        (first_object(obj_type=None), "0004.json: [0]: obj_type: Field required"),
        (first_object(obj_id=""), "0004.json: [0]: Car has no id (1 of 12 boxes have none); give it that of its obj"),
        (first_object(obj_id=None), "0004.json: [0]: Car has no id (1 of 12 boxes have none)"),
        (first_object(psr=None), "0004.json: [0]: psr: Field required"),
        (second_of_the_first, "0004.json: [1]: two boxes have the id 3; give each object its own"),
        (first_psr("position", y=float("nan")), "0004.json: [0]: a box of Car is not finite or has no volume; correct"),
        (first_psr("rotation", z=float("inf")), "0004.json: [0]: a box of Car is not finite or has no volume"),
        (first_psr("scale", x=0.0), "0004.json: [0]: a box of Car is not finite or has no volume"),
        (first_psr("scale", z=-1.5), "0004.json: [0]: a box of Car is not finite or has no volume"),
        (first_psr("position", x="far"), "0004.json: [0]: psr.position.x: Input should be a valid number"),
        (lambda objects: objects[0]["psr"], "0004.json: is no list of objects with obj_id, obj_type and psr"),
        (lambda objects: ["car", *objects], "0004.json: [0]: is no object with obj_id, obj_type and psr"),
    ],
)
def test_an_object_of_sustechpoints(drive: Path, tmp_path: Path, change: Callable, said: str) -> None:
    folder = street.write_sustechpoints(tmp_path / "monday", {i: f"{i:04d}" for i in CLOUDS})
    values = json.loads((folder / "0004.json").read_text())
    (folder / "0004.json").write_text(json.dumps(change(values["objs"])))
    assert said in refusal(drive, tmp_path)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0000", "0021"], "0021.json: frame 21 is none of the 21 messages of LIDAR_TOP in "),
        (["0000", "1800000000.0"], "is not in the time of the bag, 1700000000.000 … 1700000002.000 s; are these the"),
        (["0000", "1700000002.060"], "no cloud within 50 ms of 1700000002.060000 s, the nearest is 60 ms away"),
        (["0000", "1700000000000000000"], "is the same cloud as"),
        (["first"], "first ends neither with a number nor with a stamp; name frames by one of the two"),
    ],
)
def test_frames_that_are_no_cloud(drive: Path, tmp_path: Path, names: list[str], said: str) -> None:
    street.write_sustechpoints(tmp_path / "monday", dict(zip(CLOUDS, names, strict=False)))
    assert said in refusal(drive, tmp_path)


@pytest.mark.parametrize(
    ("annotations", "said"),
    [
        ("{path: elsewhere/<bag>}", "elsewhere/monday: no such file or folder; correct annotations.path"),
        ("{path: labels}", "annotations: Value error, path: must have <bag> in it"),
        ("{path: <bag>, topic: /annotated}", "annotations: Value error, needs either a topic, or the path"),
        ("{topic: /annotated, frame: cam_f}", "annotations: Value error, a topic has no other keys"),
        ("{path: <bag>, format: waymo}", "annotations.format: Input should be 'kitti', 'sustechpoints' or 'datumaro'"),
        ("{path: <bag>, fromat: kitti}", "annotations.fromat: unknown key; did you mean annotations.format?"),
        ("{path: <bag>, frame: LIDAR_TPO}", "LIDAR_TPO is the frame of its boxes, but no transform map → LIDAR_TPO"),
        ("{path: <bag>, format: datumaro}", "0000.json: categories: Field required (and 1 more)"),
        ("{path: <bag>, first: 1}", "frame 0 is none of the 21 messages of LIDAR_TOP in"),
        ("{path: <bag>, numbers: keyframes}", "0008.json: frame 8 is none of the 5 keyframes of"),
        ("{path: <bag>, timestamps: <bag>/timestamps.txt}", "timestamps.txt: cannot be read"),
    ],
)
def test_keys_that_do_not_fit_the_files(drive: Path, tmp_path: Path, annotations: str, said: str) -> None:
    street.write_sustechpoints(tmp_path / "monday", {i: f"{i:04d}" for i in CLOUDS})
    assert said in refusal(drive, tmp_path, annotations)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"0000.json": "[{"}, "0000.json: not JSON (Expecting property name"),
        ({"0000.json": "[]", "0001.txt": ""}, "monday: holds .json and .txt; leave one of the two there"),
        ({"labels.csv": "0,car"}, "monday: labels.csv is no label file; give *.txt of KITTI, or *.json of"),
        ({"tracklet_labels.xml": "<a/>"}, "monday: tracklet_labels.xml is no label file"),
    ],
)
def test_files_of_no_format(drive: Path, tmp_path: Path, files: dict[str, str], said: str) -> None:
    (tmp_path / "monday").mkdir()
    for name, text in files.items():
        (tmp_path / "monday" / name).write_text(text)
    assert said in refusal(drive, tmp_path)


# --- KITTI ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "0 1 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.7",
            "monday.txt:2: has 15 columns, not the 17 of KITTI's tracking labels",
        ),
        ("0 1 Car 0 0 0 0 0 9 9 1.5 1.6", "monday.txt:2: has 12 columns, not the 17 of KITTI's tracking labels"),
        ("a 1 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.7 10.0 0", "monday.txt:2: 'a' is no number of a frame; correct it"),
        ("99 1 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.7 10.0 0", "monday.txt:2: frame 99 is none of the 21 messages of"),
        ("0 -1 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.7 10.0 0", "monday.txt:2: Car has no id (1 of 13 boxes have none)"),
        ("0 1 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.7 ten 0", "monday.txt:2: could not convert string to float: 'ten'"),
        ("0 1 Car 0 0 0 0 0 9 9 -1 -1 -1 -1000 -1000 -1000 -10", "monday.txt:2: a box of Car is not finite or has no"),
        ("0 1 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 nan 1.7 10.0 0", "monday.txt:2: a box of Car is not finite or has no"),
        ("0 1 Van 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.7 10.0 0", "monday.txt:2: class 'Van' is none of nuScenes'"),
        ("0 3 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.7 10.0 0", "monday.txt:3: two boxes have the id 3; give each"),
    ],
)
def test_a_line_of_kitti(drive: Path, tmp_path: Path, line: str, said: str) -> None:
    file = street.write_kitti_tracking(tmp_path / "monday.txt", CLOUDS)
    file.write_text(f"\n{line}\n{file.read_text()}")
    assert said in refusal(drive, tmp_path, KITTI)


def test_kitti_boxes_need_the_name_of_their_camera(drive: Path, tmp_path: Path) -> None:
    street.write_kitti_tracking(tmp_path / "monday.txt", CLOUDS)
    said = refusal(drive, tmp_path, "{path: <bag>.txt}")
    assert "monday.txt: the boxes are in the frame of a camera; say of which, annotations.frame in the file" in said


def test_an_export_of_cvat_without_ids_is_named(drive: Path, tmp_path: Path) -> None:
    (tmp_path / "monday.xml").write_text("<boost_serialization/>")
    assert "of CVAT, export Datumaro 3D, for its KITTI Raw has no track ids" in refusal(
        drive, tmp_path, "{path: <bag>.xml}"
    )


# --- Datumaro ---------------------------------------------------------------------------------------------------------


def cuboid(**values: Any) -> Callable[[dict], Any]:
    def change(document: dict) -> Any:
        document["items"][1]["annotations"][0] |= values
        return document

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cuboid(label_id=9), "items[1] (0004): annotations[0]: label_id 9 is none of the 3 labels; export it again"),
        (cuboid(scale=[4, 0, 1]), "items[1] (0004): annotations[0]: a box of Car is not finite or has no volume"),
        (cuboid(rotation=[0, 0]), "annotations[0]: rotation.2: Field required"),
        (cuboid(position=None), "annotations[0]: position: Input should be a valid array"),
        (cuboid(attributes={}), "items[1] (0004): annotations[0]: Car has no id (1 of 12 boxes have none)"),
        (lambda document: document | {"items": 3}, "default.json: items: Input should be a valid array"),
        (lambda document: document | {"categories": {}}, "default.json: categories.label: Field required"),
    ],
)
def test_a_cuboid_of_datumaro(drive: Path, tmp_path: Path, change: Callable, said: str) -> None:
    folder = street.write_datumaro(tmp_path / "monday", {i: f"{i:04d}" for i in CLOUDS})
    file = folder / "annotations" / "default.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    assert said in refusal(drive, tmp_path)
