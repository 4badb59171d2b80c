"""`vexkd plot losses` draws what the logs say, of resumed runs, too."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from vexkd_model.cli import main
from vexkd_model.errors import UserError
from vexkd_model.figures.losses_figure import losses_figure, short_names, smoothed
from vexkd_model.training.read_losses import Curve, read_losses


def write_log(run, version, header, *lines):
    path = run / "log" / f"version_{version}" / "metrics.csv"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join([header, *lines]) + "\n")


def panels(figure):
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def test_the_curve_of_a_real_run_is_its_log(runs, saved, tmp_path):
    main(["plot", "losses", str(runs / "plain"), str(runs / "detection"), "--out", str(tmp_path / "losses.png")])
    assert cv2.imread(str(tmp_path / "losses.png")) is not None
    shown = panels(saved["losses.png"])
    names = list(shown)
    assert names[0] == "sum" and {"heatmap", "segmentation"} < set(names[1:-6])
    assert names[-6:] == ["distill high", "distill low", "mask high", "mask low", "mask task high", "mask task low"]
    for run, column, title, number in (
        ("plain", "loss", "sum", 0),
        ("detection", "loss", "sum", 2),
        ("plain", "loss/segmentation", "segmentation", 0),
        ("detection", "loss/mask_task_high", "mask task high", 0),
    ):
        with (runs / run / "log" / "version_0" / "metrics.csv").open() as file:
            logged = [(int(row["step"]), float(row[column])) for row in csv.DictReader(file) if row[column]]
        assert len(logged) == 1
        np.testing.assert_array_equal(shown[title].lines[number].get_xydata(), logged)
    (legend,) = saved["losses.png"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["plain", "detection"]


def test_a_term_that_falls_below_zero_is_seen_and_stands_with_those_of_distillation():
    def falling(first):
        return Curve(np.arange(10, 60, 10), np.linspace(first, -0.5, 5))

    figure = losses_figure(
        {
            "run": {
                "loss": falling(2.0),
                "loss/teacher_labels": falling(0.5),
                "loss/velocity": Curve(np.arange(10, 60, 10), np.ones(5)),
            }
        }
    )
    shown = panels(figure)
    assert list(shown) == ["sum", "velocity", "teacher labels"]
    assert shown["teacher labels"].get_ylim()[0] <= -0.5 and shown["velocity"].get_ylim()[0] == 0


def test_what_a_resumed_training_repeats_replaces_what_it_has_lost(tmp_path):
    header = "epoch,loss,loss/class,lr-AdamW,step"
    write_log(tmp_path, 0, header, ",,,0.1,9", "0,5.0,4.0,,9", "0,4.0,3.0,,19", "1,9.0,8.0,,29")
    write_log(tmp_path, 2, header, "1,2.0,1.5,,39")
    write_log(tmp_path, 10, "epoch,loss,loss/class,loss/size,lr-AdamW,step", "1,3.0,2.0,0.5,,29", "1,1.0,0.5,0.25,,39")
    losses = read_losses(tmp_path)
    assert {name: dict(zip(*curve, strict=True)) for name, curve in losses.items()} == {
        "loss": {9: 5, 19: 4, 29: 3, 39: 1},
        "loss/class": {9: 4, 19: 3, 29: 2, 39: 0.5},
        "loss/size": {29: 0.5, 39: 0.25},
    }


def test_a_line_that_is_being_written_waits_and_a_damaged_one_is_named(tmp_path):
    header = "epoch,loss,step"
    write_log(tmp_path / "live", 0, header, "0,5.0,9", "0,4.")
    assert dict(zip(*read_losses(tmp_path / "live")["loss"], strict=True)) == {9: 5}
    write_log(tmp_path / "cut", 0, header, "0,5.0,9", "0,\0\0,19")
    with pytest.raises(UserError, match=r"cut/log/version_0/metrics\.csv: damaged"):
        read_losses(tmp_path / "cut")


def test_smoothing_is_the_mean_around_each_step_and_keeps_straight_lines():
    steps, rng = np.arange(200), np.random.default_rng(0)
    np.testing.assert_allclose(smoothed(Curve(steps, np.full(200, 3.0))).values, 3.0)
    noisy = 2 + rng.normal(size=200)
    window = [noisy[max(i - 4, 0) : i + 5].mean() for i in range(200)]
    np.testing.assert_allclose(smoothed(Curve(steps, noisy)).values, window)
    short = Curve(steps[:10], noisy[:10])
    np.testing.assert_array_equal(smoothed(short).values, short.values)


def test_runs_have_colours_of_their_own_and_the_faint_line_is_the_raw_one():
    curve = Curve(np.arange(100), np.random.default_rng(1).random(100))
    axes = panels(losses_figure({"a": {"loss": curve}, "b": {"loss": curve, "loss/class": curve}}))
    faint, bold, _, other = axes["sum"].lines
    np.testing.assert_array_equal(faint.get_ydata(), curve.values)
    np.testing.assert_allclose(bold.get_ydata(), smoothed(curve).values)
    assert faint.get_color() == bold.get_color() != other.get_color() == axes["class"].lines[0].get_color()


def test_a_run_without_losses_is_one_line(tmp_path):
    with pytest.raises(SystemExit) as error:
        main(["plot", "losses", str(tmp_path / "run"), "--out", str(tmp_path / "a.png")])
    assert error.value.code == (
        f"vexkd: {tmp_path}/run/log: no losses there; `vexkd train` and `vexkd distill` log them from step 10 on"
    )
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["runs/plain"], ["plain"]),
        (["runs/plain", "runs/vexkd"], ["plain", "vexkd"]),
        (["out/a/seed1", "out/b/seed1"], ["a/seed1", "b/seed1"]),
        (["run", "other/run"], ["run", "other/run"]),
        (["runs", "runs/later"], ["runs", "runs/later"]),
        (["runs/../plain", "plain"], ["plain", "plain"]),
    ],
)
def test_names_leave_out_the_folder_that_runs_share(runs, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short_names([Path(run) for run in runs]) == names
