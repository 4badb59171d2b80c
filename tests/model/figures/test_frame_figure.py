"""The picture of a frame shows things where they are, from above and through every camera."""

import cv2
import numpy as np
import pytest
from support.rig import lens, mounting

from vexkd_model.figures.frame_figure import frame_figure
from vexkd_model.figures.palette import DETECTION_COLOURS, MAP_COLOURS
from vexkd_model.types import CAMERAS, DETECTION_CLASSES, MAP_CLASSES, Boxes, CameraImage, Frame

WIDTH, HEIGHT, FOCAL, EYE_M = 320, 180, 200.0, 1.5
BUS = DETECTION_CLASSES.index("bus")
PURPLE = DETECTION_COLOURS["bus"]
GREEN = (90, 160, 110)  # of images; no other thing in the picture has this colour
NO_POINTS = np.zeros((0, 5), np.float32)


def camera(name="CAM_FRONT", yaw=0.0, colour=GREEN):
    """EYE_M above the rear axle, looking along yaw."""
    pixels = np.full((HEIGHT, WIDTH, 3), colour, np.uint8)
    return CameraImage(name, pixels, 0, lens(FOCAL, WIDTH, HEIGHT), np.eye(3), mounting(yaw, at=(0, 0, EYE_M)))


def picture(path, boxes=(), points=NO_POINTS, cameras=(), lidar_points=10, map_masks=None, **how):
    """RGB of the figure. boxes: rows of x, y, z, length, width, height, yaw, vx, vy; all are buses."""
    values = np.array(boxes, np.float32).reshape(-1, 9)
    frame_figure(
        path,
        Frame(points, 0, cameras=tuple(cameras)),
        Boxes(values, np.full(len(values), BUS)),
        np.tile([0, 0, 1.0], (len(values), 1)),
        np.full(len(values), lidar_points),
        map_masks,
        "",
        **how,
    )
    image = cv2.imread(str(path))
    assert image is not None
    return image[..., ::-1].astype(int)


def near(image, colour, tolerance=12):
    """(Y, X) pixels of that colour; the legend at the bottom left out."""
    return (np.abs(image - colour).max(axis=-1) <= tolerance)[: int(0.9 * len(image))]


def extent(mask):
    """Left, upper, right and lower border of what is set."""
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def panel(image):
    """Left and upper border of the camera image, and its scale, from its colour."""
    left, top, right, bottom = extent(near(image, GREEN, 2))
    assert (right - left) / (bottom - top) == pytest.approx(WIDTH / HEIGHT, rel=0.02)
    return left, top, (right - left) / WIDTH


def test_a_box_is_drawn_into_the_image_where_a_pinhole_camera_sees_it(tmp_path):
    image = picture(tmp_path / "a.png", [(20, 6, 1.5, 0.1, 4, 3, 0, 0, 0)], cameras=[camera()])
    left, top, scale = panel(image)
    purple = near(image, PURPLE)
    purple[:, :left] = False  # the view from above
    # a face 20 m ahead, 4 … 8 m to the left, from the ground to 3 m
    expected = [
        WIDTH / 2 - FOCAL * 8 / 20,
        HEIGHT / 2 - FOCAL * 1.5 / 20,
        WIDTH / 2 - FOCAL * 4 / 20,
        HEIGHT / 2 + FOCAL * 1.5 / 20,
    ]
    found = (np.array(extent(purple)) - [left, top, left, top]) / scale
    np.testing.assert_allclose(found, expected, atol=2)


def test_a_box_behind_the_camera_is_not_drawn_into_its_image(tmp_path):
    image = picture(tmp_path / "a.png", [(-20, 6, 1.5, 4, 4, 3, 0, 0, 0)], cameras=[camera()])
    left, *_ = panel(image)
    assert near(image, PURPLE)[:, :left].any() and not near(image, PURPLE)[:, left:].any()


