"""Camera images of a prepared dataset, read from their files."""

from functools import partial

import numpy as np

from vexkd_model.config.camera import ImageConfig
from vexkd_model.data.image_augment import ImageAugmentation
from vexkd_model.data.images import StoredImage, decode, view_of
from vexkd_model.data.index import CameraRecord
from vexkd_model.errors import UserError
from vexkd_model.types import CameraImage


def load_image(record: CameraRecord) -> CameraImage:
    """Load an image as it is stored; UserError names a file that is missing or cannot be decoded."""
    return CameraImage(
        record.name, _decode(record, 1), record.stamp_ns, record.intrinsics, np.eye(3), record.base_from_camera
    )


def load_view(record: CameraRecord, images: ImageConfig, augmentation: ImageAugmentation | None = None) -> CameraImage:
    """Load a stored image and crop it to `images.width` × `images.height`; augmentation: None in inference."""
    pixels, image_from_stored = view_of(StoredImage(record.size, partial(_decode, record)), images, augmentation)
    return CameraImage(
        record.name, pixels, record.stamp_ns, record.intrinsics, image_from_stored, record.base_from_camera
    )


def _decode(record: CameraRecord, reduction: int) -> np.ndarray:
    """Decode an image file to uint8 (h, w, 3) RGB, shrunk by `reduction`."""
    try:
        content = np.fromfile(record.path, np.uint8)
    except OSError as error:
        raise UserError(f"{record.path}: image cannot be read ({error.strerror}); complete the download") from None
    try:
        pixels = decode(content, reduction)
    except ValueError as error:
        raise UserError(f"{record.path}: {error} image; download it again") from None
    if any(abs(actual - edge / reduction) >= 1 for actual, edge in zip(pixels.shape[1::-1], record.size, strict=True)):
        raise UserError(
            f"{record.path}: decodes to another size than sample_data.json's "
            f"{record.size[0]}×{record.size[1]} px; prepare the dataset again, with --force"
        )
    return pixels
