"""Map segmentation metric, BEVFusion's protocol."""

from dataclasses import asdict, dataclass

import numpy as np

from vexkd_model.types import MAP_CLASSES

THRESHOLDS = (0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65)
EPSILON = 1e-7


@dataclass(frozen=True)
class MapResult:
    """Figures of map segmentation.

    mean_iou: mean over the six classes of each class's best IoU.
    class_iou, best_threshold: the best over the thresholds, and the lowest threshold that reaches it.
    absent: classes without one cell of ground truth in the whole set. As in BEVFusion they count with their IoU,
    which can only be 0, so that a mean with absent classes says little.
    """

    mean_iou: float
    class_iou: dict[str, float]
    best_threshold: dict[str, float]
    absent: tuple[str, ...]
    samples: int

    def to_dict(self) -> dict:
        """Convert to plain dictionaries, lists and numbers, for JSON."""
        return asdict(self)


class MapIou:
    """Counter of cells over a whole set; IoU = TP / (TP + FP + FN + 1e-7) for each class and threshold.

    Source: BEVFusion (Liu et al., ICRA 2023), public code.
    """

    def __init__(self) -> None:
        shape = (len(MAP_CLASSES), len(THRESHOLDS))
        self._true_positives = np.zeros(shape, dtype=np.int64)
        self._predicted = np.zeros(shape, dtype=np.int64)
        self._actual = np.zeros((len(MAP_CLASSES), 1), dtype=np.int64)
        self._samples = 0

    def update(self, probabilities: np.ndarray, target: np.ndarray) -> None:
        """Add one sample: probabilities (6, Y, X) in [0, 1] and target bool (6, Y, X), both in order of MAP_CLASSES."""
        if probabilities.shape != target.shape or len(target) != len(MAP_CLASSES):
            raise ValueError(f"map prediction {probabilities.shape} and ground truth {target.shape} differ in shape")
        target = target.astype(bool).reshape(len(MAP_CLASSES), -1)
        # float32, as the thresholds are compared in BEVFusion: a float32 0.35 must reach the threshold 0.35
        predicted = probabilities.astype(np.float32).reshape(len(MAP_CLASSES), 1, -1)
        predicted = predicted >= np.array(THRESHOLDS, dtype=np.float32)[:, None]
        self._true_positives += (predicted & target[:, None]).sum(-1)
        self._predicted += predicted.sum(-1)
        self._actual += target.sum(-1, keepdims=True)
        self._samples += 1

    def add(self, other: "MapIou") -> None:
        """Add the samples of another counter."""
        self._true_positives += other._true_positives
        self._predicted += other._predicted
        self._actual += other._actual
        self._samples += other._samples

    def result(self) -> MapResult:
        """Compute the figures of all samples so far; zero where there was none."""
        union = self._predicted + self._actual - self._true_positives
        iou = self._true_positives / (union + EPSILON)
        best = iou.argmax(axis=1)
        class_iou = iou.max(axis=1)
        return MapResult(
            mean_iou=float(class_iou.mean()),
            class_iou=dict(zip(MAP_CLASSES, class_iou.tolist(), strict=True)),
            best_threshold={name: THRESHOLDS[i] for name, i in zip(MAP_CLASSES, best, strict=True)},
            absent=tuple(name for name, cells in zip(MAP_CLASSES, self._actual[:, 0], strict=True) if cells == 0),
            samples=self._samples,
        )
