"""Programs end cleanly, whenever the signal comes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from vexkd_ros import student_node

PROGRAM = """
import sys
from vexkd_ros.programs import {name}
print("begun", flush=True)
sys.exit({name}())
"""

THREADS = """
import os, sys
from vexkd_ros import programs
programs.run_program = lambda module: print("torch" in sys.modules, os.environ["OMP_WAIT_POLICY"])
programs.student_node()
"""

BUSY = """
import os, signal, threading, time
from vexkd_ros.node_process import STOP_SIGNALS, _signals_waiting
threading.Thread(target=time.sleep, args=(3,), daemon=True).start()  # as a library's, before signals are blocked
with _signals_waiting():
    os.kill(os.getpid(), signal.{name})
    end = time.monotonic() + 0.5
    while time.monotonic() < end:  # busy: not waiting for signals
        pass
    while not (stopped := signal.sigtimedwait(STOP_SIGNALS, 0.2)):  # as a node, which may notice at its next turn
        pass
    print(signal.Signals(stopped.si_signo).name)
"""


def listen_to_ctrl_c() -> None:
    """Undo what a shell does to programs that it starts in the background: they inherit that SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("name", ["student_node", "bag_player", "bag_evaluator"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_imports_ends_a_program_without_a_traceback(name, number, code):
    for _ in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(name=name)],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=listen_to_ctrl_c,
        )
        assert process.stdout is not None and process.stdout.readline() == "begun\n"
        time.sleep(0.2)  # the imports take seconds
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        if not said.startswith("usage:"):  # else this test was held up, and the imports were over
            break
    assert (process.returncode, said) == (code, "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_a_librarys_thread_receives_waits_for_the_main_thread(name):
    done = subprocess.run(
        [sys.executable, "-c", BUSY.format(name=name)],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=listen_to_ctrl_c,
    )
    assert (done.returncode, done.stdout.strip()) == (0, name), done.stderr


@pytest.mark.parametrize("words", [["--help"], ["--ros-args", "-p", "model:=nowhere", "-p", "nothing"]])
def test_a_node_that_has_ended_leaves_signals_to_the_process_as_before(words, capsys, monkeypatch):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr("sys.argv", ["vexkd-student-node", *words])
    with pytest.raises(SystemExit):
        student_node.main()
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert not before & {signal.SIGINT, signal.SIGTERM}
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize(("given", "used"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_the_nodes_threads_sleep_while_they_wait_unless_the_user_wants_otherwise(given, used):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    done = subprocess.run([sys.executable, "-c", THREADS], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", used]
