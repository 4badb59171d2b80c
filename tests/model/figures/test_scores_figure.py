"""`vexkd compare`: a table and a picture of saved evaluations, and of new ones where they are missing."""

import json
import shutil

import pytest

from vexkd_model.cli import main
from vexkd_model.training.run import EVALUATION, RECORD

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def evaluated(runs, of_first_frame, tmp_path_factory):
    """Folder of two runs with evaluations, a package of the first, and a JSON of the second."""
    folder = tmp_path_factory.mktemp("evaluated")
    for name in ("plain", "segmentation"):
        shutil.copytree(runs / name, folder / name)
        main(["evaluate", str(folder / name), *of_first_frame, "--json", str(folder / f"{name}.json")])
    main(["export", str(folder / "plain"), str(folder / "package")])
    return folder


def compare(*words):
    main(["compare", *map(str, words)])


def failure(*words):
    with pytest.raises(SystemExit) as error:
        compare(*words)
    assert error.value.code.startswith("vexkd: ") and "\n" not in error.value.code
    return error.value.code


def test_the_table_repeats_what_each_evaluation_says(evaluated, capsys):
    compare(evaluated / "plain", evaluated / "package", evaluated / "segmentation.json")
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    saved = json.loads((evaluated / "plain" / EVALUATION).read_text())
    detection, maps = saved["detection"], saved["map"]
    errors = [f"{value:.3f}" for value in detection["tp_errors"].values()]
    scores = [f"{value:.3f}" for value in (detection["mean_ap"], detection["nd_score"], maps["mean_iou"])]
    assert lines["plain"] == lines["package"] == [*scores, *errors]
    of_map = json.loads((evaluated / "segmentation.json").read_text())["map"]
    assert lines["segmentation.json"] == ["–", "–", f"{of_map['mean_iou']:.3f}", *["–"] * 5]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_picture_has_the_format_of_its_suffix(evaluated, tmp_path, suffix):
    begins = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    path = tmp_path / f"a.{suffix}"
    for _ in range(2):
        compare(evaluated / "plain", evaluated / "package", "--out", path)
        assert path.read_bytes().startswith(begins[suffix])
    assert "no format of a figure" in failure(evaluated / "plain", "--out", tmp_path / "a.jpeg")


def test_curves_and_errors_are_drawn_of_the_evaluations_that_hold_them(evaluated, saved, tmp_path, capsys):
    compare(evaluated / "plain", evaluated / "package", "--out", tmp_path / "a.png")
    assert "package: its evaluation holds no curves" in capsys.readouterr().out
    report = json.loads((evaluated / "plain" / EVALUATION).read_text())
    panels = {axes.get_title() or axes.get_ylabel(): axes for axes in saved["a.png"].axes}
    (curve,) = panels["car"].lines
    assert list(curve.get_ydata()) == report["details"]["precision"]["car"]
    bars = [bar.get_height() for bar in panels["AP"].patches]
    assert bars[:20] == [*report["detection"]["class_ap"].values()] * 2
    found = [100 * band["found"] / band["truth"] if band["truth"] else None for band in report["details"]["by_speed"]]
    shown = panels["found within 2 m [%]"].lines[0].get_ydata()
    assert [value for value in shown if value == value] == pytest.approx(
        [value for value in found if value is not None]
    )


def test_what_is_missing_is_computed_and_kept_by_runs(evaluated, of_first_frame, saved, tmp_path, capsys):
    run = shutil.copytree(evaluated / "plain", tmp_path / "run")
    (run / EVALUATION).unlink()
    assert "not evaluated yet" in failure(run)
    compare(run, evaluated / "package", *of_first_frame, "--out", tmp_path / "a.png")
    assert "no curves" not in capsys.readouterr().out
    kept, before = (json.loads((folder / EVALUATION).read_text()) for folder in (run, evaluated / "plain"))
    assert (kept["detection"], kept["details"]) == (before["detection"], before["details"])


def test_evaluations_of_different_data_are_not_compared(evaluated, tmp_path):
    report = json.loads((evaluated / "plain.json").read_text())
    (tmp_path / "other.json").write_text(json.dumps(report | {"data": report["data"] | {"split": "val"}}))
    assert "was evaluated with split val" in failure(evaluated / "plain", tmp_path / "other.json")
    (tmp_path / "other.json").write_text("{}")
    assert "other.json: not an evaluation" in failure(tmp_path / "other.json")
    assert "neither a run, a package nor" in failure(tmp_path)


def test_a_model_evaluated_on_what_it_was_trained_on_is_said_to_be(evaluated, of_first_frame, capsys):
    split = json.loads((evaluated / "plain" / RECORD).read_text())["data"]["split"]
    for model in ("plain", "package"):
        main(
            ["evaluate", str(evaluated / model), *of_first_frame, "--split", split, "--json", str(evaluated / "b.json")]
        )
        assert f"{model} was trained on {split} itself" in capsys.readouterr().err
    compare(evaluated / "package", *of_first_frame)
    assert "itself" not in capsys.readouterr().err
