"""What a training does besides learning: steps of several batches, averaged weights, logs and pictures."""

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.loader import training_loader
from vexkd_model.deploy.package import load_package, save_package
from vexkd_model.distributed import Shard
from vexkd_model.training import fit
from vexkd_model.training.module import TrainingModule
from vexkd_model.training.pictures import magnitude, picture
from vexkd_model.training.run import LAST_CHECKPOINT, load_run
from vexkd_model.training.train import train

EMA = 0.7


@pytest.fixture(scope="module")
def averaged_config(config_path, tiny_settings):
    return load_config(
        config_path, [*tiny_settings, f"training.ema={EMA}", "training.accumulate=2", "training.epochs=3"]
    )


@pytest.fixture(scope="module")
def averaged(averaged_config, tiny_index, tmp_path_factory):
    """A run of three epochs, each of two steps: two batches, then the one that is left. And the weights after each."""
    run, course = tmp_path_factory.mktemp("runs") / "averaged", []
    step = TrainingModule.optimizer_step

    def noted(self, *arguments, **named):
        step(self, *arguments, **named)
        course.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingModule, "optimizer_step", noted)
        patch.setattr(fit, "LOG_EVERY_STEPS", 1)
        train(averaged_config, tiny_index, run, workers=0, resume=False, interactive=False)
    return run, course


def checkpoint_of(run):
    return torch.load(run / LAST_CHECKPOINT, weights_only=True)


@pytest.fixture(scope="module")
def events(averaged):
    return EventAccumulator(str(averaged[0] / "log" / "version_0")).Reload()


def test_batches_are_gathered_into_steps_and_the_schedule_ends_with_the_last(averaged, averaged_config, events):
    assert checkpoint_of(averaged[0])["global_step"] == 6 == len(averaged[1])
    rates = {point.step: point.value for point in events.Scalars("lr-AdamW")}
    peak = averaged_config.training.learning_rate
    assert len(rates) == 6 and rates[0] == pytest.approx(peak / 10) and rates[5] == pytest.approx(peak / 10 / 1e3)


def test_what_is_evaluated_and_exported_is_the_moving_average(averaged, averaged_config, tmp_path):
    run, course = averaged
    expected = course[0]
    for weights in course[1:]:
        expected = {name: EMA * expected[name] + (1 - EMA) * weights[name] for name in expected}
    model, *_ = load_run(run)
    for name, tensor in model.named_parameters():
        torch.testing.assert_close(tensor.detach(), expected[name])
        assert not torch.equal(tensor, course[-1][name])
    torch.testing.assert_close(
        model.state_dict()["bev.stages.0.0.1.running_var"], expected["bev.stages.0.0.1.running_var"]
    )
    save_package(tmp_path / "package", model, averaged_config, {}, {}, "test")
    packaged = load_package(tmp_path / "package")[0].state_dict()
    assert all(torch.equal(packaged[name], tensor) for name, tensor in model.state_dict().items())


def test_a_resumed_training_goes_on_with_the_average_to_the_bit(
    averaged, averaged_config, tiny_index, tmp_path, monkeypatch
):
    run, whole = tmp_path / "run", TrainingModule.training_step

    def step_or_stop(self, batch, number):
        if self.current_epoch == 2 and number == 1:
            raise MemoryError
        return whole(self, batch, number)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "training_step", step_or_stop)
        with pytest.raises(MemoryError):
            train(averaged_config, tiny_index, run, workers=0, resume=False, interactive=False)
    assert load_run(run)[2] == 2
    train(averaged_config, tiny_index, run, workers=0, resume=True, interactive=False)
    resumed, straight = checkpoint_of(run), checkpoint_of(averaged[0])
    for key in ("state_dict", "current_model_state", "averaging_state"):
        assert [name for name, tensor in straight[key].items() if not torch.equal(resumed[key][name], tensor)] == []


def test_dropout_of_a_resumed_training_is_that_of_one_never_stopped(
    config_path, tiny_settings, tiny_index, tmp_path, monkeypatch
):
    kept = [setting for setting in tiny_settings if not setting.startswith("detection")]
    config = load_config(
        config_path,
        [
            *kept,
            "training.epochs=2",
            "detection={kind: transfusion, channels: 16, proposals: 10, heads: 2, "
            "feedforward: 16, dropout: 0.5, loss_weight: 1.0, score_threshold: 0.0, max_detections: 10}",
        ],
    )
    train(config, tiny_index, tmp_path / "straight", workers=0, resume=False, interactive=False)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingModule, "on_train_epoch_end", out_of_memory_in_the_second_epoch)
        with pytest.raises(MemoryError):
            train(config, tiny_index, tmp_path / "run", workers=0, resume=False, interactive=False)
    train(config, tiny_index, tmp_path / "run", workers=0, resume=True, interactive=False)
    resumed, straight = (load_run(tmp_path / name)[0].state_dict() for name in ("run", "straight"))
    assert [name for name in straight if not torch.equal(resumed[name], straight[name])] == []


def out_of_memory_in_the_second_epoch(module):
    if module.current_epoch == 1:
        raise MemoryError


def test_tensorboard_shows_losses_rates_and_a_picture_of_both_levels_for_each_epoch(events):
    assert {"loss", "loss/heatmap", "loss/segmentation", "lr-AdamW"} <= set(events.Tags()["scalars"])
    assert {point.step for point in events.Scalars("loss")} == {0, 1, 2, 3, 4, 5}
    for level in ("bev/low", "bev/high"):
        shown = events.Images(level)
        assert len(shown) == 3 and (shown[0].width, shown[0].height) == (60, 60)


def test_a_picture_shows_forward_up_and_left_on_the_left():
    features = torch.zeros(3, 4, 6)
    features[:, 3, 5] = torch.tensor([2.0, -3.0, 6.0])  # the farthest cell ahead, at the far left
    features[0, 0, 0] = 3.5  # behind, at the right
    values = magnitude(features)
    assert values[3, 5] == 7.0 and values[0, 0] == 3.5 and values.shape == (4, 6)
    image = picture(values).astype(int)
    assert image.shape == (6, 4, 3)
    bright, half, dark = image[0, 0], image[-1, -1], image[2, 2]
    assert bright.sum() > half.sum() > dark.sum()
    assert np.array_equal(picture(torch.zeros(4, 6))[0, 0], dark)  # nothing to see is no error


def test_each_process_loads_its_part_of_an_epoch(config_path, tiny_settings, tiny_index_dir):
    config = load_config(config_path, tiny_settings)
    index = FrameIndex.open(tiny_index_dir, "mini_train")
    loaders = [training_loader(config, index, 0, Shard(rank, 2)) for rank in (0, 1)]
    assert [len(loader) for loader in loaders] == [1, 1]  # of three frames one is left over
    tokens = [batch.tokens[0] for loader in loaders for batch in loader]
    whole = [batch.tokens[0] for batch in training_loader(config, index, 0)]
    assert tokens == whole[:2]


@pytest.mark.parametrize(("instructions", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_trains_in_bfloat16_where_the_processor_has_it(
    config_path, tiny_settings, tmp_path, monkeypatch, instructions, precision
):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": instructions})
    config = load_config(config_path, [*tiny_settings, "training.precision=auto"])
    trainer = fit.build_trainer(config.training, tmp_path, False, {"accelerator": "cpu", "devices": 1})
    assert trainer.precision == precision
