"""`vexkd plot blocks` draws the figures of an ablation's table, with their spread."""

import re

import cv2
import pytest
from matplotlib.container import ErrorbarContainer

from vexkd_model.ablation.table import CSV, RowFigures, comma_separated, spread
from vexkd_model.cli import main

FIGURES = {
    "plain": (0.40, 0.44),
    "lidar_blocks_1": (0.45, 0.47),
    "lidar_blocks_6": (0.52, 0.50),
    "lidar_blocks_3": (0.51,),
    "camera_blocks_2": (0.2, 0.3),
}


@pytest.fixture
def table(tmp_path):
    """table.csv as `vexkd ablate` writes it, of these mAP by row and seed; the last row has not begun."""

    def write(baseline):
        rows = [
            RowFigures(name, len(values), 2, {"mAP": spread(values), "NDS": None, "mIoU": None})
            for name, values in {**FIGURES, "lidar_blocks_9": ()}.items()
        ]
        (tmp_path / CSV).write_text(comma_separated(rows, baseline))
        return tmp_path / CSV

    return write


def drawn(figure):
    """Curves by label, each as {blocks: (mean, lower end, upper end)}."""
    curves = {}
    for bars in figure.axes[0].containers:
        assert isinstance(bars, ErrorbarContainer)
        ends = [segment[:, 1] for segment in bars.lines[2][0].get_segments()]
        curves[bars.get_label()] = {
            int(x): (y, *end) for (x, y), end in zip(bars.lines[0].get_xydata(), ends, strict=True)
        }
    return curves


def test_points_and_bars_are_the_tables_means_and_deviations(table, saved, tmp_path):
    main(["plot", "blocks", str(table("plain")), "--out", str(tmp_path / "blocks.png")])
    assert cv2.imread(str(tmp_path / "blocks.png")) is not None
    curves = drawn(saved["blocks.png"])
    assert set(curves) == {"lidar, 1 … 2 seeds", "camera, 2 seeds"}
    lidar = curves["lidar, 1 … 2 seeds"]
    assert list(lidar) == [1, 3, 6]
    spread = 0.01 * 2**0.5  # of two values 0.02 apart
    assert lidar[1] == pytest.approx((0.46, 0.46 - spread, 0.46 + spread))
    assert lidar[3] == pytest.approx((0.51, 0.51, 0.51)) and lidar[6][0] == pytest.approx(0.51)


def test_the_baseline_is_a_line_across(table, saved, tmp_path):
    for baseline, expected in (("plain", ["plain, 2 seeds"]), (None, [])):
        main(["plot", "blocks", str(table(baseline)), "--out", str(tmp_path / "a.png")])
        lines = {line.get_label(): line for line in saved["a.png"].axes[0].lines if line.get_linestyle() == "--"}
        assert list(lines) == expected
        assert all(line.get_ydata() == pytest.approx([0.42, 0.42]) for line in lines.values())


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("a,b\n1,2\n", "row: no such column"),
        (None, "cannot be read as a table"),
        ("row,seeds_done,mAP_mean,mAP_std\nplain,1,0.4,\n", "no row with mAP is named …blocks_N"),
        ("row,seeds_done,mAP_mean,mAP_std\nblocks_2,0,,\n", "no row with mAP"),
        ("", "no row with mAP"),
        ("row,seeds_done,mAP_mean,mAP_std\nblocks_2,1,much,\n", "damaged"),
        ("\0\n1\n", "no such column|cannot be read as a table"),  # before Python 3.11, csv refuses null bytes
    ],
)
def test_another_file_is_one_line(tmp_path, content, named):
    path = tmp_path / "table.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as error:
        main(["plot", "blocks", str(path), "--out", str(tmp_path / "a.png")])
    assert error.value.code.startswith(f"vexkd: {path}: ") and re.search(named, error.value.code)
    assert "\n" not in error.value.code and not (tmp_path / "a.png").exists()
