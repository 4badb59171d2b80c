"""Objects as one sensor sees them: the points and the pixels around the place where an annotated object stands.

For `class_confusion.py`. The crops must not give away what a classifier has to see for itself, so nothing about them
depends on the box's size or heading: both are SIDE_M wide and high wherever the object stands and whatever it is, they
are centred ANCHOR_M above the object's foot and beside its middle by a random error like a detector's, and both look
along the line of sight from the vehicle. So farther objects are sparser and more blurred, as they are to a detector.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from nuscenes.eval.detection.utils import category_to_detection_name
from nuscenes.nuscenes import NuScenes

from vexkd_model.data.image_files import load_image
from vexkd_model.data.index import CameraRecord, FrameIndex, FrameRecord
from vexkd_model.data.sweeps import accumulate_sweeps
from vexkd_model.errors import UserError
from vexkd_model.geometry.camera import inside, project, projection
from vexkd_model.progress import progress
from vexkd_model.synth.weather import DAY, DUSK, NIGHT, OVERCAST
from vexkd_model.types import DETECTION_CLASSES

SIDE_M = 8.0  # as long as most trucks; buses and trailers do not fit in
ANCHOR_M = 1.5  # height of the crop's middle above the object's foot: room for the highest trailer, and some road
PLACE_ERROR_M = 0.5  # the crop's middle is off by up to this, forwards and sideways
POINTS, PIXELS = 512, 96  # in a crop
MIN_VISIBILITY = 2  # nuScenes' level of 40 … 60 %: what is mostly hidden shows no sensor its class
MIN_HEIGHT_PX = 8  # of an object in the stored image; smaller ones are no fair question to a camera


@dataclass(frozen=True)
class Place:
    """One object to classify: which of its keyframe's boxes, and which of its keyframe's cameras sees it best."""

    box: int
    camera: int


@dataclass(frozen=True)
class Objects:
    """N objects, each as the two sensors see it.

    points: float32 (N, POINTS, 5): along the line of sight, to its left, up [m, from the crop's middle], intensity
        0 … 255, age [s]; drawn in random order from those in the crop, again and again where it holds fewer.
    images: uint8 (N, PIXELS, PIXELS, 3) RGB, black beyond the image's border.
    labels: int64 (N,). distance: float32 (N,) from base_link [m]. scenes, lights: str (N,).
    """

    points: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    distance: np.ndarray
    scenes: np.ndarray
    lights: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def light_of_scenes(nusc: NuScenes) -> dict[str, str]:
    """Scene name → DAY, OVERCAST, DUSK or NIGHT, by the words of its description; DAY where none of them is said."""
    words = {scene["name"]: re.findall(r"\w+", scene["description"].lower()) for scene in nusc.scene}
    return {name: next((light for light in (NIGHT, DUSK, OVERCAST) if light in said), DAY)
            for name, said in words.items()}  # fmt: skip


def choose(index: FrameIndex, nusc: NuScenes, ranges_m: Mapping[str, float], every: int, most: int,
           rng: np.random.Generator) -> dict[int, list[Place]]:
    """Frame number → the objects to crop from it: up to `most` of each class, from every `every`-th keyframe."""
    found, limits_m = defaultdict(list), np.array([ranges_m[name] for name in DETECTION_CLASSES])
    for i in range(0, len(index), every):
        record = index[i]
        for place in _seen_by_both(record, _visibility(nusc, record), limits_m):
            found[record.boxes.labels[place.box]].append((i, place))
    chosen = defaultdict(list)
    for _, candidates in sorted(found.items()):
        for k in sorted(rng.permutation(len(candidates))[:most]):
            frame, place = candidates[k]
            chosen[frame].append(place)
    return dict(sorted(chosen.items()))


def _visibility(nusc: NuScenes, record: FrameRecord) -> np.ndarray:
    """int (M,) nuScenes' levels of visibility, 1 … 4, of the frame's boxes."""
    annotations = (nusc.get("sample_annotation", token) for token in nusc.get("sample", record.token)["anns"])
    # `vexkd prepare` keeps the order of the annotations, and only those of the detection classes
    return np.array([int(annotation["visibility_token"]) for annotation in annotations
                     if category_to_detection_name(annotation["category_name"])], np.int64)  # fmt: skip


def _seen_by_both(record: FrameRecord, visibility: np.ndarray, limits_m: np.ndarray) -> list[Place]:
    """Objects with a LiDAR point, hardly hidden, near enough, whose middle lies in an image, high enough there.

    limits_m: (10,) evaluation ranges of DETECTION_CLASSES [m]. Of several cameras, the one that sees it largest.
    """
    boxes = record.boxes
    height_px = np.zeros((len(record.cameras), len(boxes)))
    for row, camera in zip(height_px, record.cameras, strict=True):
        image_from_base = projection(camera.intrinsics, camera.base_from_camera)
        pixels, depth = project(image_from_base, boxes.values[:, :3])
        seen = inside(pixels, camera.size)
        row[seen] = (camera.intrinsics[1, 1] * boxes.values[:, 5] / depth)[seen]
    near = np.hypot(boxes.values[:, 0], boxes.values[:, 1]) <= limits_m[boxes.labels]
    wanted = near & (record.lidar_points > 0) & (visibility >= MIN_VISIBILITY)
    wanted &= height_px.max(axis=0, initial=0) >= MIN_HEIGHT_PX
    return [Place(int(k), int(height_px[:, k].argmax())) for k in np.flatnonzero(wanted)]


def crop_objects(index: FrameIndex, places: Mapping[int, list[Place]], lights: Mapping[str, str],
                 rng: np.random.Generator) -> Objects:
    """What both sensors see of the chosen objects."""
    points, images, facts = [], [], []
    for i in progress(places, f"crop {index.split}", unit="frames"):
        record = index[i]
        sweeps = accumulate_sweeps(sweep.load() for sweep in record.sweeps)
        sweeps = sweeps[np.argsort(sweeps[:, 0])]
        pictures = {k: load_image(record.cameras[k]).pixels for k in {place.camera for place in places[i]}}
        for place in places[i]:
            box = record.boxes.values[place.box]
            middle = np.array([*(box[:2] + rng.uniform(-1, 1, 2) * PLACE_ERROR_M), box[2] - box[5] / 2 + ANCHOR_M])
            points.append(crop_points(sweeps, middle, record.sweeps[0].base_from_sensor[:2, 3], rng))
            images.append(crop_image(pictures[place.camera], record.cameras[place.camera], middle))
            facts.append((record.boxes.labels[place.box], np.hypot(*box[:2]), record.scene, lights[record.scene]))
    if not facts:
        raise UserError(f"{index.folder}: no object of a detection class is seen by LiDAR and a camera")
    labels, distance, scenes, light = map(np.array, zip(*facts, strict=True))
    return Objects(np.stack(points), np.stack(images), labels, distance, scenes, light)


def crop_points(points: np.ndarray, middle: np.ndarray, viewpoint: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float32 (POINTS, 5) as in `Objects`: points (N, 5) of base_link in an upright cylinder around `middle` (3,).

    A cylinder, because it looks the same from everywhere. points: sorted by x, so that most of them need no look.
    viewpoint: (2,) the LiDAR's place, from which the line of sight runs. All zero where the cylinder is empty.
    """
    points = points[slice(*np.searchsorted(points[:, 0], middle[0] + np.array([-SIDE_M, SIDE_M]) / 2))]
    offset = points[:, :3] - middle.astype(np.float32)
    near = np.flatnonzero((np.hypot(offset[:, 0], offset[:, 1]) <= SIDE_M / 2) & (np.abs(offset[:, 2]) <= SIDE_M / 2))
    if not len(near):
        return np.zeros((POINTS, 5), np.float32)
    drawn = np.resize(rng.permutation(near), POINTS)  # which repeats them
    forward = (middle[:2] - viewpoint) / np.linalg.norm(middle[:2] - viewpoint)
    view_from_base = np.array([forward, [-forward[1], forward[0]]])
    return np.column_stack([offset[drawn, :2] @ view_from_base.T, offset[drawn, 2], points[drawn, 3:]]
                           ).astype(np.float32)


def crop_image(pixels: np.ndarray, camera: CameraRecord, middle: np.ndarray) -> np.ndarray:
    """uint8 (PIXELS, PIXELS, 3): the square of SIDE_M at the depth of `middle` (3,), in base_link, around it."""
    centre, depth = project(projection(camera.intrinsics, camera.base_from_camera), middle)
    half = max(camera.intrinsics[1, 1] * SIDE_M / depth / 2, 1.0)
    first, last = np.round(centre - half).astype(int), np.round(centre + half).astype(int)
    # only as much border as the square needs, so that a square beyond the image is no special case
    over = [max(0, -first[1]), max(0, last[1] - pixels.shape[0]), max(0, -first[0]), max(0, last[0] - pixels.shape[1])]
    padded = cv2.copyMakeBorder(pixels, *map(int, over), cv2.BORDER_CONSTANT)
    first, last = (corner + np.array([over[2], over[0]]) for corner in (first, last))
    square = padded[first[1] : last[1], first[0] : last[0]]
    shrinks = square.shape[0] > PIXELS
    return cv2.resize(square, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
