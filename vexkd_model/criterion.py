"""The task losses of a model: every weighted term by name."""

from torch import Tensor

from vexkd_model.camera.depth import DepthBins, depth_images, depth_loss, depth_targets
from vexkd_model.config import ModelConfig
from vexkd_model.config.camera import LiftSplatConfig
from vexkd_model.config.heads import CenterHeadConfig, TransFusionConfig
from vexkd_model.data.batch import Batch
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.center_loss import center_loss, center_targets, grown
from vexkd_model.heads.segmentation import segmentation_loss
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.heads.transfusion_loss import transfusion_loss, transfusion_targets
from vexkd_model.model import ModelOutput


def task_losses(config: ModelConfig, output: ModelOutput, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
    """Terms of every head of the model, and of its depths where the LiDAR teaches them; their sum is minimised.

    progress: share of the training that is done, by which `late_weights` of a CenterHead grow.
    """
    terms = head_losses(config, output.detection, output.segmentation, batch, progress)
    view = config.camera and config.camera.view
    if isinstance(view, LiftSplatConfig) and view.depth_loss_weight > 0:
        bins = DepthBins(view.bins.start, view.bins.stop, view.bins.step)
        returns = depth_images(batch.sensors.points, batch.sensors.sample, batch.sensors.cameras)
        terms["depth"] = depth_loss(output.depth, depth_targets(returns, view.stride, bins), view.depth_loss_weight)
    return terms


def head_losses(config: ModelConfig, detection: list[TaskMaps] | TransFusionOutput | None,
                segmentation: Tensor | None, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
    """Weighted terms of a model's heads, whatever maps they have read."""
    terms: dict[str, Tensor] = {}
    if detection is not None:
        terms |= {name: config.detection.loss_weight * term
                  for name, term in _detection_terms(config, detection, batch, progress).items()}
    if segmentation is not None:
        terms["segmentation"] = config.segmentation.loss_weight * segmentation_loss(
            segmentation, batch.map_masks, batch.map_known)
    return terms


def _detection_terms(config: ModelConfig, detection: list[TaskMaps] | TransFusionOutput,
                     batch: Batch, progress: float) -> dict[str, Tensor]:
    grid = config.grid.grid()
    match config.detection:
        case TransFusionConfig():
            return transfusion_loss(detection, transfusion_targets(detection, batch.boxes, batch.labels, grid))
        case CenterHeadConfig() as head:
            terms: dict[str, Tensor] = {}
            weights = grown(head.late_weights, progress)
            for maps, class_ids in zip(detection, head.class_ids(), strict=True):
                targets = center_targets(batch.boxes, batch.labels, class_ids, grid)
                for name, value in center_loss(maps, targets, weights).items():
                    terms[name] = terms.get(name, 0.0) + value
            return terms
