"""Bags to a dataset in the nuScenes schema: a dataset comes back as it was, another vehicle's drive becomes one."""

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.geometry_utils import points_in_box
from rosbags.convert import convert as convert_bag
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation
from support import vehicle_bag as vehicle

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.data.sweeps import read_lidar_file
from vexkd_model.errors import UserError
from vexkd_model.files import locked
from vexkd_ros.bags import bag_to_nuscenes, nuscenes_to_bag
from vexkd_ros.bags.bag_to_nuscenes import convert, main
from vexkd_ros.bags.dataset.bag_files import Settings
from vexkd_ros.bags.dataset.guess import guess_wiring
from vexkd_ros.bags.dataset.pictures import PictureFormat
from vexkd_ros.bags.dataset.sensor_files import SensorFiles

VERSION = "mine"


@pytest.fixture(scope="module")
def bags(full_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return nuscenes_to_bag.convert(full_dataset, "v1.0-mini", tmp_path_factory.mktemp("bags"))


@pytest.fixture(scope="module")
def returned(bags: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset, to bags and back."""
    out = tmp_path_factory.mktemp("returned") / "data"
    assert convert(bags, out, VERSION) == {"train": ["scene-0061"], "val": ["scene-0103"]}
    return out


@pytest.fixture(scope="module")
def both(full_dataset: Path, returned: Path) -> tuple[NuScenes, NuScenes]:
    return NuScenes("v1.0-mini", str(full_dataset), verbose=False), NuScenes(VERSION, str(returned), verbose=False)


def files_of(nusc: NuScenes) -> dict[tuple[str, int], dict]:
    read = [record for record in nusc.sample_data if record["sensor_modality"] != "radar"]
    return {(record["channel"], record["timestamp"]): record for record in read}


def same_rotation(one: list[float], other: list[float]) -> bool:
    return np.allclose(one, other, atol=1e-6) or np.allclose(one, np.negative(other), atol=1e-6)


def test_points_images_poses_and_calibration_come_back(both: tuple[NuScenes, NuScenes]) -> None:
    before, after = (files_of(nusc) for nusc in both)
    assert before.keys() == after.keys() and len(before) > 30
    for key, record in before.items():
        other = after[key]
        paths = [Path(nusc.dataroot) / one["filename"] for nusc, one in zip(both, (record, other), strict=True)]
        assert paths[0].read_bytes() == paths[1].read_bytes(), key
        assert [record[name] for name in ("is_key_frame", "width", "height")] == [
            other[name] for name in ("is_key_frame", "width", "height")
        ]
        for table in ("ego_pose", "calibrated_sensor"):
            one, two = (nusc.get(table, r[f"{table}_token"]) for nusc, r in zip(both, (record, other), strict=True))
            np.testing.assert_allclose(one["translation"], two["translation"], atol=1e-6)
            assert same_rotation(one["rotation"], two["rotation"]), key
            if table == "calibrated_sensor":
                np.testing.assert_allclose(one["camera_intrinsic"], two["camera_intrinsic"], atol=1e-6)
    for channel in {channel for channel, _ in after}:  # each sensor's chain leads through all of its files
        for scene in both[1].scene:
            record = both[1].get("sample_data", both[1].get("sample", scene["first_sample_token"])["data"][channel])
            while record["prev"]:
                record = both[1].get("sample_data", record["prev"])
            stamps = [record["timestamp"]]
            while record["next"]:
                record = both[1].get("sample_data", record["next"])
                stamps.append(record["timestamp"])
            assert stamps == sorted(stamps) and set(stamps) <= {stamp for name, stamp in after if name == channel}


def test_every_annotation_comes_back_with_its_instance_and_attribute(both: tuple[NuScenes, NuScenes]) -> None:
    def by_place(nusc: NuScenes) -> dict[tuple, dict]:
        return {
            (nusc.get("sample", one["sample_token"])["timestamp"], *np.round(one["translation"], 4)): one
            for one in nusc.sample_annotation
            if category_to_detection_name(one["category_name"])  # bags hold those of the ten classes
        }

    before, after = map(by_place, both)
    assert before.keys() == after.keys() and len(before) > 10
    instances = defaultdict(set)
    for key, one in before.items():
        other = after[key]
        instances[one["instance_token"]].add(other["instance_token"])
        np.testing.assert_allclose(one["size"], other["size"], atol=1e-6)
        assert same_rotation(one["rotation"], other["rotation"])
        names = [
            [nusc.get("attribute", token)["name"] for token in r["attribute_tokens"]]
            for nusc, r in zip(both, (one, other), strict=True)
        ]
        assert names[0] == names[1]
        velocities = [nusc.box_velocity(r["token"]) for nusc, r in zip(both, (one, other), strict=True)]
        np.testing.assert_allclose(*velocities, atol=1e-6)
    assert all(len(others) == 1 for others in instances.values())
    assert len(instances) == len({next(iter(others)) for others in instances.values()}) == len(both[1].instance)


def test_points_of_an_annotation_are_those_that_the_devkit_finds_in_its_box(both: tuple[NuScenes, NuScenes]) -> None:
    nusc, counted = both[1], 0
    for sample in nusc.sample:
        path, boxes, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
        points = read_lidar_file(Path(path))[:, :3].T
        for box in boxes:
            found = int(points_in_box(box, points).sum())
            # A point on a side may fall to either.
            assert abs(found - nusc.get("sample_annotation", box.token)["num_lidar_pts"]) <= 1
            counted += found
    assert counted > 10


def test_the_index_of_what_came_back_has_the_same_frames(
    full_dataset: Path, returned: Path, index_dir: Path, tmp_path: Path
) -> None:
    prepare(returned, VERSION, tmp_path, ["val"])
    before, after = FrameIndex.open(index_dir, "mini_val"), FrameIndex.open(tmp_path, "val")
    assert len(before) == len(after) > 1
    for column in ("stamp_ns", "sweep_stamp_ns", "camera_stamp_ns", "camera_name"):
        assert list(map(np.ndarray.tolist, map(np.array, before.column(column)))) == list(
            map(np.ndarray.tolist, map(np.array, after.column(column)))
        ), column
    for i in range(len(before)):
        rows = [
            np.column_stack([index.column("labels")[i], np.reshape(index.column("boxes")[i], (-1, 9))])
            for index in (before, after)
        ]
        one, other = (found[np.lexsort(found[:, 1:3].T)] for found in rows)
        np.testing.assert_allclose(one, other, atol=1e-4)


# --- Another vehicle --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vehicle.write_vehicle_bag(tmp_path_factory.mktemp("drive") / "monday")


@pytest.fixture(scope="module")
def own(drive: Path, tmp_path_factory: pytest.TempPathFactory) -> NuScenes:
    out = tmp_path_factory.mktemp("own") / "data"
    assert main([str(drive), "--out", str(out), "--version", VERSION, "--images", "png", "--yes"]) == 0
    return NuScenes(VERSION, str(out), verbose=False)


def placed(nusc: NuScenes, record: dict, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of a sensor's frame in the world, by the tables alone."""
    for table in ("calibrated_sensor", "ego_pose"):
        pose = nusc.get(table, record[f"{table}_token"])
        points = Rotation.from_quat(np.roll(pose["rotation"], -1)).apply(points) + pose["translation"]
    return points


def records(nusc: NuScenes, channel: str) -> list[dict]:
    return [record for record in nusc.sample_data if record["channel"] == channel]


def test_topics_of_another_vehicle_are_guessed(drive: Path) -> None:
    wiring = guess_wiring(drive)
    assert wiring.lidars["LIDAR_TOP"].points == ("/sensing/front/points_raw", "/sensing/rear/points_raw")
    assert wiring.lidars["LIDAR_TOP"].intensity_scale == 255
    assert {name: (camera.image, camera.info) for name, camera in wiring.cameras.items()} == {
        "CAM_FRONT": (vehicle.IMAGES["cam_f"], vehicle.INFOS["cam_f"]),
        "CAM_BACK": (vehicle.IMAGES["cam_r"], vehicle.INFOS["cam_r"]),
        "CAM_BACK_LEFT": (vehicle.IMAGES["cam_l"], vehicle.INFOS["cam_l"]),
    }
    assert (wiring.base_frame, wiring.odom_frame, wiring.odometry) == ("base_footprint", "map", vehicle.ODOMETRY)
    assert wiring.annotations is None


def test_posts_stand_still_in_the_clouds_of_two_lidars_on_a_turning_vehicle(own: NuScenes) -> None:
    clouds = records(own, "LIDAR_TOP")
    assert len(clouds) == 21
    for record in clouds:
        points = read_lidar_file(Path(own.dataroot) / record["filename"])
        assert len(points) == 2 * len(vehicle.POSTS), "rays without return are left out"
        np.testing.assert_allclose(placed(own, record, points[:, :3]), np.tile(vehicle.POSTS, (2, 1)), atol=1e-3)
        np.testing.assert_allclose(points[:400, 3], np.linspace(0, 255, 400), atol=1e-3)
        assert set(points[:400, 4]) == set(range(64)) and set(points[400:, 4]) == set(range(128, 192))


def test_a_lamp_is_where_the_pinhole_of_the_calibration_sees_it(own: NuScenes) -> None:
    record = records(own, "CAM_FRONT")[3]
    pixels = cv2.imread(str(Path(own.dataroot) / record["filename"]), cv2.IMREAD_GRAYSCALE).astype(float)
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]] + 0.5
    seen = np.array([(columns * pixels).sum(), (rows * pixels).sum()]) / pixels.sum()
    k = np.array(own.get("calibrated_sensor", record["calibrated_sensor_token"])["camera_intrinsic"])
    expected = (k @ vehicle.DOT)[:2]
    distorted = cv2.projectPoints(vehicle.DOT[None], np.zeros(3), np.zeros(3), vehicle.K, vehicle.DISTORTION)[0][0, 0]
    assert np.linalg.norm(seen - expected) < 0.3 < 2 < np.linalg.norm(distorted - expected)


