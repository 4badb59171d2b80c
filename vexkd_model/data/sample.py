"""One keyframe as a model learns from it."""

from dataclasses import dataclass

import numpy as np

from vexkd_model.types import Boxes, Frame


@dataclass(frozen=True)
class Sample:
    """A frame and what is true in it: boxes in base_link, map masks bool (6, Y, X) and known cells bool (Y, X)."""

    frame: Frame
    boxes: Boxes
    map_masks: np.ndarray
    map_known: np.ndarray
