"""Records of a plan's runs: one JSON file per run, and the plan's outline, in a folder under version control."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from vexkd_model.ablation.commands import Run
from vexkd_model.ablation.make_record import make_record
from vexkd_model.ablation.outline import outline_of, write_outline
from vexkd_model.ablation.plan import EvaluatedRow, Plan, TrainedRow
from vexkd_model.ablation.run_record import RunIdentity, RunRecord, config_hash, read_record, write_record
from vexkd_model.config import ModelConfig, load_config
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.errors import UserError
from vexkd_model.training.run import CONFIG, LAST_CHECKPOINT, describe_data


class Records:
    """Records folder of one plan. A run with a record is finished, even if its run folder is gone."""

    def __init__(self, folder: Path, plan: Plan, name: str) -> None:
        self.folder, self.plan, self.name = folder / name, plan, name
        self._describe = cache(self._describe_split)

    def data(self, row: TrainedRow) -> dict[str, dict[str, Any]]:
        """Descriptions of a row's training and evaluation data; UserError if a split is not prepared."""
        unlabelled = {"unlabelled": self._describe(row.unlabelled)} if row.unlabelled else {}
        train, evaluated = self.plan.training_split(row), self.plan.splits[1]
        return {"train": self._describe(train), "eval": self._describe(evaluated), **unlabelled}

    def _describe_split(self, split: str) -> dict[str, Any]:
        place = index_folder(self.plan.dataroot, self.plan.version)
        return describe_data(FrameIndex.open(place, split, self.plan.dataroot, self.plan.version))

    def path(self, run: Run) -> Path:
        return self.folder / f"{run.row.name}-seed{run.seed}.json"

    def find(self, run: Run) -> RunRecord | None:
        """Read the run's record, if any; UserError if it is of another configuration, teacher or data."""
        path = self.path(run)
        if not path.is_file():
            return None
        record = read_record(path)
        if changed := record.identity().changes(self.identity(run)):
            raise UserError(
                f"row {run.row.name}: {path} is the record of another run ({', '.join(changed)} differs); "
                "give the row another name, choose another --records, or remove that file"
            )
        return record

    def write(self, run: Run) -> None:
        """Write the record of a finished run, from its folder and evaluation."""
        teacher = self.plan.trained_row(run.row).teacher
        name = teacher if teacher and self.plan.row(teacher) else None
        write_record(self.path(run), make_record(run.folder, run.row.name, self.name, run.figures, teacher_row=name))

    def write_outline(self) -> None:
        write_outline(self.folder, outline_of(self.plan, self.name))

    def check_bases(self, unfinished: Sequence[Run]) -> None:
        """Raise UserError if a run builds on a finished one whose folder is gone."""
        for run in unfinished:
            base = run.base
            if base is None or base in unfinished or (base.folder / LAST_CHECKPOINT).is_file():
                continue
            package = (
                "" if isinstance(run.row, EvaluatedRow) else (f", or give its package as teacher of row {run.row.name}")
            )
            files = " and ".join(str(path) for path in (self.path(base), base.figures) if path.is_file())
            raise UserError(
                f"row {base.row.name}: seed {base.seed} is finished, but {base.folder} is gone and "
                f"{run.name} builds on it; remove {files} to train it again{package}"
            )

    def identity(self, run: Run) -> RunIdentity:
        """Identity of a run as the plan describes it."""
        if isinstance(run.row, EvaluatedRow):
            assert run.base is not None, "it evaluates one"
            return self.identity(run.base)._replace(dropped=run.row.drop)
        teacher = self.teacher(run.row, run.base)
        teacher_identity = teacher and (config_hash(teacher[0]), teacher[1])
        return RunIdentity(config_hash(config_of(run.row)), run.seed, self.data(run.row), None, teacher_identity)

    def teacher(self, row: TrainedRow, base: Run | None) -> tuple[ModelConfig, int] | None:
        """Configuration and seed of a row's teacher; base: its run, if the plan trains it."""
        if row.teacher is None:
            return None
        if base is not None:
            return config_of(self.plan.trained_row(base.row)), base.seed
        config = load_config(Path(row.teacher) / CONFIG)
        return config, config.training.seed


def config_of(row: TrainedRow) -> ModelConfig:
    """Configuration of a row as its run folders hold it, but for the seed."""
    config = load_config(row.config_file, row.overrides)
    return config if row.teacher else config.model_copy(update={"distillation": None})
