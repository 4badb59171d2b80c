"""Plan over hand-made data, with the shipped configurations shrunk, in files of their own."""

import pytest
import yaml
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.ablation.run_record import Figures, RunRecord, config_hash
from vexkd_model.config import dump_config, load_config
from vexkd_model.data.index import index_folder
from vexkd_model.data.prepare import prepare


@pytest.fixture(scope="session")
def plan_values(config_path, tiny_config, tiny_teacher, tmp_path_factory):
    """Make a correct plan as a mapping, with every key; its files exist, and its data is prepared."""
    folder = tmp_path_factory.mktemp("ablation")
    teacher, student = folder / "teacher.yaml", folder / "student.yaml"
    shipped = config_path.with_name("vexkd_teacher_small.yaml")
    teacher.write_text(dump_config(load_config(shipped, tiny_teacher)))
    student.write_text(dump_config(tiny_config))
    data = write_tiny_nuscenes(folder / "data")
    prepare(data, "v1.0-mini", index_folder(data, "v1.0-mini"))
    one_epoch = {"training.epochs": 1}
    return {
        "dataroot": str(data),
        "version": "v1.0-mini",
        "train_split": "mini_train",
        "eval_split": "mini_val",
        "seeds": [1, 2],
        "workers": 0,
        "device": "cpu",
        "baseline": "plain",
        "rows": [
            {"name": "teacher", "config": str(teacher), "seeds": [1], "set": one_epoch},
            {"name": "plain", "config": str(student), "set": one_epoch},
            {
                "name": "vexkd",
                "config": str(student),
                "teacher": "teacher",
                "set": {**one_epoch, "distillation.masks": "fusion_queries", "distillation.levels": ["low", "high"]},
            },
            {"name": "teacher_without_lidar", "of": "teacher", "drop": "lidar"},
        ],
    }


@pytest.fixture
def written(plan_values, tmp_path):
    """Write that plan to a file, with other values for some keys."""

    def write(**changed):
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(plan_values | changed, sort_keys=False))
        return path

    return write


@pytest.fixture
def fake_record():
    """Make a record of an untrained run with made-up figures: mAP 0.40 plus 0.01 a seed."""

    def make(records, run, mean_ap=None, mean_iou=None, ap=None):
        mean_ap = 0.39 + 0.01 * run.seed if mean_ap is None else mean_ap
        trained = run.base if run.base and run.base.folder == run.folder else run
        config = load_config(trained.row.config, [*trained.row.overrides, f"training.seed={run.seed}"])
        if trained.row.teacher is None:
            config = config.model_copy(update={"distillation": None})
        identity = records.identity(run)
        of = records.teacher(trained.row, trained.base)
        teacher = of and {
            "row": trained.row.teacher,
            "seed": of[1],
            "config": of[0].model_dump(mode="json"),
            "fingerprint": "f" * 64,
        }
        steps = list(range(9, 609, 10))
        total = [round(3 - step / 300, 3) for step in steps]
        terms = {"heatmap": total, **({"distill_high": total} if teacher else {})}
        return RunRecord(
            plan=records.name,
            row=run.row.name,
            seed=run.seed,
            config=config.model_dump(mode="json"),
            config_hash=config_hash(config),
            data=records.data(trained.row),
            dropped=identity.dropped,
            source_revision="a" * 40,
            torch="2.0",
            machine={"processor": "P", "cores": 2, "memory_gib": 8, "gpu": None},
            commands={"train": "vexkd train", "evaluate": "vexkd evaluate"},
            teacher=teacher,
            figures=Figures(
                mAP=mean_ap,
                NDS=mean_ap + 0.05,
                mATE=0.5,
                mASE=0.3,
                mAOE=1.0,
                mAVE=2.0,
                mAAE=0.4,
                AP=ap or {"car": mean_ap, "bus": 0.5},
                mIoU=mean_iou,
                IoU=None if mean_iou is None else {"divider": mean_iou},
            ),
            training={
                "seconds": 3600.0,
                "steps": 608,
                "epochs": 1,
                "loss": {"steps": steps, "total": total, "terms": terms},
            },
        )

    return make
