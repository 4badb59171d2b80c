"""Child processes: noticed when they die, gone when we leave."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.clock import wait_for

from vexkd_model.errors import UserError
from vexkd_ros.children import Children


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def written_pid(path: Path) -> int:
    wait_for(lambda: path.exists() and path.read_text().endswith("\n"), f"{path}")
    return int(path.read_text())


def sleeper(path: Path, stubborn: bool = False) -> list[str]:
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN); " if stubborn else ""
    return python(
        f"import os, signal, time; {ignore}print(os.getpid(), file=open({str(path)!r}, 'w'), flush=True); "
        "time.sleep(100)"
    )


def test_a_child_that_fails_is_reported_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    with pytest.raises(UserError) as raised, Children(os.environ) as children:
        children.start("worker", python("print('first'); raise SystemExit('no such model')"), log)
        children.start("other", sleeper(tmp_path / "pid"))
        children.watch(20)
    assert str(raised.value) == f"worker ended, exit code 1: no such model (all of it: {log})"
    if (tmp_path / "pid").exists():
        assert not is_alive(written_pid(tmp_path / "pid"))


def test_a_child_that_ends_early_is_a_failure_even_with_code_zero(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="worker ended, exit code 0: it said nothing"), Children(os.environ) as children:
        children.start("worker", python("pass"), tmp_path / "log")
        children.watch(20)


def test_the_end_that_was_waited_for_is_no_failure(tmp_path: Path) -> None:
    with Children(os.environ) as children:
        children.start("worker", python("pass"), tmp_path / "log")
        children.watch(20, until_end_of="worker")


def test_a_child_that_takes_too_long_is_a_failure_that_shows_what_the_others_say(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"player: not done after 1 s; node: still loading"),
        Children(os.environ) as children,
    ):
        children.start(
            "node", python("import time; print('still loading', flush=True); time.sleep(100)"), tmp_path / "log"
        )
        children.start("player", sleeper(tmp_path / "pid"))
        children.watch(1, until_end_of="player")


def test_no_child_outlives_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Children(os.environ) as children:
        children.start("worker", sleeper(tmp_path / "pid"))
        pid = written_pid(tmp_path / "pid")
        assert is_alive(pid)
        raise ZeroDivisionError
    assert not is_alive(pid)


def test_a_child_ends_at_once_though_we_ignore_sigint_as_background_jobs_do(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Children(os.environ) as children:
            children.start("worker", sleeper(tmp_path / "pid"))
            written_pid(tmp_path / "pid")
            with pytest.raises(UserError, match="worker ended, killed by SIGINT"):
                children.stop("worker")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_child_that_ignores_ctrl_c_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vexkd_ros.children.STOP_S", 0.5)
    with Children(os.environ) as children:
        children.start("worker", sleeper(tmp_path / "pid", stubborn=True))
        pid = written_pid(tmp_path / "pid")
    assert not is_alive(pid)


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that is not ignored, though whoever runs the tests in the background ignores SIGINT or SIGHUP."""
    before = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, before)


def test_signals_end_the_watch_and_the_children(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), Children(os.environ) as children:
        children.start("worker", sleeper(tmp_path / "pid"))
        pid = written_pid(tmp_path / "pid")
        os.kill(os.getpid(), number)
        children.watch(20)
    assert not is_alive(pid)
    assert signal.getsignal(number) is before
