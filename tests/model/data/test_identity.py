"""A dataset is the same wherever it lies, and another one as soon as a table, a sensor file or a box has changed."""

import json
import os
import shutil
from pathlib import Path

import pytest
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.data.identity import KEPT, data_identity
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.errors import UserError
from vexkd_model.training.claim_run import claimed_run

SCENES = {"scene-0061": 2, "scene-0103": 1}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return write_tiny_nuscenes(tmp_path_factory.mktemp("original") / "data", SCENES)


def prepared(dataroot, split="mini_train"):
    prepare(dataroot, "v1.0-mini", dataroot / "index")
    return FrameIndex.open(dataroot / "index", split)


@pytest.fixture
def copy(original, tmp_path):
    """Index of a copy of the dataset, elsewhere."""
    return prepared(shutil.copytree(original, tmp_path / "copy"))


def sweep(index) -> Path:
    return index[1].sweeps[0].path


def edit_middle(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_table(index, name, key, value):
    path = index.dataroot / "v1.0-mini" / f"{name}.json"
    rows = json.loads(path.read_text())
    rows[0][key] = value
    path.write_text(json.dumps(rows))


def test_an_identity_is_that_of_the_content(original, copy):
    first = data_identity(copy)
    assert first == data_identity(prepared(original))
    assert data_identity(FrameIndex.open(copy.folder.parent, "mini_val")).files != first.files
    os.utime(sweep(copy))  # touched, but as it was
    assert data_identity(copy) == first
    edit_middle(sweep(copy))  # of the same size
    changed = data_identity(copy)
    assert changed.tables == first.tables and changed.files != first.files
    edit_table(copy, "sample_annotation", "size", [9.0, 9.0, 9.0])
    with pytest.raises(UserError, match=r"made of other tables than .*v1\.0-mini holds now; run `vexkd prepare"):
        data_identity(copy)
    other = data_identity(prepared(copy.dataroot))
    assert other.tables != first.tables and other.files != changed.files  # the box is in the index
    sweep(copy).unlink()
    with pytest.raises(UserError, match=r"\.bin: cannot be read .*; complete the dataset"):
        data_identity(copy)


def test_an_identity_is_read_again_while_nothing_changes_and_survives_a_damaged_copy(copy):
    first, kept = data_identity(copy), copy.folder / KEPT
    kept.write_text(kept.read_text().replace(first.files, "kept"))
    assert data_identity(copy).files == "kept"
    kept.write_text("{")
    assert data_identity(copy) == first


def test_a_run_is_resumed_with_the_data_that_it_began_with(copy, tiny_config, tmp_path):
    def claim(index, resume=True):
        with claimed_run(tmp_path / "run", tiny_config, index, resume, {"processes": 1}):
            pass

    claim(copy, resume=False)
    claim(copy)
    with pytest.raises(UserError, match=r"run\.json: the run began with split mini_train, not mini_val; resume with"):
        claim(FrameIndex.open(copy.folder.parent, "mini_val"))
    edit_table(copy, "sample_annotation", "num_lidar_pts", 77)
    with pytest.raises(UserError, match=r"run\.json: the tables in .*copy are not those that the run began with"):
        claim(prepared(copy.dataroot))


def test_a_run_is_not_resumed_when_a_sensor_file_has_changed(copy, tiny_config, tmp_path):
    with claimed_run(tmp_path / "run", tiny_config, copy, False, {"processes": 1}):
        pass
    edit_middle(sweep(copy))
    with (
        pytest.raises(UserError, match=r"run\.json: the sensor files, boxes or maps in .*copy are not those"),
        claimed_run(tmp_path / "run", tiny_config, copy, True, {"processes": 1}),
    ):
        pass
