"""Report of a benchmark: the measured figures as JSON, and as Markdown tables that fit a terminal and a document."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vexkd_model.bench.inference import Latency
from vexkd_model.bench.rates import Rates
from vexkd_model.bench.training import LoadingRate, StepRate


@dataclass(frozen=True)
class PackageReport:
    """Figures of one package. frames: on which inference was measured. loading, steps: None and empty without data."""

    package: str
    frames: str
    latency: list[Latency]
    loading: LoadingRate | None
    steps: list[StepRate]


def as_json(machine: dict[str, Any], rates: Rates, packages: Sequence[PackageReport]) -> dict[str, Any]:
    """Collect everything that was measured; units are in the fields' names."""
    return {"machine": machine, "rates": asdict(rates), "packages": [asdict(package) for package in packages]}


def rates_text(rates: Rates) -> str:
    """Write the measured rates as one line."""
    products = ", ".join(f"{precision} {gflops:.0f}" for precision, gflops in rates.gflops.items())
    return f"Matrix products: {products} GFLOP/s. Memory: {rates.gbytes:.1f} GB/s copied, read and written."


def package_text(report: PackageReport) -> str:
    """Write the tables of one package."""
    parts = [f"## {report.package}\n\nInference on {report.frames}:\n\n{_latency_table(report.latency)}"]
    if report.loading is not None:
        loading = report.loading
        parts.append(
            f"Training loader, one process: {loading.frames_per_s:.0f} frames/s, {loading.ms_a_frame:.1f} ms a frame; "
            f"copying its tensors would take {loading.floor_ms:.2f} ms."
        )
    if report.steps:
        parts.append(f"Training step, without loading:\n\n{_step_table(report.steps)}")
    return "\n\n".join(parts)


def _latency_table(rows: Sequence[Latency]) -> str:
    heads = ("part", "runtime", "ms", "times as fast", "FLOPs alone [ms]", "bytes alone [ms]", "share of the rate")
    return markdown(
        heads,
        [
            (
                row.part,
                row.runtime,
                f"{row.ms:.1f}",
                f"{row.times_as_fast:.2f}",
                _number(row.flops_floor_ms, 1),
                f"{row.memory_floor_ms:.1f}",
                _percent(row.rate_share),
            )
            for row in rows
        ],
        words=2,
    )


def _step_table(rows: Sequence[StepRate]) -> str:
    heads = (
        "computed by",
        "frames/s",
        "s a step",
        "times as fast",
        "FLOPs alone [s]",
        "share of the rate",
        "losses differ by",
    )
    return markdown(
        heads,
        [
            (
                row.way,
                f"{row.frames_per_s:.2f}",
                f"{row.seconds:.2f}",
                f"{row.times_as_fast:.2f}",
                _number(row.flops_floor_s, 2),
                _percent(row.rate_share),
                f"{row.loss_difference:.0e}",
            )
            for row in rows
        ],
        words=1,
    )


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    """Write an aligned Markdown table whose first `words` columns are text, and the others numbers."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i < words else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if i < words else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join(map(line, (heads, rule, *rows)))