def test_what_needs_no_rectifying_is_kept_as_it_is(own: NuScenes) -> None:
    left, back = (Path(own.dataroot) / records(own, name)[0]["filename"] for name in ("CAM_BACK_LEFT", "CAM_BACK"))
    assert left.read_bytes() == vehicle.JPEG.tobytes()
    assert (cv2.imread(str(back)) == 77).all(), "a PNG loses nothing"
    assert records(own, "CAM_BACK")[0]["fileformat"] == "png"


def test_keyframes_are_half_a_second_apart_and_the_rest_are_sweeps(own: NuScenes) -> None:
    (scene,) = own.scene
    stamps = [(sample["timestamp"] - own.sample[0]["timestamp"]) / 1e6 for sample in own.sample]
    assert stamps == pytest.approx([0, 0.5, 1.0, 1.5, 2.0]) and scene["nbr_samples"] == 5
    assert all(set(sample["data"]) == {"LIDAR_TOP", "CAM_FRONT", "CAM_BACK", "CAM_BACK_LEFT"} for sample in own.sample)
    for record in own.sample_data:
        assert record["filename"].startswith("samples/" if record["is_key_frame"] else "sweeps/")
        assert sum(one["is_key_frame"] for one in records(own, record["channel"])) == 5
    assert own.log[0]["logfile"] == "monday" and own.log[0]["date_captured"] == "2023-11-14"


