"""Latency of a frame by stage, and its diagnostic message."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

STAGES = ("wait", "convert", "infer", "publish", "total")


@dataclass(frozen=True)
class Latency:
    """Latency of one frame by stage [ms], by the steady clock.

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


def latency_message(
    latency: Latency, age_ms: float, parts: Mapping[str, int], header: Header, name: str
) -> DiagnosticArray:
    """Make the diagnostic message of one frame's latency by stage.

    age_ms: node clock now − input stamp, after the last output was published. parts:
    what the frame was made of, {"sweeps": 5}.
    """
    values = {f"{stage}_ms": f"{getattr(latency, stage):.3f}" for stage in STAGES}
    status = DiagnosticStatus(
        level=DiagnosticStatus.OK,
        name=f"{name}: latency",
        values=key_values({**values, "age_ms": f"{age_ms:.3f}", **parts}),
    )
    return DiagnosticArray(header=header, status=[status])


def percentiles(latencies: list[Latency]) -> dict[str, str]:
    """Return the 50th and 99th percentile of every stage [ms]; nothing without frames."""
    result = {}
    for stage in STAGES if latencies else ():
        p50, p99 = np.percentile([getattr(latency, stage) for latency in latencies], [50, 99])
        result |= {f"{stage} p50 [ms]": f"{p50:.1f}", f"{stage} p99 [ms]": f"{p99:.1f}"}
    return result


def key_values(values: Mapping[str, object]) -> list[KeyValue]:
    """Convert to the pairs of a DiagnosticStatus."""
    return [KeyValue(key=key, value=str(value)) for key, value in values.items()]
