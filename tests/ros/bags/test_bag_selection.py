"""Filters, several scenes at a time, and two runs in one place."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.bag_content import messages_of

from vexkd_model.errors import UserError
from vexkd_model.files import locked
from vexkd_ros.bags.nuscenes_to_bag import convert, main
from vexkd_ros.bags.scene.selection import Selection


def bag_of(dataset: Path, out: Path, **selection: object) -> dict[str, list[tuple[int, object]]]:
    return messages_of(convert(dataset, "v1.0-mini", out, ["scene-0061"], selection=Selection(**selection))[0])


def test_topics_are_chosen_by_patterns(full_dataset: Path, tmp_path: Path) -> None:
    assert bag_of(full_dataset, tmp_path, topics=("/lidar/points", "/cam_front*/camera_info")).keys() == {
        "/lidar/points",
        "/cam_front/camera_info",
        "/cam_front_left/camera_info",
        "/cam_front_right/camera_info",
    }


def test_sensors_are_chosen_by_name_and_all_poses_stay(full_dataset: Path, tmp_path: Path, full_messages: dict) -> None:
    messages = bag_of(full_dataset, tmp_path, sensors=("CAM_BACK",))
    assert {topic for topic in messages if topic.startswith(("/cam", "/radar", "/lidar"))} == {
        "/cam_back/image/compressed",
        "/cam_back/camera_info",
    }
    assert len(messages["/tf"]) == len(full_messages["/tf"])


def test_keyframes_alone_are_every_third_sweep_with_transforms_in_between(
    full_dataset: Path, tmp_path: Path, full_messages: dict
) -> None:
    messages = bag_of(full_dataset, tmp_path, keyframes_only=True)
    assert [stamp for stamp, _ in messages["/lidar/points"]] == [stamp for stamp, _ in messages["/keyframe"]]
    assert len(full_messages["/lidar/points"]) == 3 * len(messages["/lidar/points"])
    assert len(messages["/tf"]) == len(full_messages["/tf"])


def test_a_time_is_cut_out_and_what_is_latched_comes_at_its_begin(
    full_dataset: Path, tmp_path: Path, full_messages: dict
) -> None:
    first = min(stamp for stamp, _ in full_messages["/tf"])
    messages = bag_of(full_dataset, tmp_path, start_s=0.2, end_s=0.8)
    stamps = sorted(stamp for topic in messages.values() for stamp, _ in topic)
    assert first + 0.2e9 <= stamps[0] and stamps[-1] < first + 0.8e9
    assert [stamp for stamp, _ in messages["/tf_static"]] == stamps[:1]
    assert [stamp for stamp, _ in messages["/map/markers"]] == stamps[:1]
    expected = [stamp for stamp, _ in full_messages["/lidar/points"] if 0.2e9 <= stamp - first < 0.8e9]
    assert [stamp for stamp, _ in messages["/lidar/points"]] == expected
    assert expected


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--topics", "/lidar"], 1, "vexkd-nuscenes-to-bag: --topics /lidar: matches none of /tf_static, "),
        (["--sensors", "CAM_TOP"], 1, "vexkd-nuscenes-to-bag: --sensors CAM_TOP: no such sensor; there are CAM_BACK, "),
        (["--start", "3", "--end", "2"], 1, "vexkd-nuscenes-to-bag: --end 2: not after --start 3"),
        (["--start", "50"], 1, "scene-0061: nothing of the selected topics, sensors and time is there"),
        (["--start", "nan"], 2, "nan is not a number of seconds"),
        (["--jobs", "0"], 2, "0 is not at least 1"),
        (["--distro", "foxy"], 2, "invalid choice: 'foxy'"),
    ],
)
def test_a_selection_that_holds_nothing_is_one_line(
    full_dataset: Path, tmp_path: Path, options: list[str], code: int, message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(full_dataset), "--version", "v1.0-mini", "--out", str(tmp_path), *options])
    if code == 1:  # Python prints the message and ends with 1
        assert message in left.value.code and "\n" not in left.value.code
    else:
        assert left.value.code == code and message in capsys.readouterr().err.splitlines()[-1]


def test_scenes_converted_at_once_equal_those_converted_one_by_one(
    full_dataset: Path, full_bags: dict[str, Path], tmp_path: Path
) -> None:
    process = subprocess.run(
        [
            sys.executable,
            "-m",
            "vexkd_ros.bags.nuscenes_to_bag",
            str(full_dataset),
            "--version",
            "v1.0-mini",
            "--out",
            str(tmp_path / "bags"),
            "--jobs",
            "2",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.split() == [str(tmp_path / "bags" / name) for name in ("scene-0061", "scene-0103")]
    assert "convert: 2 scenes in " in process.stderr
    for name, bag in full_bags.items():
        assert (tmp_path / "bags" / name / f"{name}.mcap").read_bytes() == (bag / f"{name}.mcap").read_bytes()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_damaged_scene_does_not_keep_the_others_from_being_written(
    full_dataset: Path, tmp_path: Path, jobs: int
) -> None:
    shutil.copytree(full_dataset, tmp_path / "data")
    damaged = tmp_path / "data" / "samples" / "RADAR_FRONT" / "scene-0061-1.pcd"
    damaged.write_bytes(b"no radar")
    with pytest.raises(UserError, match=r"scene-0061-1.pcd: not a binary PCD file .*; download it again$"):
        convert(tmp_path / "data", "v1.0-mini", tmp_path / "bags", jobs=jobs)
    assert not (tmp_path / "bags" / "scene-0061").exists()
    assert messages_of(tmp_path / "bags" / "scene-0103")["/radar_front/points"]
    assert list(json.loads((tmp_path / "bags" / "manifest.json").read_text())["bags"]) == ["scene-0103"]


def test_a_second_run_in_the_same_place_says_so_and_touches_nothing(full_dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "scene-0061.partial").mkdir()
    with locked(tmp_path / ".lock"), pytest.raises(UserError, match="another nuscenes_to_bag is writing there; wait"):
        convert(full_dataset, "v1.0-mini", tmp_path)
    assert (tmp_path / "scene-0061.partial").is_dir()


def test_the_manifest_goes_with_the_bags_that_are_there(full_dataset: Path, tmp_path: Path) -> None:
    selection = Selection(topics=("/keyframe",))
    for scene, listed in (("scene-0103", ["scene-0103"]), ("scene-0061", ["scene-0061", "scene-0103"])):
        convert(full_dataset, "v1.0-mini", tmp_path, [scene], selection=selection)
        assert list(json.loads((tmp_path / "manifest.json").read_text())["bags"]) == listed
    shutil.rmtree(tmp_path / "scene-0103")
    convert(full_dataset, "v1.0-mini", tmp_path, ["scene-0061"], selection=selection)
    bags = json.loads((tmp_path / "manifest.json").read_text())["bags"]
    assert list(bags) == ["scene-0061"]
    assert bags["scene-0061"]["options"] == {
        **selection.to_dict(),
        "topics": ["/keyframe"],
        "distro": "humble",
        "storage": "mcap",
    }


def test_the_manifest_lists_what_is_in_the_bags(full_bags: dict[str, Path], full_dataset: Path) -> None:
    out = full_bags["scene-0061"].parent
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["bags"].keys() == full_bags.keys()
    for name, bag in full_bags.items():
        record, messages = manifest["bags"][name], messages_of(bag)
        assert {topic: told["messages"] for topic, told in record["topics"].items()} == {
            topic: len(found) for topic, found in messages.items()
        }
        assert record["messages"] == sum(map(len, messages.values()))
        assert record["bytes"] == sum(path.stat().st_size for path in bag.iterdir())
        assert (record["source"], record["left_out"]) == (f"{full_dataset} v1.0-mini", [])
