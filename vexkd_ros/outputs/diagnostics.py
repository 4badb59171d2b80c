"""How the node is: what it counted, and the messages that say so."""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

STAGES = ("wait", "convert", "infer", "publish", "total")
WINDOW_S = 10.0  # of rate and latency
RECENT_S = 2.0  # a reason counts for the level this long; without input for this long the node is STALE
LOG_EVERY_S = 5.0  # each reason at most this often in the log
REPLACED = "replaced by newer input"  # newest input wins: normal under load, no reason to warn


@dataclass(frozen=True)
class Latency:
    """One frame's way through the node [ms], by the steady clock.

    wait: reception to the start of its conversion (for the frame before it, and for other cameras). convert: message
    to Frame, with what it waits for transforms. infer: Frame to Prediction. publish: Prediction to the last message.
    total: their sum.
    """

    wait: float
    convert: float
    infer: float
    publish: float

    @property
    def total(self) -> float:
        return self.wait + self.convert + self.infer + self.publish


class Health:
    """What the node counts; thread-safe. Every time is time.monotonic()."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_problem: tuple[float, str] | None = None
        self._begin()

    def _begin(self) -> None:
        self._frames: deque[tuple[float, Latency]] = deque()
        self._inputs = self._outputs = self._removed_points = self._last_removed = 0
        self._started = time.monotonic()
        self._last_input: float | None = None
        self._input_age = 0.0
        self._drops: Counter[str] = Counter()
        self._degraded: Counter[str] = Counter()
        self._last_seen: dict[str, float] = {}
        self._last_logged: dict[str, float] = {}

    def activated(self) -> None:
        """Count from zero."""
        with self._lock:
            self._last_problem = None
            self._begin()

    def cannot_configure(self, reason: str) -> None:
        with self._lock:
            self._last_problem = time.monotonic(), reason

    def input_received(self, age_s: float) -> None:
        """age_s: node clock − input stamp; means little while a bag is replayed."""
        with self._lock:
            self._inputs += 1
            self._last_input = time.monotonic()
            self._input_age = age_s

    def points_removed(self, count: int) -> None:
        """Points of the last input that were not finite."""
        with self._lock:
            self._last_removed = count
            self._removed_points += count

    def frame_published(self, latency: Latency) -> None:
        with self._lock:
            self._outputs += 1
            self._frames.append((time.monotonic(), latency))

    def dropped(self, reason: str) -> bool:
        """An input that led to no output. True if the reason is due in the log."""
        return self._note(self._drops, reason)

    def degraded(self, reason: str) -> bool:
        """An output made from less than it should be. True if the reason is due in the log."""
        return self._note(self._degraded, reason)

    def status(self, state: str, model: str, device: str, permitted_latency_ms: float | None) -> DiagnosticStatus:
        """The node's line on /diagnostics. `state`: of the lifecycle; no permitted latency while unconfigured."""
        now = time.monotonic()
        with self._lock:
            while self._frames and self._frames[0][0] < now - WINDOW_S:
                self._frames.popleft()
            latencies = [latency for _, latency in self._frames]
            level, message = self._verdict(now, state, latencies, permitted_latency_ms)
            values = {
                "state": state, "model": model, "device": device,
                "rate [Hz]": f"{len(latencies) / max(min(now - self._started, WINDOW_S), 1e-3):.2f}",
                "inputs": self._inputs, "outputs": self._outputs,
                "input age [s]": "none yet" if self._last_input is None else f"{self._input_age:.3f}",
                "since last input [s]": "none yet" if self._last_input is None else f"{now - self._last_input:.2f}",
                "points removed, not finite": self._removed_points,
                "points removed, last cloud": self._last_removed,
                "last problem": self._describe_last_problem(now),
                "drops": sum(self._drops.values()),
                **{f"drops: {reason}": count for reason, count in self._drops.items()},
                **{f"degraded: {reason}": count for reason, count in self._degraded.items()},
            }  # fmt: skip
        values |= _percentiles(latencies)
        return DiagnosticStatus(level=level, message=message, values=_key_values(values))

    def _describe_last_problem(self, now: float) -> str:
        if self._last_problem is None:
            return "none"
        seen, reason = self._last_problem
        return f"{reason} ({now - seen:.0f} s ago)"

    def _verdict(self, now: float, state: str, latencies: list[Latency],
                 permitted_latency_ms: float | None) -> tuple[bytes, str]:
        if state == "unconfigured" and self._last_problem:
            return DiagnosticStatus.ERROR, f"not configured: {self._last_problem[1]}"
        if state != "active":
            return DiagnosticStatus.OK, f"not active: {state}"
        if self._last_input is None or self._last_input < now - RECENT_S:
            return DiagnosticStatus.STALE, "no input on topic points"
        recent = [reason for reason, seen in self._last_seen.items() if seen >= now - RECENT_S and reason != REPLACED]
        if not self._frames or self._frames[-1][0] < now - RECENT_S:
            starting = now - self._started < RECENT_S and not recent
            level = DiagnosticStatus.WARN if starting else DiagnosticStatus.ERROR
            return level, f"input, but no output: {'; '.join(recent) or 'nothing published yet'}"
        if recent:
            return DiagnosticStatus.WARN, "; ".join(recent)
        median = float(np.median([latency.total for latency in latencies]))
        if permitted_latency_ms and median > permitted_latency_ms:
            return DiagnosticStatus.WARN, (f"median latency {median:.0f} ms is above permitted_latency, "
                                           f"{permitted_latency_ms:.0f} ms")
        return DiagnosticStatus.OK, "running"

    def _note(self, counter: Counter, reason: str) -> bool:
        now = time.monotonic()
        with self._lock:
            counter[reason] += 1
            self._last_seen[reason] = now
            if reason != REPLACED:
                self._last_problem = now, reason
            if now - self._last_logged.get(reason, -LOG_EVERY_S) < LOG_EVERY_S:
                return False
            self._last_logged[reason] = now
            return True


def latency_message(latency: Latency, age_ms: float, parts: Mapping[str, int], header: Header,
                    name: str) -> DiagnosticArray:
    """One frame's latency by stage. age_ms: node clock now − input stamp, after the last output was published. parts:
    what the frame was made of, {"sweeps": 5}."""
    values = {f"{stage}_ms": f"{getattr(latency, stage):.3f}" for stage in STAGES}
    status = DiagnosticStatus(level=DiagnosticStatus.OK, name=f"{name}: latency",
                              values=_key_values(values | {"age_ms": f"{age_ms:.3f}"} | parts))
    return DiagnosticArray(header=header, status=[status])


def _percentiles(latencies: list[Latency]) -> dict[str, str]:
    result = {}
    for stage in STAGES if latencies else ():
        p50, p99 = np.percentile([getattr(latency, stage) for latency in latencies], [50, 99])
        result |= {f"{stage} p50 [ms]": f"{p50:.1f}", f"{stage} p99 [ms]": f"{p99:.1f}"}
    return result


def _key_values(values: dict[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]
