"""Files of annotation tools beside a bag: every box is where it was drawn, in the unmodified devkit."""

import json
import math
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes.nuscenes import NuScenes
from support import labelled_street as street
from support import vehicle_bag as vehicle

from vexkd_model.errors import UserError
from vexkd_ros.bags.bag_to_nuscenes import main
from vexkd_ros.bags.dataset.labels.datumaro import read_datumaro
from vexkd_ros.bags.dataset.labels.json_objects import euler_pose
from vexkd_ros.bags.dataset.labels.kitti import frame_from_box, read_kitti
from vexkd_ros.bags.dataset.labels.labelled import FileFrame
from vexkd_ros.bags.dataset.labels.moments import Moments, read_timestamps
from vexkd_ros.bags.dataset.labels.sustechpoints import read_sustechpoints

SENSORS = f"""
base_frame: base_footprint
odom_frame: map
odometry: {vehicle.ODOMETRY}
sensors:
  LIDAR_TOP: [{vehicle.POINTS["front_lidar"]}, {vehicle.POINTS["rear_lidar"]}]
  CAM_FRONT: {vehicle.IMAGES["cam_f"]}
classes: {{Car: car, Pedestrian: pedestrian, Truck: truck}}
"""
LABELLED = list(range(0, street.CLOUDS, 2))
EVERY_FIFTH = [0, 5, 10, 15, 20]  # keyframes at the default rate


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vehicle.write_vehicle_bag(tmp_path_factory.mktemp("drive") / "monday")


def converted(drive: Path, folder: Path, annotations: str, *options: str) -> NuScenes:
    """The dataset of the bag and the labels; `annotations`: keys of the file of --sensors, which lies beside them."""
    (folder / "sensors.yaml").write_text(f"{SENSORS}annotations: {annotations}\n")
    arguments = ["--out", str(folder / "data"), "--version", "mine", "--sensors", str(folder / "sensors.yaml")]
    assert main([str(drive), *arguments, *options]) == 0
    return NuScenes("mine", str(folder / "data"), verbose=False)


