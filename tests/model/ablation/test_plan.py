"""Plans: an error in one is reported before anything runs."""

from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from vexkd_model.ablation.commands import runs_of
from vexkd_model.ablation.plan import load_plan
from vexkd_model.errors import UserError


def row(values, i, **changed):
    """Change some keys of row i of the plan; None removes a key."""
    rows = deepcopy(values["rows"])
    rows[i] = {key: value for key, value in (rows[i] | changed).items() if value is not None}
    return {"rows": rows}


def commands(plan, out):
    return {run.name: [" ".join(words) for words in run.commands()] for run in runs_of(plan, out)}


def test_every_row_and_seed_becomes_a_training_and_an_evaluation(plan_values, written, tmp_path):
    found = commands(load_plan(written()), tmp_path / "out")
    data, student = plan_values["dataroot"], plan_values["rows"][1]["config"]
    assert list(found) == [
        "teacher, seed 1",
        "plain, seed 1",
        "plain, seed 2",
        "vexkd, seed 1",
        "vexkd, seed 2",
        "teacher_without_lidar, seed 1",
    ]
    out = f"{tmp_path}/out"
    assert found["plain, seed 2"] == [
        f"train {student} --dataroot {data} --version v1.0-mini --split mini_train --out {out}/plain/seed2 --workers 0 "
        "--set training.epochs=1 --set training.seed=2",
        f"evaluate {out}/plain/seed2 --dataroot {data} --version v1.0-mini --split mini_val --device cpu "
        f"--json {out}/plain/seed2.json",
    ]
    assert found["vexkd, seed 2"][0] == (
        f"distill {student} --teacher {out}/teacher/seed1 --dataroot {data} --version v1.0-mini --split mini_train "
        f"--out {out}/vexkd/seed2 --workers 0 --set training.epochs=1 --set distillation.masks=fusion_queries "
        "--set distillation.levels=[low, high] --set training.seed=2"
    )
    assert found["teacher_without_lidar, seed 1"] == [
        f"evaluate {out}/teacher/seed1 --dataroot {data} --version v1.0-mini --split mini_val --device cpu "
        f"--json {out}/teacher_without_lidar/seed1.json --drop lidar"
    ]


def test_the_run_of_the_same_seed_teaches_where_there_is_one(plan_values, written, tmp_path):
    plan = load_plan(written(**row(plan_values, 0, seeds=[2, 3])))
    found = commands(plan, tmp_path)
    assert f"--teacher {tmp_path}/teacher/seed2 " in found["vexkd, seed 1"][0]  # its first one
    assert f"--teacher {tmp_path}/teacher/seed2 " in found["vexkd, seed 2"][0]
    plan = load_plan(written(**row(plan_values, 0, seeds=[3, 2, 1])))
    assert f"--teacher {tmp_path}/teacher/seed1 " in commands(plan, tmp_path)["vexkd, seed 1"][0]


def test_a_row_may_have_labels_of_another_split_and_frames_without(plan_values, written, tmp_path):
    found = commands(
        load_plan(written(**row(plan_values, 2, train_split="mini_val", unlabelled="mini_train"))), tmp_path
    )
    taught = found["vexkd, seed 1"][0]
    assert (
        "--split mini_val --out" in taught and f"--unlabelled {plan_values['dataroot']}:v1.0-mini:mini_train" in taught
    )
    assert "--split mini_train --out" in found["plain, seed 1"][0]
    with pytest.raises(UserError, match="unlabelled: belongs to rows with a teacher"):
        load_plan(written(**row(plan_values, 1, unlabelled="mini_train")))


UNMOVED = {"training.augment": {"rotation": 0.0, "scale": 0.0, "translation": 0.0, "flip": False}}


def test_a_cache_serves_the_rows_with_a_teacher(plan_values, written, tmp_path):
    found = commands(load_plan(written(cache="maps", **row(plan_values, 2, set=UNMOVED))), tmp_path)
    assert "--cache maps" in found["vexkd, seed 1"][0] and "--cache" not in found["plain, seed 1"][0]


def test_a_cache_that_a_row_cannot_use_is_refused_with_the_plan(plan_values, written):
    moving = {"training.augment": {**UNMOVED["training.augment"], "rotation": 0.3}}
    with pytest.raises(UserError, match=r"row vexkd: --cache: training\.augment\.rotation"):
        load_plan(written(cache="maps", **row(plan_values, 2, set=moving)))


