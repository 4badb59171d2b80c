"""Detections of whatever head a configuration describes."""

from torch import Tensor

from vexkd_model.config.heads import CenterHeadConfig, RotatedNmsConfig, TransFusionConfig
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.center_decode import CircleNms, RotatedNms, decode
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.heads.transfusion_decode import decode_transfusion
from vexkd_model.types import BevGrid


def decode_detections(config: CenterHeadConfig | TransFusionConfig, output: list[TaskMaps] | TransFusionOutput,
                      grid: BevGrid) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (M, 9), scores (M,), labels (M,) of a batch of one, best first."""
    match config:
        case TransFusionConfig() as c:
            return decode_transfusion(output, grid, c.score_threshold, c.max_detections)
        case CenterHeadConfig() as c:
            return decode(output, c.class_ids(), grid, c.score_threshold, c.candidates, _nms_of_tasks(c),
                          c.max_detections, c.task_detections)


def _nms_of_tasks(config: CenterHeadConfig) -> list[RotatedNms | CircleNms]:
    return [RotatedNms(task.nms.iou, task.nms.scale)
            if isinstance(task.nms, RotatedNmsConfig) else CircleNms(task.nms.radius) for task in config.tasks]
