"""Report of a study: tables as Markdown and CSV, and pictures; equal records give equal bytes."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from vexkd_model.ablation.run_record import Figures
from vexkd_model.ablation.study import Comparison, Study, StudyRow, compare
from vexkd_model.ablation.study_figure import plot_study
from vexkd_model.ablation.table import ABSENT, METRICS, Difference, format_difference, format_spread, spread
from vexkd_model.files import atomic_file

ERRORS = {"mATE": "m", "mASE": "1 − IoU", "mAOE": "rad", "mAVE": "m/s", "mAAE": "1 − accuracy"}
PER_CLASS = {"AP": "mAP", "IoU": "mIoU"}  # with their means
HOUR = 3600.0


def write_study(out: Path, study: Study) -> list[Path]:
    """Write NAME.md, NAME.csv and NAME_….png of the finished runs; return the paths."""
    pictures = plot_study(out, study)
    table, report = out / f"{study.name}.csv", out / f"{study.name}.md"
    for path, text in ((table, comma_separated(study)), (report, markdown(study, [path.name for path in pictures]))):
        with atomic_file(path) as partial:
            partial.write_text(text)
    return [report, table, *pictures]


def markdown(study: Study, pictures: Sequence[str] = ()) -> str:
    parts = [f"# {study.name}", _preface(study), _scores(study), _errors(study)]
    parts += [_per_class(study, key) for key in PER_CLASS]
    parts += ["## Cost of training", _cost(study), *_teachers(study)]
    parts += [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in pictures]
    return "\n\n".join(part for part in parts if part) + "\n"


def comma_separated(study: Study) -> str:
    """Format one line per finished run, numbers in full; a field is empty if the model has no head for it."""
    classes = {key: _classes(study, key) for key in PER_CLASS}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    names = [*METRICS, *ERRORS]
    table.writerow(["row", "seed", *names, *(f"{key}_{name}" for key, of in classes.items() for name in of)])
    for row in study.rows:
        for seed, record in row.records.items():
            figures = record.figures
            table.writerow(
                [
                    row.name,
                    seed,
                    *(getattr(figures, name) for name in names),
                    *((getattr(figures, key) or {}).get(name) for key, of in classes.items() for name in of),
                ]
            )
    return text.getvalue()


def _preface(study: Study) -> str:
    lines = ["Written by `vexkd tables` from the records of the runs; changes by hand are lost."]
    lines += [
        f"{use}: {_data(record.data[split])}."
        for record in study.records[:1]
        for use, split in (("Trained on", "train"), ("Evaluated on", "eval"))
    ]
    lines += _other_data(study)
    lines.append("Mean ± sample standard deviation over seeds; a plain number is one seed, – is no head or no run yet.")
    if study.baseline:
        lines.append(
            f"Differences are to {study.baseline.name}, ± their standard error: *paired* by seed where both "
            "rows have the same seeds, sd(d)/√n of the differences d; otherwise *independent*, "
            "√(s²/n + s₀²/n₀)."
        )
        lines += _other_revisions(study.rows, study.baseline)
    return "\n".join(lines)


def _data(described: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in described.items())


def _other_data(study: Study) -> list[str]:
    """Name the rows that were trained on other frames than the first one, and those with frames without labels."""
    lines = []
    for row in study.rows:
        for record in list(row.records.values())[:1]:
            if record.data["train"] != study.records[0].data["train"]:
                lines.append(f"Row {row.name} was trained on: {_data(record.data['train'])}.")
            if "unlabelled" in record.data:
                lines.append(f"Without labels, row {row.name} saw: {_data(record.data['unlabelled'])}.")
    return lines


def _other_revisions(rows: Sequence[StudyRow], baseline: StudyRow) -> list[str]:
    """Name the rows of which a seed was trained by a revision of the code that trained no seed of the baseline."""
    ours = {record.source_revision for record in baseline.records.values()}
    others = [row.name for row in rows if {record.source_revision for record in row.records.values()} - ours]
    if not ours or not others:
        return []
    return [
        f"Trained by another revision of the code than {baseline.name}, so that what the code changed is in their "
        f"differences, too: {', '.join(others)} (revisions below)."
    ]


def _scores(study: Study) -> str:
    baseline = study.baseline
    header = ["row", "seeds", *METRICS]
    if baseline:
        header += [*(f"{metric} − {baseline.name}" for metric in METRICS), "standard error"]
    rows = []
    for row in study.rows:
        cells = [row.name, _progress(row), *(_mean(row, _figure(metric)) for metric in METRICS)]
        if baseline:
            compared = [
                None if row is baseline else compare(row.values(_figure(metric)), baseline.values(_figure(metric)))
                for metric in METRICS
            ]
            cells += [*map(_difference, compared), _kind(compared)]
        rows.append(cells)
    return _table(header, rows)


def _errors(study: Study) -> str:
    return _table(
        ["row", *(f"{name} [{unit}]" for name, unit in ERRORS.items())],
        [[row.name, *(_mean(row, _figure(name)) for name in ERRORS)] for row in study.rows],
    )


def _per_class(study: Study, key: str) -> str:
    rows = [row for row in study.rows if any(getattr(record.figures, key) for record in row.records.values())]
    if not rows:
        return ""
    lines = [[name, *(_mean(row, _class_figure(key, name)) for row in rows)] for name in _classes(study, key)]
    return f"## {key} of each class\n\n" + _table(
        [key, *(row.name for row in rows)],
        [*lines, [PER_CLASS[key], *(_mean(row, _figure(PER_CLASS[key])) for row in rows)]],
    )


def _cost(study: Study) -> str:
    """Table of training cost, without rows that only evaluate the runs of another row."""
    rows = []
    for row in study.rows:
        records = [record for record in row.records.values() if record.dropped is None]
        if not records:
            continue
        seconds = [record.training.seconds for record in records if record.training.seconds is not None]
        hours = spread([value / HOUR for value in seconds])
        steps = sorted({record.training.steps for record in records})
        machines = sorted({_machine(record.machine) for record in records})
        revisions = sorted({record.source_revision[:10] for record in records})
        rows.append(
            [
                row.name,
                ", ".join(map(str, steps)),
                f"{hours.mean:.2f}" if hours else ABSENT,
                "; ".join(machines),
                ", ".join(revisions),
            ]
        )
    return _table(["row", "optimiser steps", "hours", "machine", "source revision"], rows)


def _machine(kind: dict[str, str | int | None] | None) -> str:
    if kind is None:
        return "unknown"
    return f"{kind['cores']} cores {kind['processor']}" + (f", {kind['gpu']}" if kind["gpu"] else "")


def _teachers(study: Study) -> list[str]:
    """List the teachers that were trained again between their students, and so had several sets of weights."""
    weights: dict[tuple[str, int], set[str]] = {}
    for record in study.records:
        if record.teacher:
            weights.setdefault((record.teacher.row, record.teacher.seed), set()).add(record.teacher.fingerprint)
    return [
        f"Teacher {row}, seed {seed}, has taught with {len(prints)} different sets of weights: "
        f"{', '.join(sorted(name[:8] for name in prints))}."
        for (row, seed), prints in sorted(weights.items())
        if len(prints) > 1
    ]


def _classes(study: Study, key: str) -> list[str]:
    """Class names of a figure, in alphabetical order, as the records hold them."""
    return sorted({name for record in study.records for name in getattr(record.figures, key) or {}})


def _figure(name: str) -> Callable[[Figures], float | None]:
    return lambda figures: getattr(figures, name)


def _class_figure(key: str, name: str) -> Callable[[Figures], float | None]:
    return lambda figures: (getattr(figures, key) or {}).get(name)


def _progress(row: StudyRow) -> str:
    """Number of finished and of planned seeds; a recorded seed beyond the plan counts as planned."""
    return f"{len(row.records)} of {len({*row.planned, *row.records})}"


def _mean(row: StudyRow, figure: Callable[[Figures], float | None]) -> str:
    return format_spread(spread(list(row.values(figure).values())))


def _difference(compared: Comparison | None) -> str:
    return format_difference(compared and Difference(compared.value, compared.error))


def _kind(compared: Sequence[Comparison | None]) -> str:
    """Kind of the errors of a row, paired or independent; all figures of a row are of the same seeds."""
    kinds = {"paired" if one.paired else "independent" for one in compared if one and one.error is not None}
    return ", ".join(sorted(kinds)) or ABSENT


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))
