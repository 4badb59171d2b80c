"""Files that are whole or absent."""

import json

import pytest

from vexkd_model.files import whole_file, write_json


def names(folder):
    return [entry.name for entry in folder.iterdir()]


@pytest.mark.parametrize("indent", [1, None])
def test_json_is_written_whole_or_not_at_all(tmp_path, indent):
    path = tmp_path / "new" / "figures.json"
    write_json(path, {"a": 1.5}, indent)
    assert json.loads(path.read_text()) == {"a": 1.5}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")}, indent)
    assert json.loads(path.read_text()) == {"a": 1.5} and names(path.parent) == ["figures.json"]


def test_a_file_whose_writer_fails_half_way_keeps_its_old_content(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        partial.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and names(tmp_path) == ["file"]