def test_a_drive_without_annotations_or_map_can_be_prepared(own: NuScenes, tmp_path: Path) -> None:
    (folder,) = prepare(Path(own.dataroot), VERSION, tmp_path)
    index = FrameIndex.open(tmp_path, folder.name)
    assert len(index) == 5 and len(index[4].load_points(sweeps=10)) > 5 * 2 * len(vehicle.POSTS)


def test_a_bag_of_ros_1_gives_the_same_dataset(drive: Path, own: NuScenes, tmp_path: Path) -> None:
    old = tmp_path / "monday.bag"
    convert_bag(
        [drive], old, None, None, None, "file", get_typestore(Stores.LATEST), get_typestore(Stores.ROS1_NOETIC),
        [], [], [], [],
    )  # fmt: skip
    out = tmp_path / "data"
    convert([old], out, VERSION, settings=Settings(pictures=PictureFormat("png")))
    other = NuScenes(VERSION, str(out), verbose=False)
    assert [record["filename"] for record in other.sample_data] == [record["filename"] for record in own.sample_data]
    for one, two in zip(own.sample_data, other.sample_data, strict=True):
        assert (Path(own.dataroot) / one["filename"]).read_bytes() == (out / two["filename"]).read_bytes()
    assert other.ego_pose == own.ego_pose


def test_cameras_alone_are_a_dataset_for_camera_students(drive: Path, tmp_path: Path) -> None:
    wiring = guess_wiring(drive)
    cameras = wiring.model_copy(update={"sensors": wiring.cameras})
    convert([drive], tmp_path / "data", VERSION, cameras)
    (folder,) = prepare(tmp_path / "data", VERSION, tmp_path / "index")
    index = FrameIndex.open(tmp_path / "index", folder.name)
    assert len(index) == 5 and [len(frame) for frame in index.column("camera_name")] == [3] * 5
    assert not (tmp_path / "data" / "samples" / "LIDAR_TOP").exists()


# --- Several bags, interrupted and continued --------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".bag_to_nuscenes" not in path.parts
    }


def test_a_long_bag_is_cut_into_scenes(drive: Path, tmp_path: Path) -> None:
    splits = convert([drive], tmp_path, VERSION, settings=Settings(scene_length=1.0))
    assert splits == {"train": ["monday-000", "monday-001"], "val": ["monday-002"]}
    nusc = NuScenes(VERSION, str(tmp_path), verbose=False)
    assert [scene["nbr_samples"] for scene in nusc.scene] == [2, 2, 1]
    assert len(records(nusc, "LIDAR_TOP")) == 21
    splits = convert([drive], tmp_path, VERSION, settings=Settings(scene_length=1.0), val=["monday"])
    assert splits == {"train": [], "val": ["monday-000", "monday-001", "monday-002"]}


