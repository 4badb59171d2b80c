"""Records: one stands for a run whose folder is gone, and only for that very run."""

import json
import math
import re

import numpy as np
import pytest

from vexkd_model.ablation.commands import runs_of
from vexkd_model.ablation.make_record import thin_curves, without_places
from vexkd_model.ablation.plan import load_plan
from vexkd_model.ablation.records import Records
from vexkd_model.ablation.run import unfinished_runs
from vexkd_model.ablation.run_record import read_record, write_record
from vexkd_model.ablation.table import write_tables
from vexkd_model.errors import UserError
from vexkd_model.training.read_losses import Curve


@pytest.fixture
def recorded(written, fake_record, tmp_path):
    """Write records of these rows and seeds, as another machine leaves them: (plan, records)."""

    def write(*names, **changed):
        plan = load_plan(written(**changed))
        records = Records(tmp_path / "records", plan, "plan")
        for run in runs(plan, tmp_path / "out", names):
            write_record(records.path(run), fake_record(records, run))
        return plan, records

    return write


def runs(plan, out, names):
    return [run for run in runs_of(plan, out) if run.name in names]


def names_of(found):
    return [run.name for run in found]


def test_a_record_is_read_back_as_it_was_and_written_as_the_same_bytes(recorded, tmp_path):
    plan, records = recorded("vexkd, seed 2")
    (run,) = runs(plan, tmp_path / "out", ["vexkd, seed 2"])
    path, again = records.path(run), tmp_path / "again.json"
    assert path == tmp_path / "records" / "plan" / "vexkd-seed2.json"
    write_record(again, read_record(path))
    assert read_record(again) == read_record(path) and again.read_bytes() == path.read_bytes()
    assert list(json.loads(path.read_text())) == sorted(json.loads(path.read_text()))
    assert path.stat().st_size < 20_000


def test_a_run_with_a_record_is_finished_and_tabled_though_its_folder_is_gone(recorded, tmp_path):
    plan, records = recorded(
        "plain, seed 1", "teacher, seed 1", "vexkd, seed 1", "vexkd, seed 2", "teacher_without_lidar, seed 1"
    )
    assert names_of(unfinished_runs(plan, tmp_path / "out", records)) == ["plain, seed 2"]
    write_tables(plan, tmp_path / "out", records)
    assert "| plain | 1 of 2 | 0.400 |" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"config": {"training": {"epochs": 9}}}, "config"),
        ({"config_hash": "0"}, ""),
        ({"seed": 3}, "seed"),
        ({"data": {"train": {"frames": 4}}}, "data"),
        ({"data": {"eval": {"split": "mini_train"}}}, "data"),
        ({"teacher": {"config": {"training": {"epochs": 9}}}}, "teacher"),
        ({"teacher": None}, "teacher"),
        ({"dropped": "lidar"}, "dropped"),
    ],
    ids=str,
)
def test_the_record_of_another_run_is_not_taken_for_this_one(recorded, tmp_path, change, named):
    plan, records = recorded("vexkd, seed 2", "teacher, seed 1")
    path = tmp_path / "records" / "plan" / "vexkd-seed2.json"
    path.write_text(json.dumps(merged(json.loads(path.read_text()), change)))
    (run,) = runs(plan, tmp_path / "out", ["vexkd, seed 2"])
    if not named:  # the configuration itself counts, not what somebody has written beside it
        assert records.find(run)
        return
    with pytest.raises(UserError, match=re.escape(f"{path} is the record of another run ({named} differs)")):
        unfinished_runs(plan, tmp_path / "out", records)


def merged(values, change):
    return values | {key: merged(values[key], of) if isinstance(of, dict) else of for key, of in change.items()}


def test_a_key_that_the_configuration_has_got_since_does_not_make_it_another_run(recorded, tmp_path):
    plan, records = recorded("plain, seed 1")
    path = tmp_path / "records" / "plan" / "plain-seed1.json"
    old = json.loads(path.read_text())
    del old["config"]["training"]["ema"]
    path.write_text(json.dumps(old | {"config_hash": "of that time"}))
    assert records.find(*runs(plan, tmp_path / "out", ["plain, seed 1"]))


def test_a_key_that_the_teachers_configuration_has_got_since_does_not_make_it_another_teacher(recorded, tmp_path):
    plan, records = recorded("vexkd, seed 1", "teacher, seed 1")
    path = tmp_path / "records" / "plan" / "vexkd-seed1.json"
    old = json.loads(path.read_text())
    del old["teacher"]["config"]["frame"], old["teacher"]["config"]["lidar"]["intensity_max"]
    path.write_text(json.dumps(old))
    assert records.find(*runs(plan, tmp_path / "out", ["vexkd, seed 1"]))


def test_a_teacher_that_is_recorded_but_gone_is_one_line_with_the_cure(recorded, tmp_path):
    plan, records = recorded("teacher, seed 1", "teacher_without_lidar, seed 1")
    with pytest.raises(UserError) as error:
        unfinished_runs(plan, tmp_path / "out", records)
    assert str(error.value) == (
        f"row teacher: seed 1 is finished, but {tmp_path}/out/teacher/seed1 is gone and vexkd, seed 1 builds on it; "
        f"remove {tmp_path}/records/plan/teacher-seed1.json to train it again, or give its package as teacher of row "
        "vexkd"
    )


def test_a_damaged_record_is_named(recorded, tmp_path):
    path = tmp_path / "records" / "plan" / "plain-seed1.json"
    plan, records = recorded("plain, seed 1")
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=rf"{path}: damaged record"):
        records.find(*runs(plan, tmp_path / "out", ["plain, seed 1"]))


def test_a_thinned_curve_keeps_first_and_last_step_and_the_mean_of_what_is_between():
    steps = np.arange(9, 10_000, 10)
    values = np.exp(-steps / 3000)
    thin = thin_curves({"loss": Curve(steps, values), "loss/mask_high": Curve(steps[:400], values[:400])}, points=60)
    assert len(thin.steps) == len(thin.total) == len(thin.terms["mask_high"]) == 60
    assert thin.steps[0] == 9 and thin.steps[-1] == steps[-1] and thin.total[0] == float(f"{values[0]:.4g}")
    last = values[steps > thin.steps[-2]]
    assert math.isclose(thin.total[-1], last.mean(), rel_tol=1e-3) and thin.terms["mask_high"][-1] is None
    short = thin_curves({"loss": Curve(steps[:3], np.array([3.14159, 2.0, 1.0]))})
    assert (short.steps, short.total, short.terms) == ((9, 19, 29), (3.142, 2.0, 1.0), {})


def test_a_command_keeps_no_machines_folders():
    command = "vexkd distill config/a.yaml --teacher /w/runs/teacher --dataroot=/data/ --set distillation.levels=[low]"
    assert without_places(command) == (
        "vexkd distill config/a.yaml --teacher teacher --dataroot=data --set distillation.levels=[low]"
    )
