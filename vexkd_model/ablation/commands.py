"""Runs of an ablation: each row with each of its seeds, as `vexkd` commands, and the paths of their results."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vexkd_model.ablation.plan import SEED, EvaluatedRow, Plan, TrainedRow


@dataclass(frozen=True)
class Run:
    """Run of a row of the plan with one seed.

    base: the run that it builds on: its teacher's, or the one that it evaluates. training, evaluation: words after
    `vexkd`; no training for an EvaluatedRow. folder: of the trained model. figures: the evaluation's JSON, which is
    there when the run is finished.
    """

    row: TrainedRow | EvaluatedRow
    seed: int
    base: "Run | None"
    training: tuple[str, ...]
    evaluation: tuple[str, ...]
    folder: Path
    figures: Path

    @property
    def name(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def log(self) -> Path:
        """File of what its commands print."""
        return self.figures.with_suffix(".log")

    @property
    def finished(self) -> bool:
        return self.figures.is_file()

    def commands(self) -> Iterator[list[str]]:
        """Commands to run one after the other; a training that had begun is resumed."""
        if self.training:
            begun = self.folder.is_dir() and any(self.folder.iterdir())
            yield [*self.training, *(["--resume"] if begun else [])]
        yield list(self.evaluation)


def runs_of(plan: Plan, out: Path) -> list[Run]:
    """List the runs of a plan in the order of its rows, so that each follows the one that it builds on."""
    runs: dict[tuple[str, int], Run] = {}
    for row in plan.rows:
        for seed in plan.seeds_of(row):
            if isinstance(row, EvaluatedRow):
                run = _evaluated(plan, out / row.name, row, seed, runs[row.of, seed])
            else:
                run = _trained(plan, out / row.name, row, seed, _teacher_run(plan, runs, row, seed))
            runs[row.name, seed] = run
    return list(runs.values())


def _teacher_run(plan: Plan, runs: Mapping[tuple[str, int], Run], row: TrainedRow, seed: int) -> Run | None:
    """Find the run of the teacher's row with the same seed, or else with its first; None without such a row."""
    teacher = plan.row(row.teacher) if row.teacher else None
    if teacher is None:
        return None
    seeds = plan.seeds_of(teacher)
    return runs[teacher.name, seed if seed in seeds else seeds[0]]


def _trained(plan: Plan, place: Path, row: TrainedRow, seed: int, teacher: Run | None) -> Run:
    words = ["train", str(row.config)]
    if row.teacher:
        words = ["distill", str(row.config), "--teacher", str(teacher.folder) if teacher else row.teacher]
        words += ["--cache", str(plan.cache)] if plan.cache else []
    folder, figures = place / f"seed{seed}", place / f"seed{seed}.json"
    if row.unlabelled:
        words += ["--unlabelled", f"{plan.dataroot}:{plan.version}:{row.unlabelled}"]
    words += [*_data(plan, plan.training_split(row)), "--out", str(folder), "--workers", str(plan.workers)]
    for override in (*row.overrides, f"{SEED}={seed}"):
        words += ["--set", override]
    return Run(row, seed, teacher, tuple(words), _evaluation(plan, folder, figures), folder, figures)


def _evaluated(plan: Plan, place: Path, row: EvaluatedRow, seed: int, trained: Run) -> Run:
    figures = place / f"seed{seed}.json"
    words = (*_evaluation(plan, trained.folder, figures), "--drop", row.drop)
    return Run(row, seed, trained, (), words, trained.folder, figures)


def _evaluation(plan: Plan, folder: Path, figures: Path) -> tuple[str, ...]:
    return ("evaluate", str(folder), *_data(plan, plan.splits[1]), "--device", plan.device, "--json", str(figures))


def _data(plan: Plan, split: str) -> tuple[str, ...]:
    return "--dataroot", str(plan.dataroot), "--version", plan.version, "--split", split
