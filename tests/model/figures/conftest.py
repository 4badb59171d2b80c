"""Real runs, tiny: a teacher, a plain student, and students that it taught, one of each task."""

import pytest
import torch

from vexkd_model.config import load_config
from vexkd_model.config.distill import DistillationConfig
from vexkd_model.training.distill import distill
from vexkd_model.training.train import quiet_lightning, train

TINY_MASKS = {"mask_blocks": 1, "mask_heads": 2, "mask_points": 2, "mask_feedforward": 16}
EPOCHS = 4  # of three steps each: the log writes every tenth


@pytest.fixture(scope="session")
def runs(config_path, tiny_config, tiny_teacher, tiny_index, tmp_path_factory):
    """Folder of the runs teacher, plain, detection and segmentation; the last two are distilled."""
    folder = tmp_path_factory.mktemp("runs")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    quiet_lightning()
    student = tiny_config.model_copy(
        update={
            "training": tiny_config.training.model_copy(update={"epochs": EPOCHS}),
            "distillation": DistillationConfig(**TINY_MASKS),
        }
    )
    teacher = load_config(config_path.with_name("vexkd_teacher_small.yaml"), (*tiny_teacher, "training.epochs=1"))
    alone = {"workers": 0, "resume": False, "interactive": False}
    train(teacher, tiny_index, folder / "teacher", **alone)
    train(student, tiny_index, folder / "plain", **alone)
    one_task = {
        "detection": {"segmentation": None},
        "segmentation": {"detection": None, "distillation": DistillationConfig(**TINY_MASKS, levels=("high",))},
    }
    for name, without in one_task.items():
        distill(student.model_copy(update=without), folder / "teacher", tiny_index, folder / name, **alone)
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="session")
def of_first_frame(tiny_dataroot, tiny_index_dir):
    """Arguments of a command that draws the first frame of the training split."""
    return ["--dataroot", str(tiny_dataroot), "--version", "v1.0-mini", "--index", str(tiny_index_dir)]


@pytest.fixture
def saved(monkeypatch):
    """The figures that were saved, by name of the picture, before they become pixels; the pictures are written, too."""
    from vexkd_model.figures.bev_axes import save_figure

    figures = {}
    for kind in ("bev", "masks", "fusion", "students", "losses", "blocks", "scores"):
        monkeypatch.setattr(
            f"vexkd_model.figures.{kind}_figure.save_figure",
            lambda figure, path: (figures.update({path.name: figure}), save_figure(figure, path)),
        )
    return figures
