"""Conversion of a Prediction's map to a nav_msgs/OccupancyGrid a class, and to pictures: coloured, and as labels."""

from array import array

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from nav_msgs.msg import MapMetaData, OccupancyGrid
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo, VisionClass

from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.types import MAP_CLASSES, BevGrid, Prediction

SHOWN_ABOVE = 0.5  # the pictures show a class where its probability is at least this
CLASS_IDS = np.arange(1, 1 + len(MAP_CLASSES), dtype=np.uint8)[:, None, None]  # in a picture; 0 is background
COLOURS = np.array([(255, 255, 255), *(MAP_COLOURS[name] for name in MAP_CLASSES)], np.uint8)  # white background
PIXELS = COLOURS.view("V3")[:, 0]  # taken as items of three bytes, a third of the time of three numbers each


def grid_message(prediction: Prediction, header: Header, map_class: int) -> OccupancyGrid:
    """Make the grid of one class, 0 … 100 %: the (Y, X) tensor, flattened as it is, with x as the grid's columns."""
    grid, probabilities = _map_of(prediction)
    rows, columns = grid.shape
    percent = probabilities[map_class] * np.float32(100)
    np.clip(np.rint(percent, out=percent), 0, 100, out=percent)
    info = MapMetaData(
        map_load_time=header.stamp,
        resolution=float(grid.cell),
        width=columns,
        height=rows,
        origin=Pose(position=Point(x=float(grid.x_min), y=float(grid.y_min)), orientation=Quaternion(w=1.0)),
    )
    return OccupancyGrid(header=header, info=info, data=array("b", percent.astype(np.int8).tobytes()))


def image_message(prediction: Prediction, header: Header) -> Image:
    """Make an rgb8 picture from above: the vehicle looks up (+x), its left (+y) is on the left; one pixel a cell."""
    return _image(PIXELS.take(_labels(prediction)), "rgb8", header)


def labels_message(prediction: Prediction, header: Header) -> Image:
    """Make a mono8 picture of the same view: a pixel is the class_id of `label_info_message`."""
    return _image(_labels(prediction), "mono8", header)


def label_info_message(header: Header) -> LabelInfo:
    """Make the meaning of `labels_message`'s pixels: 0 is background, the others the map classes in their order."""
    names = ("background", *MAP_CLASSES)
    return LabelInfo(
        header=header,
        threshold=SHOWN_ABOVE,
        class_map=[VisionClass(class_id=i, class_name=name) for i, name in enumerate(names)],
    )


def _map_of(prediction: Prediction) -> tuple[BevGrid, np.ndarray]:
    """Return the grid and float32 (C, Y, X); a student without a segmentation head has no topic to ask for them."""
    assert prediction.map_grid is not None and prediction.map_probabilities is not None
    return prediction.map_grid, prediction.map_probabilities


def _labels(prediction: Prediction) -> np.ndarray:
    """Return uint8 (X, Y): the map seen from above, 0 where no class is.

    Where classes overlap, the later one of MAP_CLASSES shows: thin ones lie on top of the drivable area.
    """
    _, probabilities = _map_of(prediction)
    labels = ((probabilities >= SHOWN_ABOVE) * CLASS_IDS).max(axis=0)
    return labels[::-1, ::-1].T


def _image(pixels: np.ndarray, encoding: str, header: Header) -> Image:
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).tobytes()
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=len(data) // height,
        data=array("B", data),
    )
