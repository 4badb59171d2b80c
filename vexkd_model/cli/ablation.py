"""`vexkd ablate`, `record`, `tables`: tables of trainings, run, recorded and drawn."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vexkd_model.cli.arguments import add_command
from vexkd_model.command import positive_int
from vexkd_model.errors import UserError

if TYPE_CHECKING:
    from vexkd_model.ablation.run import Jobs


def _plan_path(text: str) -> Path:
    from vexkd_model.ablation.plan import find_plan

    return find_plan(text)


def ablate(arguments: argparse.Namespace) -> None:
    from vexkd_model.ablation.plan import load_plan
    from vexkd_model.ablation.records import Records
    from vexkd_model.ablation.run import ablate, unfinished_runs
    from vexkd_model.ablation.table import CSV, MARKDOWN

    plan = load_plan(arguments.plan)
    records = Records(arguments.records or arguments.out / "records", plan, arguments.plan.stem)
    if arguments.dry_run:
        for run in unfinished_runs(plan, arguments.out, records):
            for words in run.commands():
                print(shlex.join(["vexkd", *words]))
        return
    ablate(plan, arguments.out, records, _jobs(arguments))
    print((arguments.out / MARKDOWN).read_text(), end="")
    print(f"{arguments.out / MARKDOWN}, {arguments.out / CSV}: written; records in {records.folder}")


def _jobs(arguments: argparse.Namespace) -> "Jobs":
    if arguments.slurm is None:
        from vexkd_model.ablation.local_jobs import LocalJobs

        if arguments.sbatch:
            raise UserError(f"--sbatch {arguments.sbatch[0]}: belongs to --slurm MINUTES")
        return LocalJobs(arguments.jobs or 1)
    try:
        from vexkd_model.ablation.slurm_jobs import SlurmJobs
    except ModuleNotFoundError:
        raise UserError("--slurm: submitit is not installed; pip install submitit") from None
    return SlurmJobs(arguments.out, arguments.slurm, arguments.sbatch, arguments.jobs or sys.maxsize)


def record(arguments: argparse.Namespace) -> None:
    from vexkd_model.ablation.make_record import make_record
    from vexkd_model.ablation.run_record import write_record

    row = arguments.row or arguments.run.resolve().name
    made = make_record(
        arguments.run, row, arguments.plan, arguments.evaluation, arguments.teacher, arguments.teacher_row
    )
    write_record(arguments.out, made)
    print(f"{arguments.out}: written")


def tables(arguments: argparse.Namespace) -> None:
    from vexkd_model.ablation.study import read_studies
    from vexkd_model.ablation.study_report import write_study

    for study in read_studies(arguments.records):
        for path in write_study(arguments.out, study):
            print(f"{path}: written")


def add_commands(commands: argparse._SubParsersAction) -> None:
    _add_ablate(commands)
    _add_record(commands)
    _add_tables(commands)


def _add_ablate(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        ablate,
        "train and evaluate a table of configurations with several seeds",
        "vexkd ablate masks_lidar --out ablations",
    )
    command.add_argument(
        "plan",
        type=_plan_path,
        metavar="PLAN",
        help="a plan's YAML, or the bare name of a shipped one, for example study_lidar",
    )
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of runs and tables; what is finished there is kept, what had begun goes on",
    )
    command.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="folder of the records, DIR/PLAN/ROW-seedN.json; a run with a record is finished, "
        "wherever it was trained (default: OUT/records)",
    )
    command.add_argument(
        "--jobs",
        type=positive_int,
        metavar="N",
        help="runs side by side, with a part of the cores and one of the GPUs each (default: 1); "
        "with --slurm: jobs in its queue (default: all)",
    )
    command.add_argument(
        "--slurm",
        type=positive_int,
        metavar="MINUTES",
        help="make each run a job of SLURM, which goes on after this command has ended, and which "
        "starts again where it was when MINUTES are over",
    )
    command.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="option of sbatch for these jobs, for example partition=gpu, gpus=1 or cpus-per-task=4; may be repeated",
    )
    command.add_argument("--dry-run", action="store_true", help="only print the commands that remain to be run")


def _add_record(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        record,
        "write the record of a run that was trained and evaluated by hand",
        "vexkd record runs/plain --plan study_lidar --out docs/results/runs/study_lidar/plain-seed1.json",
    )
    command.add_argument("run", type=Path, metavar="RUN", help="of vexkd train or vexkd distill")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.json", help="record to write")
    command.add_argument("--row", metavar="NAME", help="row of the tables (default: name of the run folder)")
    command.add_argument("--plan", metavar="NAME", help="plan that the row belongs to")
    command.add_argument(
        "--evaluation", type=Path, metavar="FILE", help="JSON of vexkd evaluate (default: RUN/evaluation.json)"
    )
    command.add_argument(
        "--teacher",
        type=Path,
        metavar="RUN_OR_PACKAGE",
        help="where the teacher of the run lies now (default: where it lay)",
    )
    command.add_argument("--teacher-row", metavar="NAME", help="row of the teacher (default: name of its folder)")


def _add_tables(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        tables,
        "rebuild tables and plots of a study from the records of its runs alone",
        "vexkd tables docs/results/runs/study_lidar --out docs/results",
    )
    command.add_argument(
        "records", type=Path, nargs="+", metavar="DIR", help="folder of records of a plan, or of several such folders"
    )
    command.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where NAME.md, NAME.csv and pictures go, NAME is the plan's",
    )
