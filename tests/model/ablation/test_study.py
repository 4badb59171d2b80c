"""Study: tables and pictures from its records alone, the same bytes every time, with numbers as by hand."""

import shutil

import cv2
import pytest

from vexkd_model.ablation.commands import runs_of
from vexkd_model.ablation.plan import load_plan
from vexkd_model.ablation.records import Records
from vexkd_model.ablation.run_record import read_record, write_record
from vexkd_model.ablation.study import compare, read_study
from vexkd_model.cli import main

MEAN_AP = {("plain", 1): 0.40, ("plain", 2): 0.44, ("vexkd", 1): 0.50, ("vexkd", 2): 0.52, ("teacher", 1): 0.70}


@pytest.fixture
def study(written, fake_record, tmp_path):
    """Write records of these mAP by row and seed, of the plan `study`; return their folder."""

    def write(mean_ap=MEAN_AP):
        records = Records(tmp_path / "records", load_plan(written()), "study")
        records.write_outline()
        for run in runs_of(records.plan, tmp_path / "out"):
            if (run.row.name, run.seed) in mean_ap:
                made = fake_record(records, run, mean_ap[run.row.name, run.seed], 0.3 if run.seed == 1 else None)
                write_record(records.path(run), made)
        return records.folder

    return write


def rebuilt(folder, out):
    main(["tables", str(folder), "--out", str(out)])
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_rebuilt_study_is_the_same_to_the_byte_wherever_its_records_lie(study, tmp_path):
    folder = study()
    first = rebuilt(folder, tmp_path / "first")
    assert set(first) == {"study.md", "study.csv", "study_curves.png", "study_scores.png", "study_class_ap.png"}
    assert all(cv2.imread(str(tmp_path / "first" / name)) is not None for name in first if name.endswith(".png"))
    moved = shutil.copytree(folder, tmp_path / "another machine" / "runs" / "study")
    assert rebuilt(moved, tmp_path / "second") == rebuilt(moved.parent, tmp_path / "third") == first


def test_a_table_compares_rows_of_the_same_seeds_in_pairs(study, tmp_path):
    text = rebuilt(study(), tmp_path / "out")["study.md"].decode()
    # differences 0.10 and 0.08: deviation 0.014, over √2 0.010; independent runs would say 0.022
    assert (
        "| vexkd | 2 of 2 | 0.510 ± 0.014 | 0.560 ± 0.014 | 0.300 | +0.090 ± 0.010 | +0.090 ± 0.010 | +0.000 | "
        "paired |\n"
    ) in text
    assert "| plain | 2 of 2 | 0.420 ± 0.028 | 0.470 ± 0.028 | 0.300 | – | – | – | – |\n" in text
    assert "| teacher_without_lidar | 0 of 1 | – | – | – | – | – | – | – |\n" in text
    assert "| plain | 608 | 1.00 | 2 cores P | aaaaaaaaaa |\n" in text


def test_missing_seeds_are_counted_and_make_the_error_that_of_independent_runs(study, tmp_path):
    text = rebuilt(study({key: value for key, value in MEAN_AP.items() if key != ("vexkd", 1)}), tmp_path / "out")
    assert "| vexkd | 1 of 2 | 0.520 | 0.570 | – | +0.100 | +0.100 | – | – |\n" in text["study.md"].decode()
    found = compare({1: 0.50, 2: 0.52, 3: 0.54}, {1: 0.40, 2: 0.44})
    # 0.02²/3 + 0.0283²/2
    assert not found.paired and found.error == pytest.approx((0.0004 / 3 + 0.0008 / 2) ** 0.5)
    assert compare({1: 0.5, 2: 0.7}, {2: 0.5, 1: 0.4}).value == pytest.approx(0.15)
    assert compare({}, {1: 0.4}) is None


def test_seeds_of_two_configurations_and_runs_on_other_data_are_refused(study, tmp_path):
    path = study() / "plain-seed2.json"
    record = read_record(path)
    for changed, named in (
        ({"config": record.config | {"training": record.config["training"] | {"epochs": 9}}}, "row plain: its seeds"),
        ({"data": record.data | {"eval": record.data["eval"] | {"frames": 9}}}, "row plain: its seeds"),
    ):
        write_record(path, record.model_copy(update=changed))
        with pytest.raises(SystemExit, match=named):
            rebuilt(path.parent, tmp_path / "out")


def test_a_row_trained_on_other_frames_is_named_and_another_evaluation_is_refused(study, tmp_path):
    folder = study()
    fewer = {"split": "tenth", "frames": 2}
    for seed in (1, 2):
        path = folder / f"vexkd-seed{seed}.json"
        record = read_record(path)
        data = {**record.data, "train": record.data["train"] | fewer, "unlabelled": record.data["train"]}
        write_record(path, record.model_copy(update={"data": data}))
    lines = rebuilt(folder, tmp_path / "out")["study.md"].decode().splitlines()
    (trained,) = (line for line in lines if line.startswith("Row vexkd was trained on: "))
    (without,) = (line for line in lines if line.startswith("Without labels, row vexkd saw: "))
    assert "frames 2, split tenth, " in trained and "split mini_train" in without
    for seed in (1, 2):
        path = folder / f"plain-seed{seed}.json"
        record = read_record(path)
        changed = record.data | {"eval": record.data["eval"] | {"frames": 9}}
        write_record(path, record.model_copy(update={"data": changed}))
    with pytest.raises(SystemExit, match="evaluated on different data"):
        rebuilt(folder, tmp_path / "out")


def test_rows_that_another_revision_of_the_code_trained_are_named(study, tmp_path):
    folder = study()
    assert "another revision" not in rebuilt(folder, tmp_path / "same")["study.md"].decode()
    path = folder / "vexkd-seed2.json"
    write_record(path, read_record(path).model_copy(update={"source_revision": "b" * 40}))
    text = rebuilt(folder, tmp_path / "out")["study.md"].decode()
    assert "Trained by another revision of the code than plain, " in text and "differences, too: vexkd (" in text
    for row in ("plain-seed1", "plain-seed2"):
        (folder / f"{row}.json").unlink()
    assert "another revision" not in rebuilt(folder, tmp_path / "alone")["study.md"].decode()


def test_a_teacher_that_was_trained_again_is_said(study, tmp_path):
    path = study() / "vexkd-seed2.json"
    record = read_record(path)
    again = record.teacher.model_copy(update={"fingerprint": "0" * 64})
    write_record(path, record.model_copy(update={"teacher": again}))
    text = rebuilt(path.parent, tmp_path / "out")["study.md"].decode()
    assert "Teacher teacher, seed 1, has taught with 2 different sets of weights: 00000000, ffffffff." in text


def test_records_without_a_plan_are_tabled_without_differences(study, tmp_path):
    folder = study()
    (folder / "plan.json").unlink()
    assert [row.name for row in read_study(folder).rows] == ["plain", "teacher", "vexkd"]
    text = rebuilt(folder, tmp_path / "out")["study.md"].decode()
    assert "| row | seeds | mAP | NDS | mIoU |\n" in text and "study_class_ap.png" not in text


def test_a_folder_without_records_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="no records there; `vexkd ablate` writes them with --records"):
        main(["tables", str(tmp_path), "--out", str(tmp_path / "out")])
