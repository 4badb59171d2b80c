"""The demo's steps one by one: what is kept, what is made anew, and where it is allowed to write."""

import shutil
from pathlib import Path

import pytest

from vexkd_model.errors import UserError
from vexkd_ros.bags.reading import open_bag
from vexkd_ros.demo import __main__ as demo
from vexkd_ros.demo.inputs import Dataset, forget_other_data, frame_index, scene_bags, split_with_scenes


@pytest.fixture
def dataset(tiny_dataset: Path, tmp_path: Path) -> Dataset:
    """A copy that the test may damage."""
    shutil.copytree(tiny_dataset, tmp_path / "data")
    return Dataset(tmp_path / "data", "v1.0-mini")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_index_is_made_anew_and_a_whole_one_kept(dataset: Dataset, tmp_path: Path) -> None:
    index = frame_index(dataset, "mini_val", tmp_path / "index")
    written = (index.folder / "index.json").stat().st_mtime_ns
    frame_index(dataset, "mini_val", tmp_path / "index")
    assert (index.folder / "index.json").stat().st_mtime_ns == written
    for file in ("frames.arrow", "index.json"):
        truncate(index.folder / file)
        assert len(frame_index(dataset, "mini_val", tmp_path / "index")) == 3


def test_a_damaged_bag_is_written_anew_and_a_whole_one_kept(dataset: Dataset, tmp_path: Path) -> None:
    (bag,) = scene_bags(dataset, "mini_val", tmp_path / "bags")
    written = (bag / "metadata.yaml").stat().st_mtime_ns
    scene_bags(dataset, "mini_val", tmp_path / "bags")
    assert (bag / "metadata.yaml").stat().st_mtime_ns == written
    for file in ("scene-0103.mcap", "metadata.yaml"):
        truncate(bag / file)
        scene_bags(dataset, "mini_val", tmp_path / "bags")
        with open_bag(bag) as reader:
            assert sum(connection.topic == "/lidar/points" for connection, *_ in reader.messages()) == 9


def test_what_was_made_from_other_tables_is_forgotten(dataset: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    forget_other_data(out, dataset)
    frame_index(dataset, "mini_val", out / "index")
    (bag,) = scene_bags(dataset, "mini_val", out / "bags")
    forget_other_data(out, dataset)
    assert bag.is_dir()
    with (dataset.dataroot / "v1.0-mini" / "log.json").open("a") as table:
        table.write("\n")
    forget_other_data(out, dataset)
    assert not bag.exists()
    assert not (out / "index").exists()


def test_the_dataset_itself_is_left_as_it_is(dataset: Dataset, tmp_path: Path) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in dataset.dataroot.rglob("*")}

    before, out = state(), tmp_path / "out"
    out.mkdir()
    forget_other_data(out, dataset)
    frame_index(dataset, "mini_val", out / "index")
    scene_bags(dataset, "mini_val", out / "bags")
    assert state() == before


def test_the_split_is_the_one_that_has_scenes(dataset: Dataset, keyframe_dataroot: Path) -> None:
    assert split_with_scenes(dataset) == "mini_val"
    assert split_with_scenes(Dataset(keyframe_dataroot, "v1.0-mini")) == "mini_train"


def test_a_version_without_splits_is_one_line(dataset: Dataset) -> None:
    (dataset.dataroot / "v1.0-mini").rename(dataset.dataroot / "my-own")
    with pytest.raises(UserError, match=r"my-own/splits\.json: no such file, and --version my-own is none of v1\.0-"):
        split_with_scenes(Dataset(dataset.dataroot, "my-own"))


def test_a_second_demo_in_the_same_folder_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo.signal, "signal", lambda *_: None)  # pytest keeps its own
    out = tmp_path / "out"
    with demo.sole_user(out), pytest.raises(SystemExit) as error:
        demo.main(["--out", str(out)])
    assert error.value.code == (
        f"python -m vexkd_ros.demo: {out}: another demo is running in it; wait for it or choose another --out"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--dataroot", "nowhere"], 2, "--dataroot and --version go together"),
        (["--rate", "0"], 2, "0 is not a positive number"),
        (["--student", "nowhere"], 1, "nowhere: no such student package"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo.signal, "signal", lambda *_: None)  # pytest keeps its own
    with pytest.raises(SystemExit) as left:
        demo.main([*arguments, "--out", str(tmp_path / "out")])
    if code == 1:  # Python prints the message and ends with 1
        assert message in left.value.code
    else:
        assert left.value.code == code and message in capsys.readouterr().err.splitlines()[-1]
