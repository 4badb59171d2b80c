"""A plan over hand-made data: the configurations that are shipped, shrunk, in files of their own."""

import pytest
import yaml
from tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.config import dump_config, load_config
from vexkd_model.data.index import index_folder
from vexkd_model.data.prepare import prepare


@pytest.fixture(scope="session")
def plan_values(config_path, tiny_config, tiny_teacher, tmp_path_factory):
    """A correct plan as a mapping, with every key; its files exist, and its data is prepared."""
    folder = tmp_path_factory.mktemp("ablation")
    teacher, student = folder / "teacher.yaml", folder / "student.yaml"
    shipped = config_path.with_name("vexkd_teacher_small.yaml")
    teacher.write_text(dump_config(load_config(shipped, tiny_teacher)))
    student.write_text(dump_config(tiny_config))
    data = write_tiny_nuscenes(folder / "data")
    prepare(data, "v1.0-mini", index_folder(data, "v1.0-mini"))
    one_epoch = {"training.epochs": 1}
    return {
        "dataroot": str(data), "version": "v1.0-mini", "train_split": "mini_train", "eval_split": "mini_val",
        "seeds": [1, 2], "workers": 0, "device": "cpu", "baseline": "plain", "rows": [
            {"name": "teacher", "config": str(teacher), "seeds": [1], "set": one_epoch},
            {"name": "plain", "config": str(student), "set": one_epoch},
            {"name": "vexkd", "config": str(student), "teacher": "teacher",
             "set": {**one_epoch, "distillation.masks": "fusion_queries", "distillation.levels": ["low", "high"]}},
            {"name": "teacher_without_lidar", "of": "teacher", "drop": "lidar"},
        ],
    }  # fmt: skip


@pytest.fixture
def written(plan_values, tmp_path):
    """Write that plan to a file, with other values for some keys."""

    def write(**changed):
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(plan_values | changed, sort_keys=False))
        return path

    return write
