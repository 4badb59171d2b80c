"""Table of an ablation: means, deviations and differences of finished runs, as computed by hand."""

import csv
import json

import numpy as np
import pytest

from vexkd_model.ablation.plan import load_plan
from vexkd_model.ablation.table import difference, spread, write_tables

# mAP, NDS, mIoU by row and seed
FIGURES = {
    "teacher/seed1": (0.7, 0.65, 0.5),
    "plain/seed1": (0.40, 0.45, 0.30),
    "plain/seed2": (0.44, 0.46, 0.31),
    "vexkd/seed1": (0.50, 0.47, None),
    "vexkd/seed2": (0.52, 0.49, None),
}


@pytest.fixture
def tables(plan_values, written, tmp_path):
    """Write the tables of a plan from these figures: (markdown, csv rows)."""

    def write(figures, **changed):
        for name, (mean_ap, nd_score, mean_iou) in figures.items():
            path = tmp_path / "out" / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps(
                    {
                        "detection": {"mean_ap": mean_ap, "nd_score": nd_score},
                        "map": None if mean_iou is None else {"mean_iou": mean_iou},
                    }
                )
            )
        write_tables(load_plan(written(**changed)), tmp_path / "out")
        with (tmp_path / "out" / "table.csv").open() as file:
            rows = {row["row"]: row for row in csv.DictReader(file)}
        return (tmp_path / "out" / "table.md").read_text(), rows

    return write


def test_a_table_shows_means_deviations_and_differences_to_the_baseline(tables):
    text, _ = tables(FIGURES)
    # plain: ±0.02 around 0.42 is 0.028; the difference's error is √(0.028²/2 + 0.014²/2)
    assert text == (
        "| row | seeds | mAP | NDS | mIoU | mAP − plain | NDS − plain | mIoU − plain |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| teacher | 1 of 1 | 0.700 | 0.650 | 0.500 | +0.280 | +0.195 | +0.195 |\n"
        "| plain | 2 of 2 | 0.420 ± 0.028 | 0.455 ± 0.007 | 0.305 ± 0.007 | – | – | – |\n"
        "| vexkd | 2 of 2 | 0.510 ± 0.014 | 0.480 ± 0.014 | – | +0.090 ± 0.022 | +0.025 ± 0.011 | – |\n"
        "| teacher_without_lidar | 0 of 1 | – | – | – | – | – | – |\n"
    )


def test_the_same_figures_are_in_the_csv_in_full(tables):
    _, rows = tables(FIGURES)
    plain, vexkd = rows["plain"], rows["vexkd"]
    assert float(plain["mAP_mean"]) == pytest.approx(0.42) and plain["mAP_difference"] == ""
    assert float(plain["mAP_std"]) == pytest.approx(np.std([0.40, 0.44], ddof=1), rel=1e-12)
    assert float(vexkd["NDS_difference"]) == pytest.approx(0.025)
    errors = np.std([0.47, 0.49], ddof=1), np.std([0.45, 0.46], ddof=1)
    assert float(vexkd["NDS_standard_error"]) == pytest.approx(np.hypot(*errors) / np.sqrt(2), rel=1e-12)
    assert vexkd["mIoU_mean"] == vexkd["mIoU_difference"] == "" and rows["teacher"]["mAP_std"] == ""
    assert (vexkd["seeds_done"], vexkd["seeds"]) == ("2", "2") and rows["teacher_without_lidar"]["seeds_done"] == "0"


def test_without_a_baseline_there_are_no_differences(tables):
    text, rows = tables(FIGURES, baseline=None)
    assert text.startswith("| row | seeds | mAP | NDS | mIoU |\n") and "mAP_difference" not in rows["plain"]


def test_a_table_begins_before_the_first_run_is_finished(tables):
    text, rows = tables({})
    assert text.count("| 0 of 2 | – | – | – |") == 2 and rows["plain"]["mAP_mean"] == ""


def test_the_standard_error_counts_each_rows_own_seeds():
    rng = np.random.default_rng(0)
    row, baseline = rng.normal(0.5, 0.02, 3), rng.normal(0.4, 0.05, 7)
    found = difference(spread(row.tolist()), spread(baseline.tolist()))
    assert found.value == pytest.approx(row.mean() - baseline.mean())
    assert found.error == pytest.approx(np.sqrt(row.var(ddof=1) / 3 + baseline.var(ddof=1) / 7))
