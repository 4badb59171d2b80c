"""One way in which a sensor differs from what a student was trained on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mismatch:
    """sensor: lidar, or a camera's name. kind: what differs, the same as long as it lasts. text: one line with what is
    seen, what the student saw, and the cure."""

    sensor: str
    kind: str
    text: str
