"""Labelled frames, whoever wrote them: boxes of objects, each in the frame that it was labelled in."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelledBox:
    """Box of an object as its label says it, not checked yet.

    where: file and line, or topic and time, for people. category: the label's own name of the class. instance: id of
    the object, or ''. frame: of TF. frame_from_box: float64 (4, 4), x forward along the length, y left, z up, from the
    centre. size: length, width, height [m]. attribute: one of nuScenes', or ''.
    """

    where: str
    category: str
    instance: str
    frame: str
    frame_from_box: np.ndarray
    size: tuple[float, float, float]
    attribute: str = ""


@dataclass(frozen=True)
class FileFrame:
    """Frame of an annotation tool's files. name: its number or stamp, or a name that ends with one."""

    name: str
    where: str
    boxes: Sequence[LabelledBox]


@dataclass(frozen=True)
class LabelledFrame:
    """Moment that was labelled, `stamp_ns`, with all boxes of that moment."""

    stamp_ns: int
    boxes: Sequence[LabelledBox]
