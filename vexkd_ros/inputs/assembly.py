"""Assembly of Frames from messages: its settings, which a node takes from its parameters, and its result."""

from dataclasses import dataclass
from typing import NamedTuple

from vexkd_model.types import Frame
from vexkd_ros.inputs.errors import Reason


@dataclass(frozen=True)
class InputSettings:
    """Settings that are student_node's parameters of the same names; the defaults are the node's."""

    base_frame: str = "base_link"
    odom_frame: str = "odom"
    tf_timeout: float = 0.1
    max_sweep_gap: float = 0.5
    intensity_field: str = "intensity"
    intensity_scale: float = 1.0
    threads: int = 0
    camera_tolerance: float = 0.06
    camera_deadline: float = 0.1
    use_reference: bool = False


class AssembledFrame(NamedTuple):
    """Frame with how many of what is in it, {"sweeps": 5}, and why it is less than it should be."""

    frame: Frame
    parts: dict[str, int]
    reasons: tuple[Reason, ...]
