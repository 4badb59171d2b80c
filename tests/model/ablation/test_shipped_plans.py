"""Shipped plans of the paper's ablations: their files exist, and their rows differ as their names state."""

import pytest

from vexkd_model.ablation.commands import runs_of
from vexkd_model.ablation.plan import EvaluatedRow, find_plan, load_plan

PLANS = (
    "blocks",
    "components_camera",
    "components_lidar",
    "losses",
    "masks_camera",
    "masks_lidar",
    "robustness",
    "study_camera",
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
