"""Change of frame at the edges of a network that does not work in base_link (`frame` of its configuration).

What goes in is moved when frames and samples are stacked (`data.batch`), boxes that come out when they are decoded for
a user (`deploy.predictor.detections_of`), and maps by the segmentation head's sampling grid. Between the two, whatever
speaks of base_link means the network's frame.
"""

from dataclasses import replace

import numpy as np

from vexkd_model.geometry.boxes import transform_boxes
from vexkd_model.geometry.transforms import inverse
from vexkd_model.types import Boxes, CameraImage, Frame, PastFrame


def move_frame(frame: Frame, dst_from_src: np.ndarray | None) -> Frame:
    """Move a frame's points, cameras and past from `src` to `dst`, rigid float64 (4, 4); None leaves it as it is."""
    if dst_from_src is None:
        return frame

    def moved(image: CameraImage) -> CameraImage:
        return replace(image, base_from_camera=dst_from_src @ image.base_from_camera)

    return replace(
        frame,
        points=_moved_points(np.asarray(frame.points, np.float32), dst_from_src.astype(np.float32)),
        cameras=tuple(map(moved, frame.cameras)),
        past=tuple(
            PastFrame(tuple(map(moved, then.cameras)), dst_from_src @ then.now_from_then @ inverse(dst_from_src))
            for then in frame.past
        ),
    )


def move_boxes(boxes: Boxes, dst_from_src: np.ndarray | None) -> Boxes:
    """Move centres, headings and velocities from `src` to `dst`; boxes stand upright in both. None: as they are."""
    if dst_from_src is None:
        return boxes
    return Boxes(transform_boxes(dst_from_src, boxes.values).astype(np.float32), boxes.labels)


def in_base_link(boxes: Boxes, network_from_base: np.ndarray | None) -> Boxes:
    """Move boxes from the network's frame, in which its batches and decoder have them, back to base_link."""
    return boxes if network_from_base is None else move_boxes(boxes, inverse(network_from_base))


def _moved_points(points: np.ndarray, dst_from_src: np.ndarray) -> np.ndarray:
    """Move points float32 (N, 5), by column in memory, as `accumulate_sweeps` makes them and encoders read them."""
    moved = np.empty(points.shape[::-1], np.float32)
    np.matmul(dst_from_src[:3, :3], points[:, :3].T, out=moved[:3])
    moved[:3] += dst_from_src[:3, 3:]
    moved[3:] = points[:, 3:].T
    return moved.T
