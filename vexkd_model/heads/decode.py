"""Build the decoder that turns a detection head's output into boxes."""

from typing_extensions import assert_never

from vexkd_model.config import ModelConfig
from vexkd_model.config.heads import CenterHeadConfig, CircleNmsConfig, RotatedNmsConfig, TransFusionConfig
from vexkd_model.heads.center_decode import CenterDecoder, CircleNms, RotatedNms
from vexkd_model.heads.transfusion_decode import TransFusionDecoder


def build_decoder(config: ModelConfig) -> CenterDecoder | TransFusionDecoder | None:
    """Build the decoder of the model's detection head; None for a model that detects nothing."""
    grid = config.grid.grid()
    match config.detection:
        case None:
            return None
        case TransFusionConfig() as c:
            return TransFusionDecoder(grid, c.score_threshold, c.max_detections)
        case CenterHeadConfig() as c:
            return CenterDecoder(c.class_ids(), grid, c.score_threshold, c.candidates,
                                 [_nms(task.nms) for task in c.tasks], c.max_detections, c.task_detections)
        case _:
            assert_never(config.detection)


def _nms(config: RotatedNmsConfig | CircleNmsConfig) -> RotatedNms | CircleNms:
    match config:
        case RotatedNmsConfig() as c:
            return RotatedNms(c.iou, c.scale)
        case CircleNmsConfig() as c:
            return CircleNms(c.radius)
        case _:
            assert_never(config)
