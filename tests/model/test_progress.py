"""Progress in a log: plain lines, nothing lost."""

from vexkd_model.progress import progress


def test_every_item_passes_and_a_log_gets_one_closing_line(capsys):
    assert list(progress(range(7), "count", unit="frames")) == list(range(7))
    error = capsys.readouterr().err
    assert error.startswith("count: 7 frames in ") and error.count("\n") == 1 and "\r" not in error


def test_long_work_reports_on_its_way(capsys, monkeypatch):
    monkeypatch.setattr("vexkd_model.progress.LINE_INTERVAL_S", 0.0)
    assert list(progress(iter([1, 2]), "read", total=2)) == [1, 2]
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()][:2] == [
        "read: 1/2 it",
        "read: 2/2 it",
    ]
