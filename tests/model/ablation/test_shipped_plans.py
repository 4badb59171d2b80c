"""Shipped plans of the paper's ablations: their files exist, and their rows differ as their names state."""

import pytest

from vexkd_model.ablation.commands import runs_of
from vexkd_model.ablation.plan import EvaluatedRow, find_plan, load_plan
from vexkd_model.ablation.records import Records, config_of
from vexkd_model.ablation.run_record import config_hash, read_record

PLANS = (
    "blocks",
    "components_camera",
    "components_lidar",
    "losses",
    "masks_camera",
    "masks_lidar",
    "robustness",
    "study_camera",
    "study_camera_short",
    "study_lidar",
    "study_lidar_short",
    "unlabelled",
)
SHIPPED = "models/teacher"


@pytest.fixture
def shipped(config_path, monkeypatch, tmp_path):
    """Read a shipped plan by its bare name from any folder, as who has no checkout does."""
    plans = config_path.parents[1] / "ablation"
    assert sorted(path.stem for path in plans.glob("*.yaml")) == sorted(PLANS)
    (tmp_path / "models").symlink_to(config_path.parents[2] / "models")  # the teacher that ships with a checkout
    monkeypatch.chdir(tmp_path)
    return lambda name: load_plan(find_plan(name))


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_names_models_that_are_there_and_keys_that_they_have(shipped, name):
    plan = shipped(name)
    building = [
        run
        for run in runs_of(plan, plan.dataroot)
        if isinstance(run.row, EvaluatedRow) or run.row.teacher not in (None, SHIPPED)
    ]
    assert len(plan.seeds) >= 3 and not any(run.base is None for run in building)


def test_rows_of_one_name_mean_the_same_in_every_plan(shipped):
    """So that plans may share a folder, and train what they have in common once."""
    rows = [
        row.model_copy(update={"seeds": None}) if not isinstance(row, EvaluatedRow) else row
        for name in PLANS
        for row in shipped(name).rows
    ]
    by_name = {row.name: row for row in rows}
    assert [row for row in rows if row != by_name[row.name]] == []


@pytest.mark.parametrize("name", ["study_lidar_short", "unlabelled"])
def test_recorded_runs_are_those_that_the_plan_would_train_today(shipped, name, config_path):
    """So that a study goes on from its records."""
    plan = shipped(name)
    records = Records(config_path.parents[2] / "docs" / "results" / "runs", plan, name)
    recorded = [run for run in runs_of(plan, plan.dataroot) if records.path(run).is_file()]
    assert len(recorded) >= 9
    for run in recorded:
        config, teacher = config_of(run.row), records.teacher(run.row, run.base)
        identity = read_record(records.path(run)).identity()
        assert identity.config_hash == config_hash(config), run.name
        assert identity.teacher == (teacher and (config_hash(teacher[0]), teacher[1])), run.name
