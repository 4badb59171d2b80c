"""Types and conventions that every part of the project shares.

Everything lives in the ego frame = base_link (x forward, y left, z up; REP-103), in metres, radians and
seconds. A network may work in a frame of its own (`frame` of its configuration): what goes in and comes out is moved at
its edges (data/network_frame.py), and within it base_link stands for that frame. Stamps are integer nanoseconds. BEV
arrays are (C, Y, X): index 0 at the minimum, the centre of cell (j, i) at `minimum + (index + 0.5) * cell`.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

DETECTION_CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)
# Those that the official tracking metrics count.
TRACKING_CLASSES = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")
MAP_CLASSES = ("drivable_area", "ped_crossing", "walkway", "stop_line", "carpark_area", "divider")
# nuScenes' channels; the order of every list and batch of cameras. Left to right in front, then behind.
CAMERAS = ("CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK", "CAM_BACK_RIGHT")
ATTRIBUTE_NAMES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "pedestrian.moving",
)
POINT_FIELDS = ("x", "y", "z", "intensity", "dt")
BOX_FIELDS = ("x", "y", "z", "length", "width", "height", "yaw", "vx", "vy")
# Of a box's errors: along and across the line of sight from base_link, up [m], heading [rad]; velocity along and across
# the heading [m/s].
DEVIATION_FIELDS = ("radial", "tangential", "z", "yaw", "v_along", "v_across")


@dataclass(frozen=True)
class BevGrid:
    """Square-celled bird's-eye-view grid in base_link: x in [x_min, x_max), y in [y_min, y_max), metres."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float
    cell: float

    def __post_init__(self) -> None:
        for name, low, high in (("x", self.x_min, self.x_max), ("y", self.y_min, self.y_max)):
            cells = (high - low) / self.cell
            if cells < 1 or abs(cells - round(cells)) > 1e-6:
                raise ValueError(f"the {name} range {low} … {high} m does not divide into cells of {self.cell} m")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells along y and along x, (Y, X)."""
        return round((self.y_max - self.y_min) / self.cell), round((self.x_max - self.x_min) / self.cell)

    def centres(self) -> tuple[np.ndarray, np.ndarray]:
        """Compute the cell centres [m]: (Y,) along y and (X,) along x."""
        rows, columns = self.shape
        return (self.y_min + (np.arange(rows) + 0.5) * self.cell, self.x_min + (np.arange(columns) + 0.5) * self.cell)


SEGMENTATION_GRID = BevGrid(-50.0, 50.0, -50.0, 50.0, 0.5)  # of all map masks: BEVFusion's protocol, also the paper's


@dataclass(frozen=True)
class Boxes:
    """Boxes in base_link, M of them.

    values: float32 (M, 9) in the order of BOX_FIELDS: centre [m], length along the heading, width, height [m],
        yaw [rad, counter-clockwise from +x], velocity [m/s]; velocity is NaN where it is unknown.
    labels: int64 (M,), index into DETECTION_CLASSES.
    """

    values: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class CameraImage:
    """Image of one camera, with the calibration of its pixels.

    Pixel (column i, row j) covers [i, i + 1) × [j, j + 1): its centre is at (i + 0.5, j + 0.5). The camera's axes are x
    right, y down, z along the view.

    pixels: uint8 (H, W, 3) RGB, as the student reads them: resized, cropped, augmented.
    stamp_ns: the camera's own.
    intrinsics: float64 (3, 3) of the image as it was stored or received.
    image_from_stored: float64 (3, 3), the one affine map of that image's coordinates to those of `pixels`.
    base_from_camera: float64 (4, 4), from the camera at its own stamp to base_link at the frame's. Rigid offline and on
        a vehicle; in training it carries the BEV augmentation too, which scales and mirrors: invert it as a matrix.
    """

    name: str
    pixels: np.ndarray
    stamp_ns: int
    intrinsics: np.ndarray
    image_from_stored: np.ndarray
    base_from_camera: np.ndarray

    @property
    def image_from_camera(self) -> np.ndarray:
        """Intrinsics of `pixels`, float64 (3, 3): a point (x, y, z) of the camera's frame → (u · z, v · z, z)."""
        return self.image_from_stored @ self.intrinsics


@dataclass(frozen=True)
class PastFrame:
    """Camera images of an earlier moment.

    cameras: as Frame.cameras; their `base_from_camera` leads to base_link at that moment.
    now_from_then: float64 (4, 4), from base_link at that moment to base_link at the frame's.
    """

    cameras: tuple[CameraImage, ...]
    now_from_then: np.ndarray


@dataclass(frozen=True)
class Frame:
    """Sensor input of a model at one moment.

    points: float32 (N, 5) in the order of POINT_FIELDS: position in base_link [m], intensity 0 … 255,
        dt ≥ 0 [s], the age of the sweep that the point came from.
    stamp_ns: reference time, that of the newest sweep.
    token: the nuScenes sample token, empty on a vehicle.
    cameras: the images that are there, in the order of CAMERAS; empty for a student that reads none.
    past: earlier moments, newest first, for a student with history; fewer where there were fewer.
    """

    points: np.ndarray
    stamp_ns: int
    token: str = ""
    cameras: tuple[CameraImage, ...] = ()
    past: tuple[PastFrame, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """Prediction of a model for one Frame.

    boxes: detections, best first; none from a student without a detection head. scores: float32 (M,) in [0, 1]: the
        share of such boxes that is right, where the student's card has a calibration, else a confidence.
    map_probabilities: float32 (6, Y, X) on map_grid, in the order of MAP_CLASSES; both None from a student without a
        segmentation head.
    deviations: standard deviations of the boxes' errors, float32 (M, 6) in the order of DEVIATION_FIELDS, NaN where
        unknown; None from a student whose card has none.
    """

    boxes: Boxes
    scores: np.ndarray
    map_probabilities: np.ndarray | None
    map_grid: BevGrid | None
    stamp_ns: int
    token: str = ""
    deviations: np.ndarray | None = None

    def scoring(self, threshold: float | np.ndarray) -> "Prediction":
        """Keep only the boxes that score at least `threshold`, one number or (10,) of all DETECTION_CLASSES."""
        kept = self.scores >= np.broadcast_to(threshold, len(DETECTION_CLASSES))[self.boxes.labels]
        return replace(
            self,
            boxes=Boxes(self.boxes.values[kept], self.boxes.labels[kept]),
            scores=self.scores[kept],
            deviations=None if self.deviations is None else self.deviations[kept],
        )
