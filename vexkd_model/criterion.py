"""Criterion: weighted task losses of a model's output against the ground truth of its batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from typing_extensions import assert_never

from vexkd_model.camera.depth import DepthBins, depth_images, depth_loss, depth_targets
from vexkd_model.config import ModelConfig
from vexkd_model.config.camera import BevFormerConfig, CameraConfig, LiftSplatConfig
from vexkd_model.config.heads import CenterHeadConfig, TransFusionConfig
from vexkd_model.data.batch import Batch, SensorBatch
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.center_loss import center_loss, center_targets, late_factors
from vexkd_model.heads.segmentation import segmentation_loss
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.heads.transfusion_loss import transfusion_loss, transfusion_targets
from vexkd_model.model import ModelOutput
from vexkd_model.types import BevGrid


@dataclass(frozen=True)
class CenterCriterion:
    """Losses of a CenterHead, summed over its tasks.

    class_ids: DETECTION_CLASSES indices of each task. late_weights: factors on the fields' weights at the end of the
    training, see `late_factors`.
    """

    class_ids: tuple[tuple[int, ...], ...]
    grid: BevGrid
    late_weights: Mapping[str, float]

    def __call__(self, tasks: list[TaskMaps], batch: Batch, progress: float) -> dict[str, Tensor]:
        """Compute scalar terms by name; progress: share of the training that is done."""
        terms: dict[str, Tensor] = {}
        weights = late_factors(self.late_weights, progress)
        for maps, class_ids in zip(tasks, self.class_ids, strict=True):
            targets = center_targets(batch.boxes, batch.labels, class_ids, self.grid)
            for name, value in center_loss(maps, targets, weights).items():
                terms[name] = terms[name] + value if name in terms else value
        return terms


@dataclass(frozen=True)
class TransFusionCriterion:
    """Losses of a TransFusionHead, whose proposals are matched with the batch's boxes."""

    grid: BevGrid

    def __call__(self, output: TransFusionOutput, batch: Batch) -> dict[str, Tensor]:
        """Compute scalar terms by name."""
        return transfusion_loss(output, transfusion_targets(output, batch.boxes, batch.labels, self.grid))


@dataclass(frozen=True)
class DepthCriterion:
    """Loss of cameras' depth logits (B, N, D, h, w) where LiDAR returns fall into their images.

    Source: BEVDepth (Li et al., AAAI 2023).
    """

    bins: DepthBins
    stride: int
    weight: float

    def __call__(self, depth: Tensor, sensors: SensorBatch) -> Tensor:
        assert sensors.cameras is not None, "a model with depth logits reads cameras"
        returns = depth_images(sensors.points, sensors.sample, sensors.cameras)
        return depth_loss(depth, depth_targets(returns, self.stride, self.bins), self.weight)


@dataclass(frozen=True)
class Criterion:
    """Loss terms by name of everything that a model predicts; training minimises their sum.

    detection, depth: None for a model without. detection_weight, segmentation_weight: factors on the heads' terms.
    """

    detection: CenterCriterion | TransFusionCriterion | None
    detection_weight: float
    segmentation_weight: float
    depth: DepthCriterion | None

    def __call__(self, output: ModelOutput, batch: Batch, progress: float = 1.0) -> dict[str, Tensor]:
        """Compute the weighted scalar terms of the heads and of supervised depth.

        progress: share of the training that is done, with which `late_weights` of a CenterHead grow.
        """
        terms = self.heads(output.detection, output.segmentation, batch, progress)
        if self.depth is not None and output.depth is not None:
            terms["depth"] = self.depth(output.depth, batch.sensors)
        return terms

    def heads(
        self,
        detection: list[TaskMaps] | TransFusionOutput | None,
        segmentation: Tensor | None,
        batch: Batch,
        progress: float = 1.0,
    ) -> dict[str, Tensor]:
        """Compute the terms of the heads' outputs alone, for heads that read another map than the model's own.

        Samples without annotations have no part in them; where the batch holds no other, all terms are 0.
        """
        if batch.unlabelled and len(batch.unlabelled) < len(batch):
            rows = [i for i in range(len(batch)) if i not in batch.unlabelled]
            detection = None if detection is None else select_samples(detection, rows)
            segmentation = None if segmentation is None else segmentation[rows]
            batch = labelled_part(batch, rows)
        terms = {
            name: self.detection_weight * term for name, term in self._detection(detection, batch, progress).items()
        }
        if segmentation is not None:
            terms["segmentation"] = self.segmentation_weight * segmentation_loss(
                segmentation, batch.map_masks, batch.map_known
            )
        if batch.unlabelled:
            return {name: 0.0 * term for name, term in terms.items()}
        return terms

    def _detection(
        self, detection: list[TaskMaps] | TransFusionOutput | None, batch: Batch, progress: float
    ) -> dict[str, Tensor]:
        match self.detection, detection:
            case CenterCriterion() as criterion, list() as tasks:
                return criterion(tasks, batch, progress)
            case TransFusionCriterion() as criterion, TransFusionOutput() as proposals:
                return criterion(proposals, batch)
            case _:
                return {}


def select_samples(
    detection: list[TaskMaps] | TransFusionOutput, rows: Sequence[int]
) -> list[TaskMaps] | TransFusionOutput:
    """Select samples of a detection head's output, as a batch of their own."""
    if isinstance(detection, TransFusionOutput):
        return TransFusionOutput(*(field[rows] for field in detection))
    return [
        maps._replace(**{name: field[rows] for name, field in maps._asdict().items() if field is not None})
        for maps in detection
    ]


def labelled_part(batch: Batch, rows: Sequence[int]) -> Batch:
    """Select the ground truth of the samples `rows`, which are labelled; sensors stay those of the whole batch."""
    return replace(
        batch,
        boxes=[batch.boxes[i] for i in rows],
        labels=[batch.labels[i] for i in rows],
        map_masks=batch.map_masks[rows],
        map_known=batch.map_known[rows],
        tokens=[batch.tokens[i] for i in rows],
        unlabelled=[],
    )


def build_criterion(config: ModelConfig) -> Criterion:
    """Build the criterion of a model's heads and depths."""
    return Criterion(
        _detection_criterion(config.detection, config.grid.grid()),
        config.detection.loss_weight if config.detection else 0.0,
        config.segmentation.loss_weight if config.segmentation else 0.0,
        config.camera and _depth_criterion(config.camera),
    )


def _detection_criterion(
    config: CenterHeadConfig | TransFusionConfig | None, grid: BevGrid
) -> CenterCriterion | TransFusionCriterion | None:
    match config:
        case None:
            return None
        case CenterHeadConfig() as c:
            return CenterCriterion(tuple(map(tuple, c.class_ids())), grid, {**c.late_weights})
        case TransFusionConfig():
            return TransFusionCriterion(grid)
        case _:
            assert_never(config)


def _depth_criterion(config: CameraConfig) -> DepthCriterion | None:
    match config.view:
        case LiftSplatConfig(depth_loss_weight=weight, stride=stride, bins=bins) if weight > 0:
            return DepthCriterion(DepthBins(bins.start, bins.stop, bins.step), stride, weight)
        case LiftSplatConfig() | BevFormerConfig():
            return None
        case _:
            assert_never(config.view)
