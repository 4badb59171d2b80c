"""Child processes that never outlive us, and whose death is noticed at once."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vexkd_model.errors import UserError

POLL_S = 0.1
STOP_S = 10.0  # from SIGINT to SIGKILL
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class _Child:
    process: subprocess.Popen
    log: Path | None


class Children:
    """Named processes of a `with` block; all have ended when it is left, however it is left.

    Inside, Ctrl-C, SIGTERM and SIGHUP only raise a flag, that `watch` turns into KeyboardInterrupt: no process can be
    started and forgotten. Each child has a session of its own, so that Ctrl-C reaches it in our order and not at once.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._children: dict[str, _Child] = {}
        self._interrupted = False

    def __enter__(self) -> "Children":
        self._handlers = {
            number: signal.signal(number, self._note)
            for number in STOPPING
            if signal.getsignal(number) is not signal.SIG_IGN
        }  # nohup
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            _interrupt(child.process)
        for name in self._children:
            self._end(name)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def start(self, name: str, command: Sequence[str], log: Path | None = None) -> None:
        """Start a process; what it says goes into the file `log`, or to our own stderr."""
        with log.open("wb") if log else open(os.devnull, "wb") as sink:
            self._children[name] = _Child(
                subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT if log else None,
                    env=self._environment,
                    start_new_session=True,
                    preexec_fn=_hear_sigint,
                ),
                log,
            )

    def watch(self, seconds: float, until_end_of: str = "") -> None:
        """Return after `seconds`, or as soon as the named process has ended well.

        UserError when another one ends, or when the named one fails or is not done in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._interrupted:
                raise KeyboardInterrupt
            for name, child in self._children.items():
                code = child.process.poll()
                if code == 0 and name == until_end_of:
                    return
                if code is not None:
                    raise UserError(self._obituary(name))
            time.sleep(POLL_S)
        if until_end_of:
            others = "; ".join(f"{name}{self._last_words(name)}" for name in self._children if name != until_end_of)
            raise UserError(f"{until_end_of}: not done after {seconds:.0f} s; {others}")

    def stop(self, name: str) -> None:
        """Send SIGINT and wait; UserError where the process does not end well and in time."""
        self._end(name)
        if self._children[name].process.returncode:
            raise UserError(self._obituary(name))
        del self._children[name]

    def _end(self, name: str) -> None:
        process = self._children[name].process
        _interrupt(process)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _note(self, number: int, frame: object) -> None:
        self._interrupted = True

    def _obituary(self, name: str) -> str:
        code = self._children[name].process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{name} ended, {how}{self._last_words(name)}"

    def _last_words(self, name: str) -> str:
        log = self._children[name].log
        if log is None:
            return "; see its message above"
        lines = log.read_text(errors="replace").strip().splitlines()
        return f": {lines[-1] if lines else 'it said nothing'} (all of it: {log})"


def _hear_sigint() -> None:
    """Let a child end by SIGINT, which a shell's background jobs, and so what they start, ignore."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupt(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
