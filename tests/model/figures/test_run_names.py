"""Runs are told apart by as little as is needed."""

from pathlib import Path

import pytest

from vexkd_model.figures.losses_figure import short_names


@pytest.mark.parametrize(("runs", "names"), [
    (["runs/plain"], ["plain"]), (["runs/plain", "runs/vexkd"], ["plain", "vexkd"]),
    (["out/a/seed1", "out/b/seed1"], ["a/seed1", "b/seed1"]), (["run", "other/run"], ["run", "other/run"]),
    (["runs", "runs/later"], ["runs", "runs/later"]), (["runs/../plain", "plain"], ["plain", "plain"]),
])  # fmt: skip
def test_names_leave_out_the_folder_that_runs_share(runs, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short_names([Path(run) for run in runs]) == names
