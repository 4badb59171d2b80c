"""Plan of an ablation, `config/ablation/*.yaml`: its configurations, seeds and data.

Frozen and checked as a whole before anything runs: hours later would be too late for a wrong key.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Discriminator, Field, Tag, model_validator

from vexkd_model.config import FOLDER as MODELS
from vexkd_model.config import load_config
from vexkd_model.config.reading import find_config, parse_section, read_mapping
from vexkd_model.config.section import Section
from vexkd_model.data.missing_sensor import Sensor, check_droppable
from vexkd_model.data.splits import split_names
from vexkd_model.distill.map_cache import check_cacheable
from vexkd_model.distill.pairing import check_pairing
from vexkd_model.errors import UserError

FOLDER, EXAMPLE = "config/ablation", "masks_lidar.yaml"
RUN_CONFIG = "model.yaml"  # what every run folder holds
SEED, DISTILLATION = "training.seed", "distillation."

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


class TrainedRow(Section):
    """Configuration that is trained with each seed: by itself, or under a teacher."""

    name: Name = Field(description="of the row and of its folder")
    config: Path = Field(description="a model's YAML, or the bare name of one of config/model/")
    teacher: str | None = Field(
        None,
        description="a row above, whose run of the same seed teaches, or else its first "
        "one; or the folder of a run or package",
    )
    set: dict[str, Any] = Field({}, description="keys of the configuration, as --set takes them")
    seeds: Seeds | None = Field(None, description="other ones than the plan's")
    train_split: str | None = Field(None, description="another one than the plan's")
    unlabelled: str | None = Field(
        None, description="split of frames that the teacher alone teaches: --unlabelled of `vexkd distill`"
    )

    @property
    def config_file(self) -> Path:
        return find_config(self.config, MODELS)

    @property
    def overrides(self) -> list[str]:
        """Values of --set, as key=value strings."""
        return [f"{key}={_as_yaml(value)}" for key, value in self.set.items()]

    @model_validator(mode="after")
    def _sets_what_it_may(self) -> "TrainedRow":
        if SEED in self.set:
            raise ValueError(f"set.{SEED}: the seeds of a row are written as seeds: [1, 2]")
        distills = [key for key in self.set if key.startswith(DISTILLATION)]
        if distills and self.teacher is None:
            raise ValueError(f"set.{distills[0]}: belongs to rows with a teacher")
        if self.unlabelled is not None and self.teacher is None:
            raise ValueError("unlabelled: belongs to rows with a teacher")
        return self


class EvaluatedRow(Section):
    """Evaluation of the runs of a row above without one of their sensors."""

    name: Name
    of: str
    drop: Sensor


def _kind_of_row(values: Any) -> Literal["trained", "evaluated"]:
    return "evaluated" if isinstance(values, dict) and "of" in values else "trained"


Row = Annotated[
    Annotated[TrainedRow, Tag("trained")] | Annotated[EvaluatedRow, Tag("evaluated")], Discriminator(_kind_of_row)
]


class Plan(Section):
    """Rows of an ablation, with their data and seeds; paths are relative to the current directory."""

    dataroot: Path = Field(description="prepared nuScenes folder")
    version: str = Field(description="folder of the tables")
    train_split: str | None = Field(None, description="null: the dataset's first one")
    eval_split: str | None = Field(None, description="null: the dataset's last one")
    seeds: Seeds
    workers: Annotated[int, Field(ge=0, description="processes that load data")] = 1
    device: str = Field("auto", description="of the evaluations; a training takes the GPU where there is one")
    cache: Path | None = Field(
        None,
        description="folder of the teachers' maps, which all rows share: --cache of "
        "`vexkd distill`; null: a teacher runs in every step",
    )
    baseline: str | None = Field(None, description="the row that the others are compared with")
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    @property
    def splits(self) -> tuple[str, str]:
        """Names of the training split and of the evaluation split."""
        own = split_names(self.dataroot, self.version)
        return self.train_split or own[0], self.eval_split or own[-1]

    def training_split(self, row: TrainedRow) -> str:
        """Name of the split whose labels train a row."""
        return row.train_split or self.splits[0]

    def row(self, name: str) -> TrainedRow | EvaluatedRow | None:
        return next((row for row in self.rows if row.name == name), None)

    def trained_row(self, row: TrainedRow | EvaluatedRow) -> TrainedRow:
        """Return the row whose runs are trained: the row itself, or the one that it evaluates."""
        if isinstance(row, TrainedRow):
            return row
        trained = self.row(row.of)
        assert isinstance(trained, TrainedRow), "checked when the plan is read"
        return trained

    def seeds_of(self, row: TrainedRow | EvaluatedRow) -> Seeds:
        return self.trained_row(row).seeds or self.seeds

    @model_validator(mode="after")
    def _rows_build_on_rows_above(self) -> "Plan":
        names = [row.name for row in self.rows]
        for i, row in enumerate(self.rows):
            if row.name in names[:i]:
                raise ValueError(f"row {row.name}: stands twice; give every row a name of its own")
            key, base = ("of", row.of) if isinstance(row, EvaluatedRow) else ("teacher", row.teacher)
            trained_above = [other.name for other in self.rows[:i] if isinstance(other, TrainedRow)]
            if (key == "of" or base in names) and base not in trained_above:
                raise ValueError(f"row {row.name}: {key} {base}: is no row above it that trains")
        if self.baseline is not None and self.baseline not in names:
            raise ValueError(f"baseline {self.baseline}: is no row")
        return self

    @model_validator(mode="after")
    def _seeds_once(self) -> "Plan":
        for seeds in (self.seeds, *map(self.seeds_of, self.rows)):
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"seeds {list(seeds)}: one stands twice")
        return self


def find_plan(name: str) -> Path:
    """Find the file of a shipped plan by bare name (`study_lidar`); return any other path as it is."""
    return find_config(name, FOLDER)


def load_plan(path: Path) -> Plan:
    """Read and check a plan; UserError also for a file or teacher that is missing or does not fit."""
    plan = parse_section(Plan, read_mapping(path, "plan", FOLDER, EXAMPLE), str(path), "plan")
    try:
        _ = plan.splits
    except UserError as error:
        raise UserError(f"{path}: version: {error}") from None
    for row in plan.rows:
        try:
            _check_files(plan, row)
        except UserError as error:
            raise UserError(f"{path}: row {row.name}: {error}") from None
    return plan


def _check_files(plan: Plan, row: TrainedRow | EvaluatedRow) -> None:
    if isinstance(row, EvaluatedRow):
        trained = plan.trained_row(row)
        check_droppable(load_config(trained.config_file, trained.overrides), row.drop)
        return
    config = load_config(row.config_file, row.overrides)
    if row.teacher is None:
        return
    above, run = plan.row(row.teacher), Path(row.teacher) / RUN_CONFIG
    if isinstance(above, TrainedRow):
        teacher = load_config(above.config_file, above.overrides)
    elif run.is_file():
        teacher = load_config(run)
    else:
        raise UserError(f"teacher {row.teacher}: neither a row above nor the folder of a run or package")
    settings = check_pairing(config, teacher)
    if plan.cache is not None:
        check_cacheable(config.training, settings)


def _as_yaml(value: Any) -> str:
    """Write a value as YAML in one line, without the document end that follows a scalar."""
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()
