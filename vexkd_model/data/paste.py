"""Ground-truth pasting: add objects of other frames, with their LiDAR points, at the place where they stood.

Source: Yan et al., "SECOND: sparsely embedded convolutional detection" (2018), section 3.4.2.
"""

from functools import cached_property

import numpy as np
import torch

from vexkd_model.config.training import PasteConfig
from vexkd_model.data.point_database import PointDatabase, crops
from vexkd_model.geometry.nms import rotated_iou_bev
from vexkd_model.types import DETECTION_CLASSES, Boxes


class ObjectPaster:
    """Augmentation that fills each class of a frame up to its number of objects, without overlaps.

    epochs: of the whole training; in its last ones nothing is pasted, so that it ends on frames as they are.
    """

    def __init__(self, database: PointDatabase, settings: PasteConfig, epochs: int) -> None:
        self.database, self.settings = database, settings
        self.until_epoch = epochs - settings.off_for_last_epochs

    def paste(self, points: np.ndarray, boxes: Boxes, rng: np.random.Generator) -> tuple[np.ndarray, Boxes]:
        """Append objects to points (N, 5) and boxes in base_link.

        The frame's own points in a pasted box are removed.
        """
        chosen = self._chosen(boxes.labels, rng)
        chosen = chosen[_standing_free(self.database.boxes[chosen], boxes.values)]
        if not len(chosen):
            return points, boxes
        values = self.database.boxes[chosen]
        covered = np.concatenate(crops(points, values))
        kept = np.delete(points, covered, axis=0)
        labels = np.concatenate([boxes.labels, self.database.labels[chosen]])
        pasted = Boxes(np.concatenate([boxes.values, values]), labels)
        return np.concatenate([kept, *(self.database.points(k) for k in chosen)]), pasted

    def _chosen(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw objects, int64 (K,), each once, that would fill the frame up."""
        chosen = [np.empty(0, np.int64)]
        for label, (wanted, candidates) in self._candidates.items():
            missing = wanted - np.count_nonzero(labels == label)
            if missing > 0 and len(candidates):
                chosen.append(np.unique(rng.choice(candidates, missing)))
        return np.concatenate(chosen)

    @cached_property
    def _candidates(self) -> dict[int, tuple[int, np.ndarray]]:
        """Number of objects wanted in a frame, and objects of the database worth pasting, by label."""
        worth = self.database.counts >= self.settings.min_points
        labels = {DETECTION_CLASSES.index(name): wanted for name, wanted in self.settings.objects.items()}
        return {
            label: (wanted, np.flatnonzero(worth & (self.database.labels == label))) for label, wanted in labels.items()
        }


def _standing_free(candidates: np.ndarray, existing: np.ndarray) -> np.ndarray:
    """Mask bool (K,) of the boxes (K, 9) that overlap neither existing ones (M, 9) nor one accepted before."""
    others = torch.from_numpy(np.concatenate([existing, candidates]))
    overlap = rotated_iou_bev(torch.from_numpy(np.array(candidates)), others).numpy() > 0
    free = np.zeros(len(candidates), bool)
    for k, row in enumerate(overlap):
        free[k] = not row[: len(existing)].any() and not row[len(existing) :][free].any()
    return free
