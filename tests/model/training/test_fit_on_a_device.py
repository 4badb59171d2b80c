"""A distillation on a device that is not the CPU: loader, teacher, cache of its maps, moving average, checkpoint."""

import pytest
from lightning.pytorch.strategies import SingleDeviceStrategy
from support.pretend_device import DEVICE, NAME, PretendAccelerator

from vexkd_model.config import load_config
from vexkd_model.config.distill import DistillationConfig
from vexkd_model.data.dataset import load_frame
from vexkd_model.deploy.package import save_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.model import build_model
from vexkd_model.training import distill as distillation
from vexkd_model.training.run import load_run

SETTINGS = {"mask_blocks": 1, "mask_heads": 2, "mask_points": 2, "mask_feedforward": 16}
PLAIN = "training.augment={rotation: 0.0, scale: 0.0, translation: 0.0, flip: false}"  # as a cache needs it


@pytest.fixture(scope="module")
def teacher(config_path, tiny_teacher, tmp_path_factory):
    config = load_config(config_path.with_name("vexkd_teacher_small.yaml"), tiny_teacher)
    folder = tmp_path_factory.mktemp("packages") / "teacher"
    save_package(folder, build_model(config), config, {}, {}, "test")
    return folder


@pytest.fixture
def on_the_device(monkeypatch):
    """Trainings on the device: `--device` knows GPUs alone."""
    processes = {"accelerator": PretendAccelerator(), "strategy": SingleDeviceStrategy(DEVICE)}
    monkeypatch.setattr(distillation, "trainer_arguments", lambda *numbers, **others: processes)


@pytest.mark.parametrize("cached", [pytest.param(False, marks=pytest.mark.slow), True], ids=["teacher", "cache"])
def test_a_distillation_runs_and_its_student_predicts_on_the_cpu(
    cached, config_path, tiny_settings, teacher, tiny_index, tmp_path, on_the_device, capsys
):
    settings = (*tiny_settings, "training.epochs=1", "training.ema=0.9", PLAIN)
    config = load_config(config_path, settings).model_copy(update={"distillation": DistillationConfig(**SETTINGS)})
    cache = {"cache": tmp_path / "maps"} if cached else {}
    distillation.distill(
        config, teacher, tiny_index, tmp_path / "run", 0 if cached else 1, False, False, device=NAME, **cache
    )
    assert f"run: on {NAME}" in capsys.readouterr().err
    if cached:
        assert len(list(tmp_path.glob("maps/*/*.safetensors"))) == len(tiny_index)
    student, stored, _ = load_run(tmp_path / "run")
    assert {parameter.device.type for parameter in student.parameters()} == {"cpu"}
    prediction = Predictor(student, stored, None, "cpu").predict(load_frame(tiny_index, 0, stored))
    assert prediction.map_probabilities.shape == (6, 200, 200)
