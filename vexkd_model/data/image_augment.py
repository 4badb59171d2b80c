"""Image augmentation as one affine map of pixel coordinates, so that the intrinsics follow exactly."""

from dataclasses import dataclass

import numpy as np

from vexkd_model.config.camera import ImageAugmentConfig


@dataclass(frozen=True)
class ImageAugmentation:
    """Resize, crop, then mirror and turn about the middle of the crop.

    zoom: 1 resizes the stored image's whole width to the crop's. place: where the crop lies in what the resized image
    is wider than it, 0 left … 1 right; its bottom is always the image's, for the sky holds nothing. flip: mirror left
    and right. rotation [rad, clockwise as one sees the image].
    """

    zoom: float
    place: float = 0.5
    flip: bool = False
    rotation: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator, settings: ImageAugmentConfig) -> "ImageAugmentation":
        """Draw each value uniformly in its range, flipped half of the time if `settings.flip`."""
        return cls(
            rng.uniform(*settings.zoom),
            rng.uniform(),
            bool(settings.flip and rng.random() < 0.5),
            rng.uniform(-settings.rotation, settings.rotation),
        )

    def image_from_stored(self, stored: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """Affine map float64 (3, 3) of this draw, stored image to crop: resize, crop, flip and rotation together.

        stored, size: (width, height) [px]. Source of the scheme: BEVDet's and lift-splat-shoot's data pipelines.
        """
        (width, height), (stored_width, stored_height) = size, stored
        scale = self.zoom * width / stored_width
        left, top = (scale * stored_width - width) * self.place, scale * stored_height - height
        crop_from_stored = np.array([[scale, 0, -left], [0, scale, -top], [0, 0, 1.0]])
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        turned = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
        flipped = np.diag([-1.0 if self.flip else 1.0, 1, 1])
        centre = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1.0]])
        return centre @ turned @ flipped @ np.linalg.inv(centre) @ crop_from_stored
