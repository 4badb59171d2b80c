"""A training that is watched: validated, resumed, extended and told in words, without learning anything else."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_training import interrupt_at, losses, weights

from vexkd_model.cli import main
from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.training.fit import build_trainer
from vexkd_model.training.log_progress import duration
from vexkd_model.training.run import BEST_CHECKPOINT, CONFIG, RECORD, load_run, read_checkpoint
from vexkd_model.training.train import train

SCRIPT = Path(__file__).with_name("train_script.py")
ALONE = {"workers": 0, "resume": False, "interactive": False}
VALIDATED = ("training.epochs=4", "training.learning_rate=0.003", "detection.score_threshold=0.02")


@pytest.fixture(scope="module")
def config(config_path, tiny_settings):
    return load_config(config_path, [*tiny_settings, *VALIDATED])


@pytest.fixture(scope="module")
def watched_config(config_path, tiny_settings):
    return load_config(config_path, [*tiny_settings, *VALIDATED, "training.validation={every: 2, frames: 50}"])


@pytest.fixture(scope="module")
def unwatched(config, tiny_index, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "unwatched"
    train(config, tiny_index, run, **ALONE)
    return run


@pytest.fixture(scope="module")
def watched(watched_config, tiny_index, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "watched"
    train(watched_config, tiny_index, run, **ALONE)
    return run


def different(run, other):
    ours, theirs = weights(run), weights(other)
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]


def scores(run):
    rows = [row for path in sorted((run / "log").rglob("metrics.csv")) for row in csv.DictReader(path.open())]
    return [float(row["validation/mAP"]) for row in rows if row.get("validation/mAP")]


def test_validation_changes_neither_weights_nor_losses(watched, unwatched):
    assert not different(watched, unwatched) and losses(watched) == losses(unwatched) != []


def test_what_is_logged_is_what_the_official_metrics_say_of_that_model(watched, tiny_index_dir):
    model, config, epochs = load_run(watched)
    index = FrameIndex.open(tiny_index_dir, "mini_val")
    official = score_split(predict_split(Predictor(model, config, None, "cpu"), index), index)
    logged = read_checkpoint(watched)["callbacks"]
    (best,) = (state for name, state in logged.items() if "ModelCheckpoint" in name and "'validation'" in name)
    assert epochs == 4 and len(scores(watched)) == 2
    assert scores(watched)[-1] == pytest.approx(official.detection.mean_ap, abs=1e-3)
    assert best["current_score"].item() == pytest.approx(
        (official.detection.mean_ap + official.maps.mean_iou) / 2, abs=1e-3
    )


def test_the_best_checkpoint_is_kept_beside_the_last_and_can_be_exported(watched, tmp_path):
    *_, epochs = load_run(watched, BEST_CHECKPOINT)
    assert epochs in (2, 4)
    main(["export", str(watched), str(tmp_path / "best"), "--best"])
    card = json.loads((tmp_path / "best" / "card.json").read_text())
    assert card["trained_on"]["epochs"] == epochs and card["metrics"] == {}


def test_a_run_without_validation_has_no_best_checkpoint(unwatched, tmp_path):
    with pytest.raises(SystemExit, match=r"best\.ckpt: no checkpoint yet; training\.validation keeps it"):
        main(["export", str(unwatched), str(tmp_path / "best"), "--best"])


def test_an_interrupted_and_resumed_training_validates_as_one_never_stopped(
    watched, watched_config, tiny_index, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=8)  # in the third epoch, after the first validation
        with pytest.raises(UserError, match="--resume"):
            train(watched_config, tiny_index, tmp_path / "run", **ALONE)
    train(watched_config, tiny_index, tmp_path / "run", **{**ALONE, "resume": True, "workers": 1})
    assert not different(tmp_path / "run", watched) and scores(tmp_path / "run") == scores(watched)
    assert (
        read_checkpoint(tmp_path / "run", BEST_CHECKPOINT)["epoch"]
        == read_checkpoint(watched, BEST_CHECKPOINT)["epoch"]
    )


def test_the_moving_average_is_what_is_validated(config_path, tiny_settings, tiny_index, tiny_index_dir, tmp_path):
    averaged = [*tiny_settings, *VALIDATED, "training.ema=0.7", "training.validation={every: 4, frames: 50}"]
    train(load_config(config_path, averaged), tiny_index, tmp_path / "run", **ALONE)
    model, config, _ = load_run(tmp_path / "run")
    index = FrameIndex.open(tiny_index_dir, "mini_val")
    official = score_split(predict_split(Predictor(model, config, None, "cpu"), index), index)
    assert scores(tmp_path / "run") == pytest.approx([official.detection.mean_ap], abs=1e-3)


def test_a_dataset_of_one_split_cannot_be_validated_on(watched_config, tiny_index_dir, tmp_path):
    index = FrameIndex.open(tiny_index_dir, "mini_val")
    with pytest.raises(UserError, match=r"training\.validation: v1\.0-mini has no split beside mini_val"):
        train(watched_config, index, tmp_path / "run", **ALONE)


def test_resuming_where_there_is_nothing_is_one_line_and_leaves_nothing(config, tiny_index, tmp_path):
    with pytest.raises(UserError, match="run: holds no run to go on with; leave out --resume"):
        train(config, tiny_index, tmp_path / "run", **{**ALONE, "resume": True})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("schedule", ["one_cycle", "cosine"])
def test_an_extended_run_goes_on_where_the_longer_schedule_would_be(
    config_path, tiny_settings, tiny_index, tmp_path, schedule
):
    settings = [*tiny_settings, *VALIDATED, f"training.schedule={schedule}", "training.epochs=2"]
    run = tmp_path / "run"
    train(load_config(config_path, settings), tiny_index, run, **ALONE)
    (run / "evaluation.json").write_text("{}")
    begun = losses(run)
    main(["extend", str(run), "--epochs", "5", "--workers", "0"])
    _, config, epochs = load_run(run)
    checkpoint = read_checkpoint(run)
    assert (epochs, config.training.epochs, checkpoint["global_step"]) == (5, 5, 15)
    assert not (run / "evaluation.json").exists() and losses(run)[: len(begun)] == begun
    assert json.loads((run / RECORD).read_text())["extended"][0]["from_epochs"] == 2
    rate = checkpoint["optimizer_states"][0]["param_groups"][0]["lr"]
    assert rate < 0.05 * config.training.learning_rate  # it has come down again
    middle = [
        float(row["lr-AdamW"])
        for path in (run / "log").rglob("metrics.csv")
        for row in csv.DictReader(path.open())
        if row.get("lr-AdamW") and int(row["step"]) == 9
    ]
    assert middle and max(middle) > 0.2 * config.training.learning_rate
    with pytest.raises(SystemExit, match="has 5 already; give more"):
        main(["extend", str(run), "--epochs", "5"])


def test_only_a_finished_run_is_extended(config, tiny_index, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=5)
        with pytest.raises(UserError, match="--resume"):
            train(config, tiny_index, tmp_path / "run", **ALONE)
    with pytest.raises(SystemExit, match="1 of 4 epochs are done; finish it with the command"):
        main(["extend", str(tmp_path / "run"), "--epochs", "9"])
    assert load_config(tmp_path / "run" / CONFIG).training == config.training


def test_lines_say_epoch_losses_and_time_left_of_the_whole_training(watched_config, tiny_index, tmp_path, capsys):
    train(watched_config, tiny_index, tmp_path / "run", **ALONE)
    lines = capsys.readouterr().err.splitlines()
    told = [line for line in lines if line.startswith("epoch ")]
    assert len(told) == 4 and told[0].startswith("epoch 1/4 step 3/3 loss ") and "heatmap " in told[0]
    assert told[-1].endswith(" 0 s left") and not told[0].endswith(" 0 s left")
    (first, second) = (line for line in lines if line.startswith("validation after epoch "))
    assert first.startswith("validation after epoch 2 on 2 frames: mAP 0.") and first.endswith("the best so far")
    assert "mIoU 0." in second


def test_a_terminal_shows_a_line_that_changes(watched_config, tiny_index, tmp_path, capsys):
    train(watched_config, tiny_index, tmp_path / "run", **{**ALONE, "interactive": True})
    shown = capsys.readouterr().err
    assert "\r" in shown and "100%" in shown and "epoch 4/4 step 3/3 loss " in shown
    assert "\nvalidation after epoch 2" in shown or "\rvalidation after epoch 2" in shown


def test_durations_are_for_people():
    assert [duration(seconds) for seconds in (0, 89, 600, 3660, 86400)] == [
        "0 s",
        "89 s",
        "10 min",
        "1 h 1 min",
        "24 h 0 min",
    ]


def test_validation_costs_nothing_where_it_is_off(config, tmp_path):
    trainer = build_trainer(config.training, tmp_path, False, {"accelerator": "cpu", "devices": 1})
    assert trainer.limit_val_batches == 0 and len(trainer.checkpoint_callbacks) == 1


def test_two_processes_share_the_frames_of_a_validation(config_path, tiny_settings, tiny_index_dir, tmp_path):
    settings = [*tiny_settings, *VALIDATED, "training.epochs=2", "training.validation={every: 2, frames: 50}"]
    words = [
        sys.executable,
        str(SCRIPT),
        str(config_path),
        str(tiny_index_dir),
        str(tmp_path / "run"),
        "--devices",
        "2",
    ]
    words += [word for setting in settings for word in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("validation after epoch 2 on 2 frames") == 1
    model, config, _ = load_run(tmp_path / "run")
    index = FrameIndex.open(tiny_index_dir, "mini_val")
    official = score_split(predict_split(Predictor(model, config, None, "cpu"), index), index)
    assert scores(tmp_path / "run") == pytest.approx([official.detection.mean_ap], abs=1e-3)
