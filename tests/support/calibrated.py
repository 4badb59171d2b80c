"""Reliability for cards of tests: the same of every class, or of some."""

from collections.abc import Sequence

from vexkd_model.deploy.reliability import ClassReliability, Deviation, HeldOut, Reliability
from vexkd_model.types import DETECTION_CLASSES, DEVIATION_FIELDS

SIGMAS = dict(zip(DEVIATION_FIELDS, (0.4, 0.2, 0.1, 0.05, 1.0, 0.5), strict=True))


def reliability(
    threshold: float = 0.5,
    score_map: tuple[float, float, float] = (1.0, 1.0, 0.0),
    classes: Sequence[str] = DETECTION_CLASSES,
) -> Reliability:
    """Deviations are SIGMAS up to 20 m and twice as much beyond."""
    near = Deviation(to=20.0, matches=100, **SIGMAS)
    far = Deviation(to=None, matches=100, **{name: 2 * value for name, value in SIGMAS.items()})
    held_out = HeldOut(ece_before=0.1, ece_after=0.01, precision=0.9, recall=0.8, coverage={})
    one = ClassReliability(
        detections=300,
        annotations=250,
        score_map=score_map,
        score_threshold=threshold,
        deviations=(near, far),
        held_out=held_out,
    )
    return Reliability(
        data={"split": "val"},
        command="vexkd calibrate …",
        runtime="PyTorch, float32",
        boxes_per_frame=1.0,
        annotations_per_frame=1.0,
        classes=dict.fromkeys(classes, one),
    )