def check(nusc: NuScenes, clouds: list[int], has_ids: bool = True) -> None:
    """Every thing is annotated at each of these clouds and nowhere else, and nothing else is."""
    assert [sample["timestamp"] for sample in nusc.sample] == [street.stamp_ns(i) // 1000 for i in clouds]
    instances = defaultdict(set)
    for i, sample in zip(clouds, nusc.sample, strict=True):
        boxes = [nusc.get_box(token) for token in sample["anns"]]
        assert len(boxes) == len(street.THINGS)
        for track, thing in street.THINGS.items():
            truth = street.map_from_thing(thing, i)
            box = min(boxes, key=lambda box: np.linalg.norm(box.center - truth[:3, 3]))
            np.testing.assert_allclose(box.center, truth[:3, 3], atol=1e-4)
            np.testing.assert_allclose(box.wlh[[1, 0, 2]], thing.size, atol=1e-6)
            np.testing.assert_allclose(box.rotation_matrix, truth[:3, :3], atol=1e-4)
            off = box.orientation.yaw_pitch_roll[0] - thing.yaw
            assert math.remainder(off, 2 * math.pi) == pytest.approx(0, abs=1e-4)
            annotation = nusc.get("sample_annotation", box.token)
            assert street.CLASSES[thing.name] in annotation["category_name"]
            instances[track].add(annotation["instance_token"])
            in_thing = (vehicle.POSTS - truth[:3, 3]) @ truth[:3, :3]
            inside = int((np.abs(in_thing) <= np.array(thing.size) / 2).all(axis=1).sum())
            assert annotation["num_lidar_pts"] == 2 * inside, "each of two LiDARs sees every post"
            if has_ids and 0 < i < clouds[-1]:
                velocity = thing.speed * truth[:3, 0]
                np.testing.assert_allclose(nusc.box_velocity(box.token), velocity, atol=1e-3)
    if has_ids:
        assert [len(tokens) for tokens in instances.values()] == [1] * len(street.THINGS)
        assert len(nusc.instance) == len(street.THINGS)
    else:
        assert len(nusc.instance) == len(street.THINGS) * len(clouds)


def test_the_truck_holds_posts_to_be_counted() -> None:
    truck = street.THINGS[11]
    in_truck = (vehicle.POSTS - truck.xyz) * [-1, -1, 1]
    assert (np.abs(in_truck) <= np.array(truck.size) / 2).all(axis=1).sum() > 2


# --- Whole conversions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", ["CAM_FRONT", "cam_f"], ids=["sensor", "frame of TF"])
def test_kitti_tracking(drive: Path, tmp_path: Path, frame: str) -> None:
    street.write_kitti_tracking(tmp_path / "labels" / "monday.txt", LABELLED, score=" 0.9" if frame == "cam_f" else "")
    nusc = converted(drive, tmp_path, f"{{path: labels/<bag>.txt, frame: {frame}}}", "--rate", "5")
    check(nusc, LABELLED)


def test_kitti_object_files_have_no_ids(drive: Path, tmp_path: Path) -> None:
    street.write_kitti_objects(tmp_path / "labels" / "monday", LABELLED)
    check(converted(drive, tmp_path, "{path: labels/<bag>, frame: CAM_FRONT}", "--rate", "5"), LABELLED, has_ids=False)


def test_kitti_frames_may_be_lines_of_its_timestamps(drive: Path, tmp_path: Path) -> None:
    file = street.write_kitti_tracking(tmp_path / "monday" / "labels.txt", LABELLED)
    lines = [line.split(" ", 1) for line in file.read_text().splitlines()]
    file.write_text("".join(f"{int(frame) // 2} {rest}\n" for frame, rest in lines))  # now every second cloud is one
    begin = datetime.fromtimestamp(vehicle.START_NS // 10**9, timezone.utc)
    seconds = [f"{begin:%Y-%m-%d %H:%M}:{begin.second + i // 10:02d}.{i % 10}00000123" for i in LABELLED]
    (file.parent / "timestamps.txt").write_text("\n".join(seconds))
    keys = "{path: <bag>, format: kitti, frame: CAM_FRONT, timestamps: <bag>/timestamps.txt}"
    check(converted(drive, tmp_path, keys, "--rate", "5"), LABELLED)


@pytest.mark.parametrize(
    "names",
    [
        {i: f"{i:06d}" for i in LABELLED},
        {i: f"{street.stamp_ns(i) / 1e9:.6f}" for i in LABELLED},
        {i: f"monday__LIDAR_TOP__{street.stamp_ns(i) // 1000}.pcd" for i in LABELLED},
    ],
    ids=["numbers", "stamps", "names of a dataset's files"],
)
def test_sustechpoints(drive: Path, tmp_path: Path, names: dict[int, str]) -> None:
    street.write_sustechpoints(tmp_path / "labels" / "monday" / "label", names)
    check(converted(drive, tmp_path, "{path: labels/<bag>}", "--rate", "5"), LABELLED)


def test_datumaro_counts_keyframes(drive: Path, tmp_path: Path) -> None:
    names = {i: f"lidar/frame_{number:06d}" for number, i in enumerate(EVERY_FIFTH, 1)}
    street.write_datumaro(tmp_path / "monday", names)
    check(converted(drive, tmp_path, "{path: <bag>, numbers: keyframes, first: 1}"), EVERY_FIFTH)


def test_only_labelled_frames_are_keyframes_and_an_empty_one_is_labelled(drive: Path, tmp_path: Path, capsys) -> None:
    folder = street.write_sustechpoints(tmp_path / "monday", {i: f"{i:04d}" for i in (3, 8)})
    (folder / "0013.json").write_text("[]")
    nusc = converted(drive, tmp_path, "{path: <bag>}")
    assert [sample["timestamp"] for sample in nusc.sample] == [street.stamp_ns(i) // 1000 for i in (3, 8, 13)]
    assert [len(sample["anns"]) for sample in nusc.sample] == [4, 4, 0]
    assert "1 of 3 labelled frames are without any box" in capsys.readouterr().err


def test_an_empty_folder_says_that_nobody_labelled_the_bag(drive: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "monday").mkdir()
    nusc = converted(drive, tmp_path, "{path: <bag>}")
    assert len(nusc.sample) == 5 and not nusc.sample_annotation
    assert "no labels in" in capsys.readouterr().err


def test_changed_labels_are_another_dataset(drive: Path, tmp_path: Path) -> None:
    street.write_sustechpoints(tmp_path / "monday", {i: f"{i:04d}" for i in EVERY_FIFTH})
    converted(drive, tmp_path, "{path: <bag>}")
    converted(drive, tmp_path, "{path: <bag>}")  # is complete, and kept
    (tmp_path / "monday" / "0005.json").write_text("[]")
    with pytest.raises(SystemExit, match="its labels have changed since monday was written; choose another --version"):
        converted(drive, tmp_path, "{path: <bag>}")


# --- Single boxes -----------------------------------------------------------------------------------------------------

METRES = st.floats(-80, 80)
ANGLES = st.floats(-math.pi, math.pi)
EDGES = st.floats(0.1, 20)


@settings(deadline=None)
@given(EDGES, EDGES, EDGES, METRES, METRES, METRES, ANGLES)
def test_corners_of_a_kitti_box_are_those_of_its_devkit(height, width, length, x, y, z, ry) -> None:
    turn = np.array([[math.cos(ry), 0, math.sin(ry)], [0, 1, 0], [-math.sin(ry), 0, math.cos(ry)]])
    ahead, left, above = np.meshgrid([-length / 2, length / 2], [-width / 2, width / 2], [0, height])
    corners = np.stack([ahead, -above, left], -1).reshape(-1, 3) @ turn.T + [x, y, z]
    own = np.stack([ahead, left, above - height / 2, np.ones_like(ahead)], -1).reshape(-1, 4)
    np.testing.assert_allclose((own @ frame_from_box(height, x, y, z, ry).T)[:, :3], corners, atol=1e-9)


@settings(deadline=None)
@given(ANGLES, ANGLES, ANGLES)
def test_euler_angles_turn_about_x_then_the_new_y_then_the_new_z(a: float, b: float, c: float) -> None:
    about_x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    about_y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    about_z = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    pose = euler_pose((1.0, 2.0, 3.0), (a, b, c))
    np.testing.assert_allclose(pose[:3, :3], about_x @ about_y @ about_z, atol=1e-12)
    np.testing.assert_array_equal(pose[:, 3], [1, 2, 3, 1])


def test_a_kitti_line_by_hand(tmp_path: Path) -> None:
    """A car 10 m ahead and 2 m to the right that drives away: it is 1.5 m high, on a road 1.7 m below the camera."""
    file = tmp_path / "drive.txt"
    file.write_text(f"7 2 Car 0 0 0 0 0 9 9 1.5 1.6 4.0 2.0 1.7 10.0 {-math.pi / 2}\n")
    (frame,) = read_kitti([file], "camera")
    (box,) = frame.boxes
    assert (frame.name, box.where, box.category, box.instance, box.frame) == ("7", f"{file}:1", "Car", "2", "camera")
    assert box.size == (4.0, 1.6, 1.5)
    # Columns: where its front, its left and its top point to, by the camera's x right, y down, z forward; its centre.
    expected = np.array([[0, -1, 0, 2], [0, 0, -1, 0.95], [1, 0, 0, 10], [0, 0, 0, 1]])
    np.testing.assert_allclose(box.frame_from_box, expected, atol=1e-12)


def test_a_sustechpoints_object_by_hand(tmp_path: Path) -> None:
    """A box turned a quarter to the left."""
    vectors = {"position": (1.0, 2.0, 3.0), "scale": (4.0, 2.0, 1.5), "rotation": (0, 0, math.pi / 2)}
    psr = {key: dict(zip("xyz", vector, strict=True)) for key, vector in vectors.items()}
    file = tmp_path / "000012.json"
    file.write_text(json.dumps([{"obj_id": 5, "obj_type": "Van", "obj_attr": "", "psr": psr}]))
    (frame,) = read_sustechpoints([file], "lidar")
    (box,) = frame.boxes
    assert (frame.name, box.category, box.instance, box.size) == ("000012", "Van", "5", (4.0, 2.0, 1.5))
    expected = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    np.testing.assert_allclose(box.frame_from_box, expected, atol=1e-12)


def test_a_datumaro_cuboid_by_hand(tmp_path: Path) -> None:
    """A box of a single shape, that belongs to no track, on its nose: its front points down."""
    cuboid = {"id": 0, "type": "cuboid_3d", "label_id": 1, "attributes": {"occluded": False}, "group": 0}
    cuboid |= {"position": [1, 2, 3], "rotation": [0, math.pi / 2, 0], "scale": [4, 2, 1.5]}
    labels = {"labels": [{"name": "bus"}, {"name": "car"}]}
    file = tmp_path / "default.json"
    document = {"categories": {"label": labels}, "items": [{"id": "a/0007", "annotations": [cuboid]}]}
    file.write_text(json.dumps(document))
    (frame,) = read_datumaro([file], "lidar")
    (box,) = frame.boxes
    assert (frame.name, box.category, box.instance, box.size) == ("0007", "car", "", (4.0, 2.0, 1.5))
    expected = np.array([[0, 0, 1, 1], [0, 1, 0, 2], [-1, 0, 0, 3], [0, 0, 0, 1]])
    np.testing.assert_allclose(box.frame_from_box, expected, atol=1e-12)


# --- Moments ----------------------------------------------------------------------------------------------------------

TEN_HZ = [1_700_000_000_000_000_000 + i * 100_000_000 for i in range(50)]
FROM_ZERO = [i * 100_000_000 for i in range(200)]  # a simulation's clock


@pytest.mark.parametrize("clouds", [TEN_HZ, FROM_ZERO], ids=["of an epoch", "from zero"])
@settings(deadline=None)
@given(data=st.data())
def test_a_stamp_of_any_unit_is_the_nearest_cloud(clouds: list[int], data: st.DataObject) -> None:
    i, late = data.draw(st.integers(1, len(clouds) - 1)), data.draw(st.integers(-40_000_000, 40_000_000))
    stamp = clouds[i] + late
    names = [f"{stamp // 10**9}.{stamp % 10**9:09d}", f"scan__{stamp // 10**9}.{stamp % 10**9:09d}.pcd"]
    if clouds is TEN_HZ:
        names += [str(stamp), str(stamp // 10**3), str(stamp // 10**6)]
    moments = Moments(clouds, clouds, 0, "clouds")
    for name in names:
        (frame,) = moments.frames([FileFrame(name, "here", [])])
        assert frame.stamp_ns == clouds[i], name


@pytest.mark.parametrize(
    ("name", "first", "index"), [("0", 0, 0), ("frame_0012", 0, 12), ("12", 1, 11), ("0000000049", 0, 49)]
)
def test_other_numbers_count_clouds(name: str, first: int, index: int) -> None:
    (frame,) = Moments(TEN_HZ, TEN_HZ, first, "clouds").frames([FileFrame(name, "here", [])])
    assert frame.stamp_ns == TEN_HZ[index]


def test_frames_are_put_into_the_order_of_time() -> None:
    frames = [FileFrame(str(i), "here", []) for i in (10, 9, 2)]
    assert [frame.stamp_ns for frame in Moments(TEN_HZ, TEN_HZ, 0, "clouds").frames(frames)] == [
        TEN_HZ[i] for i in (2, 9, 10)
    ]


def test_lines_of_timestamps_are_read_to_the_nanosecond(tmp_path: Path) -> None:
    file = tmp_path / "timestamps.txt"
    file.write_text("2023-11-14 22:13:20.100000001\n2023-11-14T22:13:21Z\n1700000001.5\n1700000001600000\n\n")
    assert read_timestamps(file, TEN_HZ) == [TEN_HZ[1] + 1, TEN_HZ[10], TEN_HZ[15], TEN_HZ[16]]
    file.write_text("soon\n")
    with pytest.raises(UserError, match=r"timestamps.txt:1: 'soon' is neither a number nor a date like 2011-09-26"):
        read_timestamps(file, TEN_HZ)
