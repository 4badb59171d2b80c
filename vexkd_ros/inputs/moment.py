"""What both kinds of input hand to the student: something that was sensed at one moment."""

from dataclasses import dataclass
from typing import Any

from rclpy.time import Time


@dataclass(frozen=True)
class Moment:
    """sensed: what the source that took it makes a Frame of. received: time.monotonic() at reception. read_s: what
    reading the message took."""

    stamp: Time
    received: float
    read_s: float
    sensed: Any
