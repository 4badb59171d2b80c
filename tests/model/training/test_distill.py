"""`vexkd distill`: a student learns from a frozen teacher, and leaves it behind."""

import csv
import json

import pytest
import torch
from safetensors.torch import load_file

from vexkd_model.cli import main
from vexkd_model.config import load_config
from vexkd_model.config.distill import DistillationConfig, ResponseConfig, TeacherLabelsConfig
from vexkd_model.config.training import SensorVarietyConfig
from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.identity import data_identity
from vexkd_model.distill.inherit import inherit_weights
from vexkd_model.distill.map_cache import MapCache
from vexkd_model.distill.teacher import fingerprint
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.training.distill import distill
from vexkd_model.training.module import TrainingModule
from vexkd_model.training.run import LAST_CHECKPOINT, RECORD, load_run
from vexkd_model.training.train import train

EPOCHS = 4  # of three steps each: the log writes every tenth
TINY = {"mask_blocks": 1, "mask_heads": 2, "mask_points": 2, "mask_feedforward": 16}
NO_AUGMENTATION = (
    "training.augment={rotation: 0.0, scale: 0.0, translation: 0.0, flip: false}",
    "camera.images.augment={zoom: [1.0, 1.0], rotation: 0.0, flip: false}",
)


@pytest.fixture(scope="module")
def teacher_run(config_path, tiny_teacher, tiny_index, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "teacher"
    settings = (*tiny_teacher, "training.epochs=1", NO_AUGMENTATION[1])
    config = load_config(config_path.with_name("vexkd_teacher_small.yaml"), settings)
    train(config, tiny_index, run, workers=0, resume=False, interactive=False)
    return run


@pytest.fixture(scope="module")
def student_config(tiny_config):
    training = tiny_config.training.model_copy(update={"epochs": EPOCHS})
    return tiny_config.model_copy(update={"distillation": DistillationConfig(**TINY), "training": training})


def changed(config, **distillation):
    return config.model_copy(update={"distillation": DistillationConfig(**TINY, **distillation)})


def distilled(config, teacher_run, index, run, resume=False, **options):
    distill(config, teacher_run, index, run, workers=0, resume=resume, interactive=False, **options)
    return torch.load(run / LAST_CHECKPOINT, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def finished(student_config, teacher_run, tiny_index, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "student"
    distilled(student_config, teacher_run, tiny_index, run)
    return run


def test_a_training_leaves_the_teacher_bitwise_as_it_was(
    student_config, teacher_run, tiny_index, tmp_path, monkeypatch
):
    seen = []
    monkeypatch.setattr(
        TrainingModule, "on_train_epoch_end", lambda self: seen.append(fingerprint(self.distiller.teacher.model))
    )
    distilled(student_config, teacher_run, tiny_index, tmp_path / "run")
    assert seen == [fingerprint(load_run(teacher_run)[0])] * EPOCHS


def test_the_student_and_its_masks_learn_and_what_is_logged_says_so(finished, teacher_run):
    state = torch.load(finished / LAST_CHECKPOINT, weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in state} == {"model", "distiller"}
    assert not any(name.startswith("distiller.teacher") for name in state)
    (log,) = (finished / "log").rglob("metrics.csv")
    columns = set(next(csv.reader(log.open())))
    assert {f"loss/{kind}_{level}" for kind in ("distill", "mask", "mask_task") for level in ("low", "high")} <= columns
    record = json.loads((finished / RECORD).read_text())
    assert record["teacher"]["name"] == "vexkd_teacher_small"
    assert record["teacher"]["fingerprint"] == fingerprint(load_run(teacher_run)[0])


def test_an_interrupted_and_resumed_distillation_ends_with_the_same_weights_to_the_bit(
    finished, student_config, teacher_run, tiny_index, tmp_path, monkeypatch
):
    run, whole = tmp_path / "run", TrainingModule.training_step

    def step_or_interrupt(self, batch, number):
        if self.global_step == 4:
            raise KeyboardInterrupt
        return whole(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", step_or_interrupt)
        patch.setattr("signal.signal", lambda *_: None)
        with pytest.raises(UserError, match="--resume"):
            distilled(student_config, teacher_run, tiny_index, run)
    resumed = distilled(student_config, teacher_run, tiny_index, run, resume=True)
    straight = torch.load(finished / LAST_CHECKPOINT, weights_only=True)["state_dict"]
    assert [name for name in straight if not torch.equal(resumed[name], straight[name])] == []


def test_further_terms_are_logged_by_name_and_leave_nothing_in_the_student(
    student_config, teacher_run, tiny_index, tmp_path
):
    config = changed(
        student_config,
        loss="normalised_l2",
        relation=1.0,
        response=ResponseConfig(map=1.0),
        teacher_labels=TeacherLabelsConfig(score=0.01),
        inherit=("bev", "segmentation"),
    )
    state = distilled(config, teacher_run, tiny_index, tmp_path / "run")
    (log,) = (tmp_path / "run" / "log").rglob("metrics.csv")
    columns = set(next(csv.reader(log.open())))
    assert {f"loss/{name}" for name in ("distill_low", "relation", "response_map", "teacher_labels")} <= columns
    assert {name.removeprefix("model.") for name in state if name.startswith("model.")} == set(
        build_model(student_config).state_dict()
    )
    assert all(name.startswith("distiller.masks.") for name in state if not name.startswith("model."))
    main(["export", str(tmp_path / "run"), str(tmp_path / "student")])
    assert load_config(tmp_path / "student" / "model.yaml").distillation is None


def test_a_student_begins_with_inherited_weights_and_a_resumed_one_with_its_own(
    student_config, teacher_run, tiny_index, tmp_path, monkeypatch
):
    begins, inherits = [], []

    def recorded(student, teacher, parts):
        inherit_weights(student, teacher, parts)
        inherits.append(parts)

    monkeypatch.setattr("vexkd_model.training.distill.inherit_weights", recorded)
    monkeypatch.setattr(
        TrainingModule,
        "on_train_start",
        lambda self: begins.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()}),
    )
    config = changed(student_config, levels=(), inherit=("bev", "segmentation"))
    learnt = distilled(config, teacher_run, tiny_index, tmp_path / "run")
    assert not any(name.startswith("distiller.") for name in learnt)
    resumed = distilled(config, teacher_run, tiny_index, tmp_path / "run", resume=True)
    assert inherits == [("bev", "segmentation")]
    assert [name for name in learnt if not torch.equal(resumed[name], learnt[name])] == []
    teacher = load_run(teacher_run)[0].state_dict()
    parts = {
        name.split(".")[0]
        for name, tensor in begins[0].items()
        if name in teacher and tensor.shape == teacher[name].shape and torch.equal(tensor, teacher[name])
    }
    assert {"bev", "segmentation"} <= parts
    for name, tensor in begins[0].items():
        assert not name.startswith(("bev.", "segmentation.")) or torch.equal(tensor, teacher[name]), name


def test_a_run_is_resumed_with_its_own_teacher_alone(
    finished, student_config, tiny_index, config_path, tiny_teacher, tmp_path
):
    settings = (*tiny_teacher, "training.epochs=1", "training.seed=9")
    other = load_config(config_path.with_name("vexkd_teacher_small.yaml"), settings)
    train(other, tiny_index, tmp_path / "other", workers=0, resume=False, interactive=False)
    with pytest.raises(UserError, match=r"run\.json: the run began with the teacher .*teacher \(\w{8}\), not with"):
        distilled(student_config, tmp_path / "other", tiny_index, finished, resume=True)


def test_masks_stop_learning_after_their_epochs_and_the_student_goes_on(
    student_config, teacher_run, tiny_index, tmp_path, monkeypatch
):
    states = []
    monkeypatch.setattr(
        TrainingModule,
        "on_train_epoch_end",
        lambda self: states.append({name: tensor.clone() for name, tensor in self.state_dict().items()}),
    )
    distilled(changed(student_config, mask_stop_epoch=1), teacher_run, tiny_index, tmp_path / "run")
    moved = {name.split(".")[0] for name in states[0] if not torch.equal(states[0][name], states[-1][name])}
    assert moved == {"model"} and any(name.startswith("distiller.masks") for name in states[0])


def test_maps_from_the_cache_teach_the_same(student_config, teacher_run, tiny_index, tmp_path):
    still = student_config.training.augment.model_copy(
        update={"rotation": 0.0, "scale": 0.0, "translation": 0.0, "flip": False}
    )
    config = student_config.model_copy(
        update={"training": student_config.training.model_copy(update={"augment": still})}
    )
    live = distilled(config, teacher_run, tiny_index, tmp_path / "live")
    cached = distilled(config, teacher_run, tiny_index, tmp_path / "cached", cache=tmp_path / "maps")
    files = sorted((tmp_path / "maps").rglob("*.safetensors"))
    assert len(files) == len(tiny_index) and data_identity(tiny_index).files[:16] in files[0].parent.name
    assert {level: maps.shape for level, maps in load_file(files[0]).items()} == {
        "low": (16, 60, 60),
        "high": (32, 60, 60),
    }
    for name, tensor in live.items():
        torch.testing.assert_close(cached[name], tensor, rtol=1e-3, atol=1e-4)
    stamps = [path.stat().st_mtime_ns for path in files]
    distilled(config, teacher_run, tiny_index, tmp_path / "again", cache=tmp_path / "maps")
    assert [path.stat().st_mtime_ns for path in files] == stamps


def test_a_cached_teacher_sees_plain_images_and_good_sensors(student_config, teacher_run, tiny_index, tmp_path):
    model, config = load_run(teacher_run)[:2]
    varied = student_config.training.model_copy(update={"sensor_variety": SensorVarietyConfig(share=0.99)})
    cache = MapCache(tmp_path)
    cache.fill(model, config, varied, tiny_index, torch.device("cpu"))
    with torch.no_grad():
        features = model.eval()(sensors_for(config, [load_frame(tiny_index, 0, config)])).features
    kept = cache.read([tiny_index[0].token], torch.device("cpu"))
    torch.testing.assert_close(kept.low, features.low)
    torch.testing.assert_close(kept.high, features.high)


def test_a_cache_refuses_what_changes_from_epoch_to_epoch(student_config, teacher_run, tiny_index, tmp_path):
    with pytest.raises(UserError, match=r"--cache: training\.augment\.rotation shows the teacher something else"):
        distilled(student_config, teacher_run, tiny_index, tmp_path / "run", cache=tmp_path / "maps")
    assert not (tmp_path / "run").exists() and not (tmp_path / "maps").exists()
    with pytest.raises(UserError, match="remove it, the same command makes it again"):
        MapCache(tmp_path).read(["nowhere"], torch.device("cpu"))


def test_a_distilled_package_holds_what_a_plain_one_holds_and_no_more(
    finished, student_config, tiny_index, tmp_path, capsys
):
    train(student_config, tiny_index, tmp_path / "plain", workers=0, resume=False, interactive=False)
    main(["export", str(tmp_path / "plain"), str(tmp_path / "plain_student")])
    main(["export", str(finished), str(tmp_path / "taught_student")])
    plain, taught = (tmp_path / f"{name}_student" for name in ("plain", "taught"))
    assert (plain / "model.yaml").read_text() == (taught / "model.yaml").read_text()
    weights = [load_file(folder / "weights.safetensors") for folder in (plain, taught)]
    assert {n: t.shape for n, t in weights[0].items()} == {n: t.shape for n, t in weights[1].items()}
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (plain, taught)]
    assert sizes[0] == sizes[1]
    modules = [
        [(name, type(m)) for name, m in load_run(run)[0].named_modules()] for run in (tmp_path / "plain", finished)
    ]
    assert modules[0] == modules[1] == [(n, type(m)) for n, m in build_model(student_config).named_modules()]
    card = json.loads((taught / "card.json").read_text())
    assert card["trained_on"]["teacher"]["name"] == "vexkd_teacher_small"


def test_wrong_use_is_one_line(teacher_run, tiny_dataroot, tiny_index_dir, config_path, tmp_path):
    data = ["--dataroot", str(tiny_dataroot), "--version", "v1.0-mini", "--index", str(tiny_index_dir)]
    wrong = ((tmp_path / "nowhere", "neither a run nor a package"), (teacher_run, "grid: the student's"))
    for teacher, message in wrong:
        with pytest.raises(SystemExit) as error:
            main(["distill", str(config_path), "--teacher", str(teacher), *data, "--out", str(tmp_path / "run")])
        assert error.value.code.startswith("vexkd: ") and message in error.value.code
        assert "\n" not in error.value.code
    assert not (tmp_path / "run").exists()
