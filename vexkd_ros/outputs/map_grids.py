"""Prediction → nav_msgs/OccupancyGrid a map class, and one coloured picture of all of them."""

from array import array

import numpy as np
from geometry_msgs.msg import Point, Pose, Quaternion
from nav_msgs.msg import MapMetaData, OccupancyGrid
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.types import MAP_CLASSES, Prediction

SHOWN_ABOVE = 0.5  # the picture shows a class where its probability is at least this
BACKGROUND = 255  # white


def grid_message(prediction: Prediction, header: Header, map_class: int) -> OccupancyGrid:
    """Probability 0 … 100 of one class: the (Y, X) tensor, flattened as it is, with x as the grid's columns."""
    grid = prediction.map_grid
    rows, columns = grid.shape
    percent = np.rint(prediction.map_probabilities[map_class] * 100).clip(0, 100).astype(np.int8)
    info = MapMetaData(
        map_load_time=header.stamp, resolution=float(grid.cell), width=columns, height=rows,
        origin=Pose(position=Point(x=float(grid.x_min), y=float(grid.y_min)), orientation=Quaternion(w=1.0)))
    return OccupancyGrid(header=header, info=info, data=array("b", percent.tobytes()))


def image_message(prediction: Prediction, header: Header) -> Image:
    """rgb8 picture seen from above: the vehicle looks up (+x), its left (+y) is on the left; one pixel a cell.

    Classes are painted in the order of MAP_CLASSES, so that thin ones lie on top of the drivable area.
    """
    _, rows, columns = prediction.map_probabilities.shape
    picture = np.full((rows, columns, 3), BACKGROUND, dtype=np.uint8)
    for probability, name in zip(prediction.map_probabilities, MAP_CLASSES, strict=True):
        picture[probability >= SHOWN_ABOVE] = MAP_COLOURS[name]
    seen_from_above = picture[::-1, ::-1].transpose(1, 0, 2)
    return Image(header=header, height=columns, width=rows, encoding="rgb8", is_bigendian=0, step=rows * 3,
                 data=array("B", seen_from_above.tobytes()))
