"""BEV augmentation: one similarity transform for points, cameras, boxes, velocities and map masks alike."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from vexkd_model.types import BevGrid, Boxes, CameraImage, PastFrame

UNKNOWN = 255


@dataclass(frozen=True)
class BevAugmentation:
    """BEV similarity transform: new = flip · scale · rotation · old + translation, in base_link.

    rotation [rad, counter-clockwise], scale, flip_x and flip_y (mirror that coordinate), translation (x, y, z) [m].
    """

    rotation: float = 0.0
    scale: float = 1.0
    flip_x: bool = False
    flip_y: bool = False
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @classmethod
    def draw(
        cls, rng: np.random.Generator, rotation: float, scale: float, translation: float, flip: bool
    ) -> "BevAugmentation":
        """Draw a transform: uniform in ±rotation and 1 ± scale, normal translation, each flip half of the time."""
        return cls(
            rng.uniform(-rotation, rotation),
            rng.uniform(1 - scale, 1 + scale),
            bool(flip and rng.random() < 0.5),
            bool(flip and rng.random() < 0.5),
            tuple(rng.normal(0, translation, 3)),
        )

    @property
    def linear(self) -> np.ndarray:
        """Part of the matrix that acts on x, y: float64 (2, 2)."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        flips = np.diag([-1.0 if self.flip_x else 1.0, -1.0 if self.flip_y else 1.0])
        return flips @ (self.scale * np.array([[cos, -sin], [sin, cos]]))

    @property
    def matrix(self) -> np.ndarray:
        """Matrix new_from_old, float64 (4, 4); a similarity, mirrored where one coordinate is flipped."""
        matrix = np.diag([1.0, 1.0, self.scale, 1.0])
        matrix[:2, :2], matrix[:3, 3] = self.linear, self.translation
        return matrix

    def camera(self, image: CameraImage) -> CameraImage:
        """Transform a camera's pose; pixels stay, and depths along the view stay those of the real world."""
        return replace(image, base_from_camera=self.matrix @ image.base_from_camera)

    def past(self, then: PastFrame) -> PastFrame:
        """Transform an earlier moment, so that the ego motion is the same in the transformed world."""
        return PastFrame(
            tuple(map(self.camera, then.cameras)), self.matrix @ then.now_from_then @ np.linalg.inv(self.matrix)
        )

    def points(self, points: np.ndarray) -> np.ndarray:
        """Transform points float32 (N, ≥ 3): x, y, z change, the other columns stay."""
        moved = points.copy()
        moved[:, :2] = points[:, :2] @ self.linear.T.astype(np.float32) + np.asarray(self.translation[:2], np.float32)
        moved[:, 2] = points[:, 2] * np.float32(self.scale) + np.float32(self.translation[2])
        return moved

    def boxes(self, boxes: Boxes) -> Boxes:
        """Transform centres, sizes, headings and velocities of boxes in base_link."""
        old, new = boxes.values, self.points(boxes.values)
        new[:, 3:6] = old[:, 3:6] * self.scale
        heading = np.stack([np.cos(old[:, 6]), np.sin(old[:, 6])], axis=1) @ self.linear.T
        new[:, 6] = np.arctan2(heading[:, 1], heading[:, 0])
        new[:, 7:9] = old[:, 7:9] @ self.linear.T
        return Boxes(new, boxes.labels)

    def masks(self, masks: np.ndarray, grid: BevGrid) -> tuple[np.ndarray, np.ndarray]:
        """Transform masks bool (K, Y, X); also return bool (Y, X), the cells that the old map covered."""
        affine = np.eye(3)
        affine[:2, :2], affine[:2, 2] = self.linear, self.translation[:2]
        cell_from_metre = np.array(
            [
                [1 / grid.cell, 0, -grid.x_min / grid.cell - 0.5],
                [0, 1 / grid.cell, -grid.y_min / grid.cell - 0.5],
                [0, 0, 1],
            ]
        )
        new_from_old = cell_from_metre @ affine @ np.linalg.inv(cell_from_metre)
        size = grid.shape[::-1]
        moved = np.stack(
            [
                cv2.warpAffine(
                    mask.astype(np.uint8),
                    new_from_old[:2],
                    size,
                    flags=cv2.INTER_NEAREST,
                    borderMode=cv2.BORDER_CONSTANT,
                    borderValue=(UNKNOWN,),
                )
                for mask in masks
            ]
        )
        return moved == 1, (moved != UNKNOWN).all(axis=0)
