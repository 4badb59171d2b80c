"""Summary that the node logs when it becomes active: what runs, what it reads, what it says, and how to look."""

from collections.abc import Collection

import numpy as np

from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.types import DETECTION_CLASSES
from vexkd_ros.share import share_path

RVIZ = "config/rviz/vexkd.rviz"


def start_summary(
    model: str, predictor: Predictor, inputs: Collection[str], outputs: Collection[str], threshold: float | np.ndarray
) -> str:
    """Describe a node in one paragraph. inputs, outputs: topics. threshold: of scores, of all classes or of each."""
    config, card = predictor.config, predictor.card
    trained_on = f", trained on {card.trained_on['dataset']}" if card and "dataset" in card.trained_on else ""
    return (
        f"{model}: {config.name}{trained_on}, runs {predictor.place}. "
        f"Reads {', '.join(inputs)}; {_rate(predictor)}. {_shown(predictor, threshold)}"
        f"Publishes {', '.join(outputs) or 'nothing'}. To look: {_look()}"
    )


def _rate(predictor: Predictor) -> str:
    """Say at what rate the student had its input in training."""
    config = predictor.config
    if config.lidar is not None and config.sweeps > 1:
        interval = config.lidar.sweep_interval
        spacing = f"{interval:g} s apart (or at {1 / interval:g} Hz)" if interval else "as they come"
        return f"it was trained with {config.sweeps} sweeps {spacing}"
    if config.camera is not None and config.camera.past_frames:
        return f"it was trained with {config.camera.past_frames} earlier moments, 0.5 s apart (2 Hz)"
    return "it takes each moment by itself, at any rate"


def _shown(predictor: Predictor, threshold: float | np.ndarray) -> str:
    if predictor.config.detection is None:
        return ""
    if isinstance(threshold, np.ndarray):
        by_class = ", ".join(f"{name} {value:.2f}" for name, value in zip(DETECTION_CLASSES, threshold, strict=True))
        return f"Boxes count from these scores on, of the card: {by_class}. "
    advice = "" if predictor.thresholds is not None else "; `vexkd calibrate` finds better ones"
    return f"Boxes count from score {threshold:g} on{advice}. "


def _look() -> str:
    try:
        return f"rviz2 -d {share_path(RVIZ)}"
    except UserError:
        return "vexkd-bag-recorder, then vexkd-bag-view"
