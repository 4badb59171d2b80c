"""Node health: counters and diagnostic messages."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus

from vexkd_model.sensor_check.rules import Mismatch
from vexkd_ros.health.input_watch import WINDOW_S, InputWatch
from vexkd_ros.health.latency import Latency, key_values, percentiles

RECENT_S = 2.0  # a reason counts for the level this long
LASTING_S = 30.0  # slow for longer than this is an ERROR
LOG_EVERY_S = 5.0  # each reason at most this often in the log
REPLACED = "replaced by newer input"  # newest input wins: normal under load, no reason to warn


@dataclass(frozen=True)
class Limits:
    """Limits beyond which /diagnostics warns.

    latency_s: median from reception to the last output. age_s: of an input when it arrives, node clock − stamp; None
    while bags of other days are replayed. stale_s: without an input for so long it counts as stopped. sync_s: between
    the images of one frame.
    """

    latency_s: float = 0.2
    age_s: float | None = None
    stale_s: float = 2.0
    sync_s: float | None = None


class NodeHealth:
    """Counters of a node and the diagnostic messages made of them; thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last_problem: tuple[float, str] | None = None
        self._begin((), Limits())

    def _begin(self, inputs: Sequence[str], limits: Limits) -> None:
        self._started = self._clock()
        self._limits = limits
        self._inputs = {name: InputWatch(self._started) for name in inputs}
        self._frames: deque[tuple[float, Latency]] = deque()
        self._sync_errors: deque[tuple[float, float]] = deque()
        self._outputs = self._removed_points = self._last_removed = 0
        self._slow_since: float | None = None
        self._idle = -math.inf
        self._drops: Counter[str] = Counter()
        self._degraded: Counter[str] = Counter()
        self._last_seen: dict[str, float] = {}
        self._last_logged: dict[str, float] = {}
        self._texts: dict[str, str] = {}  # by kind, of its last time
        self._mismatches: list[Mismatch] = []
        self._told: set[tuple[str, str]] = set()

    def activated(self, inputs: Sequence[str] = ("points",), limits: Limits = Limits()) -> None:
        """Count from zero. inputs: names of the topics that the student reads, points or the cameras."""
        with self._lock:
            self._last_problem = None
            self._begin(inputs, limits)

    def cannot_configure(self, reason: str) -> None:
        with self._lock:
            self._last_problem = self._clock(), reason

    def input_received(self, age_s: float, name: str = "points") -> None:
        """Note an input. age_s: node clock − input stamp, which means little while a bag is replayed."""
        with self._lock:
            self._inputs[name].arrived(self._clock(), age_s)

    def idle(self) -> None:
        """Note an input whose output nobody subscribes to."""
        with self._lock:
            self._idle = self._clock()

    def points_removed(self, count: int) -> None:
        """Count the points of the last input that were left out."""
        with self._lock:
            self._last_removed = count
            self._removed_points += count

    def synchronised(self, error_s: float) -> None:
        """Note the largest distance in time [s] between an image of a frame and the frame."""
        with self._lock:
            self._sync_errors.append((self._clock(), error_s))

    def frame_published(self, latency: Latency) -> None:
        with self._lock:
            self._outputs += 1
            self._frames.append((self._clock(), latency))

    def dropped(self, kind: str, text: str = "") -> bool:
        """Count an input that led to no output, text: in full. True if the reason is due in the log."""
        return self._note(self._drops, kind, text)

    def degraded(self, kind: str, text: str = "") -> bool:
        """Count an output made from less than it should be. True if the reason is due in the log."""
        return self._note(self._degraded, kind, text)

    def sensors_compared(self, mismatches: Sequence[Mismatch]) -> list[Mismatch]:
        """Keep the present mismatches; return those that are new, for the log."""
        with self._lock:
            self._mismatches = list(mismatches)
            new = [found for found in mismatches if (found.sensor, found.kind) not in self._told]
            self._told |= {(found.sensor, found.kind) for found in new}
            return new

    def statuses(
        self, label: str, state: str, model: str, device: str, why_silent: Callable[[str], str] = lambda name: ""
    ) -> list[DiagnosticStatus]:
        """Make the node's statuses for /diagnostics: itself; while active also each input and the sensor check.

        state: of the lifecycle. why_silent: why nothing comes on an input, asked only where that is so.
        """
        active, now = state == "active", self._clock()
        with self._lock:
            stopped = [
                name for name, watch in self._inputs.items() if active and watch.silent_s(now) > self._limits.stale_s
            ]
        silent = {name: why_silent(name) for name in stopped}  # asks the middleware: not while holding the lock
        with self._lock:
            statuses = [self._node_status(now, state, model, device, silent)]
            if active:
                statuses += [self._input_status(now, name, watch, silent) for name, watch in self._inputs.items()]
                statuses.append(self._fit_status())
        for status, part in zip(
            statuses, ("student", *(f"input {name}" for name in self._inputs), "sensor fit"), strict=False
        ):
            status.name = f"{label}: {part}"
        return statuses

    def _node_status(self, now: float, state: str, model: str, device: str, silent: dict[str, str]) -> DiagnosticStatus:
        for kept in (self._frames, self._sync_errors):
            while kept and kept[0][0] < now - WINDOW_S:
                kept.popleft()
        latencies = [latency for _, latency in self._frames]
        level, message = self._verdict(now, state, latencies, silent)
        oldest = max((watch.age_s for watch in self._inputs.values() if watch.received), default=None)
        since = max((watch.silent_s(now) for watch in self._inputs.values() if watch.received), default=None)
        values = {
            "state": state,
            "model": model,
            "device": device,
            "rate [Hz]": f"{len(latencies) / max(min(now - self._started, WINDOW_S), 1e-3):.2f}",
            "inputs": sum(watch.received for watch in self._inputs.values()),
            "outputs": self._outputs,
            "input age [s]": "none yet" if oldest is None else f"{oldest:.3f}",
            "since last input [s]": "none yet" if since is None else f"{since:.2f}",
            "points removed, not finite or at the sensor": self._removed_points,
            "points removed, last cloud": self._last_removed,
            "last problem": self._describe_last_problem(now),
            "drops": sum(self._drops.values()),
            **{f"drops: {reason}": count for reason, count in self._drops.items()},
            **{f"degraded: {reason}": count for reason, count in self._degraded.items()},
            **percentiles(latencies),
            **self._synchronisation(),
            **_gpu_memory(device),
        }
        return DiagnosticStatus(level=level, message=message, values=key_values(values))

    def _input_status(self, now: float, name: str, watch: InputWatch, silent: dict[str, str]) -> DiagnosticStatus:
        rate, old = watch.rate(now), self._too_old(name)
        if name in silent:
            level, message = DiagnosticStatus.STALE, _silence(name, watch.silent_s(now), silent[name])
        else:
            level, message = (DiagnosticStatus.WARN, old) if old else (DiagnosticStatus.OK, f"{rate:.1f} Hz")
        return DiagnosticStatus(
            level=level,
            message=message,
            values=key_values(
                {
                    "rate [Hz]": f"{rate:.2f}",
                    "received": watch.received,
                    "age [s]": f"{watch.age_s:.3f}",
                    "since last [s]": f"{watch.silent_s(now):.2f}",
                }
            ),
        )

    def _fit_status(self) -> DiagnosticStatus:
        texts = {f"{found.sensor}: {found.kind}": found.text for found in self._mismatches}
        if not texts:
            return DiagnosticStatus(level=DiagnosticStatus.OK, message="nothing known that does not fit the student")
        return DiagnosticStatus(
            level=DiagnosticStatus.WARN,
            values=key_values(texts),
            message="; ".join(f"{found.sensor}: {found.text}" for found in self._mismatches),
        )

    def _first_input(self) -> float:
        return min(watch.first for watch in self._inputs.values() if watch.first is not None)

    def _describe_last_problem(self, now: float) -> str:
        if self._last_problem is None:
            return "none"
        seen, reason = self._last_problem
        return f"{reason} ({now - seen:.0f} s ago)"

    def _verdict(self, now: float, state: str, latencies: list[Latency], silent: dict[str, str]) -> tuple[bytes, str]:
        if state == "unconfigured" and self._last_problem:
            return DiagnosticStatus.ERROR, f"not configured: {self._last_problem[1]}"
        if state != "active":
            return DiagnosticStatus.OK, f"not active: {state}"
        silences = [_silence(name, self._inputs[name].silent_s(now), why) for name, why in silent.items()]
        if silences and len(silences) == len(self._inputs):
            return DiagnosticStatus.STALE, "; ".join(silences)
        if not any(watch.received for watch in self._inputs.values()):
            return DiagnosticStatus.STALE, f"waiting for input on {', '.join(self._inputs)}"
        if self._idle >= now - RECENT_S:
            return DiagnosticStatus.OK, "idle: nobody subscribes to an output"
        recent = [
            self._texts[kind] for kind, seen in self._last_seen.items() if seen >= now - RECENT_S and kind != REPLACED
        ]
        if not self._frames or self._frames[-1][0] < now - RECENT_S:
            starting = not self._outputs and now - self._first_input() < RECENT_S and not recent
            level = DiagnosticStatus.WARN if starting else DiagnosticStatus.ERROR
            return level, f"input, but no output: {'; '.join([*recent, *silences]) or 'nothing published yet'}"
        level, slow = self._slowness(now, latencies)
        beyond = [slow, *map(self._too_old, self._inputs), self._unsynchronised()]
        complaints = [*recent, *silences, *filter(None, beyond)]
        return (max(level, DiagnosticStatus.WARN), "; ".join(complaints)) if complaints else (level, "running")

    def _slowness(self, now: float, latencies: list[Latency]) -> tuple[bytes, str]:
        median, permitted = float(np.median([latency.total for latency in latencies])), self._limits.latency_s * 1e3
        if median <= permitted:
            self._slow_since = None
            return DiagnosticStatus.OK, ""
        self._slow_since = now if self._slow_since is None else self._slow_since
        lasting = now - self._slow_since > LASTING_S
        text = f"median latency {median:.0f} ms is above permitted_latency, {permitted:.0f} ms"
        return (
            (DiagnosticStatus.ERROR, f"{text}, for {now - self._slow_since:.0f} s")
            if lasting
            else (DiagnosticStatus.WARN, text)
        )

    def _too_old(self, name: str) -> str:
        watch, permitted = self._inputs[name], self._limits.age_s
        if permitted is None or not watch.received or watch.age_s <= permitted:
            return ""
        return (
            f"{name} is {watch.age_s:.2f} s old when it arrives, permitted_age is {permitted:.2f} s: synchronise "
            "the clocks, or find what delays it"
        )

    def _unsynchronised(self) -> str:
        permitted = self._limits.sync_s
        if permitted is None or not self._sync_errors:
            return ""
        median = float(np.median([error for _, error in self._sync_errors]))
        return (
            ""
            if median <= permitted
            else (
                f"the images of a frame are {median * 1e3:.0f} ms apart, {permitted * 1e3:.0f} ms are permitted: "
                "trigger the cameras together"
            )
        )

    def _synchronisation(self) -> dict[str, str]:
        if not self._sync_errors:
            return {}
        p50, most = np.percentile([error * 1e3 for _, error in self._sync_errors], [50, 100])
        return {"synchronisation p50 [ms]": f"{p50:.1f}", "synchronisation max [ms]": f"{most:.1f}"}

    def _note(self, counter: Counter[str], reason: str, text: str) -> bool:
        now, line = self._clock(), (text or reason).splitlines()[0]
        with self._lock:
            counter[reason] += 1
            self._last_seen[reason] = now
            self._texts[reason] = line
            if reason != REPLACED:
                self._last_problem = now, line
            if now - self._last_logged.get(reason, -math.inf) < LOG_EVERY_S:
                return False
            self._last_logged[reason] = now
            return True


def _silence(name: str, seconds: float, why: str) -> str:
    return f"no input on {name} for {seconds:.1f} s" + (f": {why}" if why else "")


def _gpu_memory(device: str) -> dict[str, str]:
    """Return the GPU memory that this process holds now, its peak, and what is free [MB]; nothing for a CPU."""
    if not device.startswith("cuda"):
        return {}
    held, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    figures = {"held": held, "peak": peak, "free": torch.cuda.mem_get_info(device)[0]}
    return {f"GPU memory {name} [MB]": f"{count / 1e6:.0f}" for name, count in figures.items()}