def test_a_lidar_point_is_drawn_on_the_thing_that_it_hit(tmp_path):
    points = np.zeros((40, 5), np.float32)
    points[:, :3] = [10, -3, 2.5]
    without, with_points = (
        picture(tmp_path / "a.png", points=some, cameras=[camera()]) for some in (NO_POINTS, points)
    )
    left, top, scale = panel(without)
    changed = (np.abs(without - with_points).max(axis=-1) > 20)[: int(0.9 * len(without))]
    changed[:, :left] = False
    x0, y0, x1, y1 = extent(changed)
    middle = (np.array([(x0 + x1) / 2, (y0 + y1) / 2]) - [left, top]) / scale
    np.testing.assert_allclose(middle, [WIDTH / 2 + FOCAL * 3 / 10, HEIGHT / 2 - FOCAL * 1 / 10], atol=1.5)


def test_cameras_lie_as_they_look_and_further_ones_find_a_place(tmp_path):
    names = (*reversed(CAMERAS), "CAM_ROOF")
    colours = {name: (200, 40 + 25 * i, 90) for i, name in enumerate(names)}
    image = picture(tmp_path / "a.png", cameras=[camera(name, colour=colours[name]) for name in names])
    place = {name: extent(near(image, colours[name], 2))[:2] for name in names}
    assert place["CAM_FRONT"][1] == place["CAM_BACK"][1] < place["CAM_FRONT_LEFT"][1] < place["CAM_BACK_LEFT"][1]
    assert place["CAM_FRONT_LEFT"][0] == place["CAM_BACK_LEFT"][0] < place["CAM_FRONT_RIGHT"][0]
    assert place["CAM_BACK_LEFT"][1] == place["CAM_BACK_RIGHT"][1] < place["CAM_ROOF"][1]


def test_a_box_on_the_left_ahead_lies_above_and_to_the_left_with_or_without_cameras(tmp_path):
    for cameras in ((), (camera(yaw=np.pi),)):
        ahead, right = (
            np.argwhere(near(picture(tmp_path / "a.png", [box], cameras=cameras), PURPLE)).mean(axis=0)
            for box in ((30, 30, 1, 11, 3, 3, 0, 0, 0), (28, -30, 1, 11, 3, 3, 0, 0, 0))
        )
        assert ahead[1] < right[1] - 100 and 5 < right[0] - ahead[0] < 20  # 60 m and 2 m


def test_a_box_without_a_lidar_point_is_drawn_thinner(tmp_path):
    bus = (15, 0, 1.5, 8, 3, 3, 0.3, 0, 0)
    full, thin = (
        near(picture(tmp_path / "a.png", [bus], cameras=[camera()], lidar_points=count), PURPLE, 60).sum()
        for count in (5, 0)
    )
    assert 0 < thin < 0.7 * full


def test_a_moving_box_has_an_arrow_to_where_it_will_be(tmp_path):
    def bus(vx, vy):
        return [(-20, -20, 1.5, 6, 3, 3, 0, vx, vy)]

    still, moving, unknown = (
        picture(tmp_path / "a.png", bus(*velocity)) for velocity in ((0, 0), (0, 15), (np.nan, np.nan))
    )
    assert (still == unknown).all()
    x0, y0, x1, y1 = extent(np.abs(still - moving).max(axis=-1) > 40)
    box = extent(near(still, PURPLE))
    assert x1 - x0 == pytest.approx(15 / 3 * (box[2] - box[0]), rel=0.2)  # 15 m to the left of a box 3 m wide
    assert y1 - y0 < (box[3] - box[1]) / 2 and x1 <= box[2]


def test_the_map_lies_under_the_scene_and_is_paler_than_its_palette(tmp_path):
    masks = np.zeros((len(MAP_CLASSES), 200, 200), bool)
    masks[MAP_CLASSES.index("carpark_area"), 100:, 100:] = True
    image = picture(tmp_path / "a.png", map_masks=masks)
    colour = np.array(MAP_COLOURS["carpark_area"])
    assert near(image, (colour + 255) // 2, 4).sum() > 5000 and not near(image, colour, 4).any()


def test_boxes_that_a_machine_made_are_dashed_from_above_and_through_the_camera(tmp_path):
    box = (12, 0, 1.5, 8, 3, 3, 0.5, 0, 0)
    true, made = (
        near(picture(tmp_path / f"{made}.png", [box], cameras=[camera()], machine_made=made), PURPLE, 60)
        for made in (False, True)
    )
    middle = true.shape[1] // 2
    for side in (np.s_[:, :middle], np.s_[:, middle:]):
        assert 0.3 * true[side].sum() < made[side].sum() < 0.9 * true[side].sum()