def test_a_run_folder_may_teach(plan_values, written, tmp_path):
    run = tmp_path / "elsewhere"
    run.mkdir()
    (run / "model.yaml").write_text(Path(plan_values["rows"][0]["config"]).read_text())
    plan = load_plan(written(**row(plan_values, 2, teacher=str(run))))
    assert f"--teacher {run} " in commands(plan, tmp_path)["vexkd, seed 1"][0]


def test_splits_are_the_versions_own_where_none_is_named(plan_values, written):
    assert load_plan(written(version="v1.0-trainval", train_split=None, eval_split=None)).splits == ("train", "val")


def test_values_reach_the_command_line_as_yaml_that_means_the_same(plan_values, written):
    values = {
        "training.learning_rate": 1e-5,
        "segmentation": None,
        "training.class_balanced": True,
        "training.augment": {"rotation": 0.1, "scale": 0.0, "translation": 0.0, "flip": False},
    }
    plan = load_plan(written(**row(plan_values, 1, set=values)))
    texts = dict(override.split("=", 1) for override in plan.row("plain").overrides)
    assert {key: yaml.safe_load(text) for key, text in texts.items()} == values
    assert not any("\n" in text for text in texts.values())


@pytest.mark.parametrize(
    ("i", "changed", "named"),
    [
        (1, {"conifg": "x"}, "rows.1.conifg: unknown key"),
        (1, {"config": None}, "rows.1.config"),
        (1, {"config": "none.yaml"}, "row plain: none.yaml: no such file"),
        (1, {"set": {"training.epoch": 1}}, "training.epoch: "),
        (1, {"set": {"training.epochs": 0}}, "training.epochs"),
        (1, {"set": {"training.seed": 3}}, "set.training.seed: the seeds of a row"),
        (1, {"set": {"distillation.masks": "ones"}}, "set.distillation.masks: belongs to rows with a teacher"),
        (1, {"seeds": []}, "rows.1.seeds"),
        (1, {"seeds": [1, 1]}, "seeds [1, 1]: one stands twice"),
        (1, {"name": "../plain"}, "rows.1.name"),
        (1, {"name": "teacher"}, "row teacher: stands twice"),
        (0, {"teacher": "plain"}, "row teacher: teacher plain: is no row above it"),
        (2, {"teacher": "nobody"}, "row vexkd: teacher nobody: neither a row above nor the folder"),
        (2, {"teacher": "vexkd"}, "row vexkd: teacher vexkd: is no row above it"),
        (2, {"set": {"grid.extent": 36.0}}, "row vexkd: grid: the student's is"),
        (2, {"set": {"distillation.mask": "ones"}}, "distillation.mask: "),
        (2, {"set": {"distillation.masks": "zeros"}}, "distillation.masks: Input should be"),
        (3, {"drop": "radar"}, "rows.3.drop"),
        (3, {"drop": None}, "rows.3.drop"),
        (3, {"seeds": [1]}, "rows.3.seeds: unknown key"),
        (3, {"of": "nobody"}, "row teacher_without_lidar: of nobody: is no row above it that trains"),
        (3, {"of": "plain"}, "row teacher_without_lidar: --drop lidar: lidar_pillar_small reads nothing else"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_row_is_one_line_that_names_it(plan_values, written, i, changed, named):
    path = written(**row(plan_values, i, **changed))
    with pytest.raises(UserError) as error:
        load_plan(path)
    assert str(error.value).startswith(f"{path}: ") and named in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"version": "v2"}, "v2: no such folder; --version is its name"),
        ({"seeds": [-1]}, "seeds.0"),
        ({"rows": []}, "rows"),
        ({"rows": ["plain"]}, "rows.0.trained"),
        ({"baseline": "nobody"}, "baseline nobody: is no row"),
        ({"speed": 1}, "speed: unknown key"),
    ],
)
def test_a_wrong_plan_is_one_line_that_names_the_key(written, changed, named):
    path = written(**changed)
    with pytest.raises(UserError) as error:
        load_plan(path)
    assert str(error.value).startswith(f"{path}: ") and named in str(error.value) and "\n" not in str(error.value)


def test_a_missing_plan_is_sent_to_the_shipped_ones(tmp_path):
    with pytest.raises(UserError, match=r"none\.yaml: no such file; plans lie in config/ablation/"):
        load_plan(tmp_path / "none.yaml")