def test_bags_can_be_added_and_complete_ones_are_kept(drive: Path, tmp_path: Path, capfd) -> None:
    others = [tmp_path / name for name in ("tuesday", "wednesday")]
    for number, other in enumerate(others, 1):
        vehicle.write_vehicle_bag(other, start_ns=vehicle.START_NS + number * 10**12)
    out = tmp_path / "data"
    convert([others[0]], out, VERSION)
    stamps = {path: path.stat().st_mtime_ns for path in (out / "samples" / "LIDAR_TOP").iterdir()}
    assert convert([*others, drive], out, VERSION, jobs=2) == {"train": ["monday", "tuesday"], "val": ["wednesday"]}
    assert "tuesday: complete, kept" in capfd.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len(NuScenes(VERSION, str(out), verbose=False).scene) == 3
    assert convert([others[0]], out, VERSION, val=["monday"])["val"] == ["monday"]
    with pytest.raises(UserError, match=r"--val sunday: no such scene; there are monday, tuesday, wednesday"):
        convert([drive], out, VERSION, val=["sunday"])
    with pytest.raises(UserError, match="was begun with other options"):
        convert([drive], out, VERSION, settings=Settings(rate=5.0))
    with pytest.raises(UserError, match="is called monday as"):
        convert([drive, tmp_path / "elsewhere" / ".." / drive], out, VERSION)


def test_one_that_is_interrupted_leaves_nothing_of_itself_and_can_be_continued(
    drive: Path, own: NuScenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    save = SensorFiles._save

    def interrupted(self: SensorFiles, *arguments) -> str:
        if len(written) == 20:
            raise KeyboardInterrupt
        written.append(save(self, *arguments))
        return written[-1]

    out, settings = tmp_path / "data", Settings(pictures=PictureFormat("png"))
    monkeypatch.setattr(SensorFiles, "_save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert([drive], out, VERSION, settings=settings)
    assert len(written) == 20 and not out.exists()
    monkeypatch.undo()
    convert([drive], out, VERSION, settings=settings)
    assert contents(out) == contents(Path(own.dataroot))


def test_two_never_write_one_dataset_at_a_time(drive: Path, tmp_path: Path) -> None:
    busy = tmp_path / bag_to_nuscenes.WORK / VERSION / "lock"
    with locked(busy), pytest.raises(UserError, match="another bag_to_nuscenes is writing mine there; wait"):
        convert([drive], tmp_path, VERSION)


def test_tables_of_another_origin_are_not_replaced(drive: Path, tmp_path: Path) -> None:
    (tmp_path / VERSION).mkdir()
    with pytest.raises(UserError, match="holds tables of another origin; choose another --version or --out"):
        convert([drive], tmp_path, VERSION)


@pytest.mark.parametrize(("answer", "code"), [("n", "nothing was written"), ("", 0)])
def test_guessed_sensors_are_asked_about_on_a_terminal(
    drive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, answer: str, code: int | str
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    arguments = [str(drive), "--out", str(tmp_path / "data"), "--version", VERSION]
    if code:
        with pytest.raises(SystemExit, match=str(code)):
            main(arguments)
        assert not (tmp_path / "data").exists()
    else:
        assert main(arguments) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "sensors.yaml"
    file.write_text(printed.partition("vehicle: vehicle\n")[0])
    assert main([*arguments, "--sensors", str(file)]) == 0, "what is printed is a file for --sensors"


def test_an_unwanted_combination_of_arguments_is_one_line(drive: Path, tmp_path: Path) -> None:
    for text, said in (
        ("sensors: {CAM_FRONT: /a, CAM_BACK: /a}", "/a belongs to two of them"),
        ("sensors: {LIDAR_FRONT: /a}", "call one LiDAR LIDAR_TOP"),
        ("sensors: {LIDAR_TOP: /a}\nclasses: {tram: boat}", "tram: boat is none of car, truck"),
        ("sensors: {}", "at least 1 item"),
        ("sensors: {LIDAR_TOP: /a}\ntopics: {}", "topics: unknown key"),
        ("sensors: {LIDAR_TOP: points}", "sensors.LIDAR_TOP"),
    ):
        file = tmp_path / "sensors.yaml"
        file.write_text(text)
        with pytest.raises(SystemExit, match=said) as raised:
            main([str(drive), "--out", str(tmp_path / "data"), "--version", VERSION, "--sensors", str(file)])
        assert "\n" not in str(raised.value)
