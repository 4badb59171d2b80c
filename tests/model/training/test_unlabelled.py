"""Frames without annotations: the teacher teaches on them, and no task loss looks at them."""

import json

import pytest
import torch
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.cli import main
from vexkd_model.config.distill import DistillationConfig, TeacherLabelsConfig
from vexkd_model.criterion import build_criterion
from vexkd_model.data.batch import collate_for
from vexkd_model.data.dataset import load_frame, load_sample, without_ground_truth
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.loader import training_loader
from vexkd_model.data.prepare import prepare
from vexkd_model.deploy.package import save_package
from vexkd_model.distill.pairing import check_heads_are_taught
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.training.run import RECORD

TEACHER_LABELS = (
    "distillation={levels: [low, high], masks: ones, loss: l2, teacher_labels: {score: 0.01}}",
    "segmentation=null",
    "training.epochs=1",
)


@pytest.fixture(scope="module")
def bare_dataroot(tmp_path_factory):
    """A dataset without annotations and without a map."""
    root = tmp_path_factory.mktemp("bare") / "data"
    write_tiny_nuscenes(root, {"scene-0077": 3}, with_map=False, version="v1.0-test")
    prepare(root, "v1.0-test", root / "vexkd" / "v1.0-test")
    return root


@pytest.fixture(scope="module")
def bare_index(bare_dataroot):
    return FrameIndex.open(bare_dataroot / "vexkd" / "v1.0-test", "test")


@pytest.fixture(scope="module")
def teacher(tiny_config, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher") / "package"
    save_package(folder, build_model(tiny_config), tiny_config, {}, {}, "")
    return folder


def batch_of(config, index, frames, unlabelled):
    samples = [
        without_ground_truth(load_frame(index, i, config)) if i in unlabelled else load_sample(index, i, config)
        for i in frames
    ]
    return collate_for(config)(samples)


def test_the_task_loss_is_that_of_the_labelled_samples_alone(tiny_config, tiny_index):
    torch.manual_seed(0)
    model, criterion = build_model(tiny_config).eval(), build_criterion(tiny_config)
    alone, mixed = (batch_of(tiny_config, tiny_index, frames, {1}) for frames in ([0, 2], [0, 1, 2]))
    assert mixed.unlabelled == [1]
    wanted, terms = (criterion(model(batch.sensors), batch) for batch in (alone, mixed))
    assert terms.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-5)


def test_without_a_labelled_sample_the_task_loss_is_nothing_by_the_same_names(tiny_config, tiny_index):
    model, criterion = build_model(tiny_config).eval(), build_criterion(tiny_config)
    labelled, bare = (batch_of(tiny_config, tiny_index, [0, 1], without) for without in (set(), {0, 1}))
    terms = criterion(model(bare.sensors), bare)
    assert terms.keys() == criterion(model(labelled.sensors), labelled).keys()
    assert {term.item() for term in terms.values()} == {0.0}


def test_an_epoch_draws_every_frame_of_both_sources_once(tiny_config, tiny_index, bare_index):
    batches = list(training_loader(tiny_config, tiny_index, workers=0, unlabelled=bare_index))
    assert sorted(batch.tokens[0] for batch in batches) == sorted(
        [*tiny_index.column("token"), *bare_index.column("token")]
    )
    for batch in batches:
        bare = batch.tokens[0].startswith("scene-0077")
        assert batch.unlabelled == ([0] if bare else [])
        assert bool(len(batch.boxes[0])) is not bare
        assert bool(batch.map_known.any()) is not bare


def test_annotations_that_are_there_are_not_looked_at(tiny_config, tiny_index):
    for batch in training_loader(tiny_config, tiny_index, workers=0, unlabelled=tiny_index):
        assert batch.unlabelled == [0] and not len(batch.boxes[0]) and not batch.map_known.any()


def test_a_student_learns_from_unlabelled_drives_alone(
    config_path, tiny_settings, bare_dataroot, teacher, tmp_path, capsys
):
    run = tmp_path / "run"
    words = ["distill", str(config_path), "--teacher", str(teacher), "--dataroot", str(bare_dataroot)]
    words += ["--version", "v1.0-test", "--out", str(run), "--workers", "0"]
    words += [word for setting in (*tiny_settings, *TEACHER_LABELS) for word in ("--set", setting)]
    with pytest.raises(SystemExit) as error:
        main(words)
    assert "it has no boxes" in str(error.value.code)
    main([*words, "--unlabelled"])
    assert "trained" in capsys.readouterr().out
    assert json.loads((run / RECORD).read_text())["unlabelled"]["split"] == "test"


def test_a_mixture_is_recorded_and_resumed_with_the_same_frames_alone(
    config_path, tiny_settings, tiny_dataroot, tiny_index_dir, bare_dataroot, teacher, tmp_path
):
    run = tmp_path / "run"
    words = ["distill", str(config_path), "--teacher", str(teacher), "--dataroot", str(tiny_dataroot)]
    words += ["--version", "v1.0-mini", "--index", str(tiny_index_dir), "--out", str(run), "--workers", "0"]
    words += [word for setting in (*tiny_settings, *TEACHER_LABELS) for word in ("--set", setting)]
    main([*words, "--unlabelled", f"{bare_dataroot}:v1.0-test"])
    assert json.loads((run / RECORD).read_text())["unlabelled"]["frames"] == 3
    with pytest.raises(SystemExit) as error:
        main([*words, "--resume"])
    assert "other frames of --unlabelled" in str(error.value.code)


def test_heads_that_nothing_teaches_are_named(tiny_config):
    without_map = tiny_config.model_copy(update={"segmentation": None})
    with pytest.raises(UserError, match="detection: no frame is labelled; set distillation"):
        check_heads_are_taught(DistillationConfig(), without_map)
    check_heads_are_taught(DistillationConfig(teacher_labels=TeacherLabelsConfig()), without_map)
    with pytest.raises(UserError, match="segmentation: no frame is labelled"):
        check_heads_are_taught(DistillationConfig(teacher_labels=TeacherLabelsConfig()), tiny_config)


def test_balanced_classes_need_labels(tiny_config, tiny_index, bare_index):
    training = tiny_config.training.model_copy(update={"class_balanced": True})
    with pytest.raises(UserError, match="class_balanced"):
        training_loader(tiny_config.model_copy(update={"training": training}), tiny_index, 0, unlabelled=bare_index)
