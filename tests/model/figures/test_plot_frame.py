"""`vexkd plot frame`: a frame is found by number, token or scene, and drawn with what the index knows of it."""

import cv2
import numpy as np
import pytest
from nuscenes.utils.geometry_utils import BoxVisibility, view_points
from support.rig import CAMERAS, IMAGE_SIZE
from support.street import boxes_in_base, pixels_of
from support.tiny_nuscenes import SCENES, write_tiny_nuscenes

from vexkd_model.cli import main
from vexkd_model.data.prepare import prepare
from vexkd_model.geometry.boxes import points_in_boxes, tilted_corners
from vexkd_model.geometry.camera import project, projection

# our order of corners in the devkit's `Box.corners()`
OF_DEVKIT = [3, 7, 6, 2, 0, 4, 5, 1]


@pytest.fixture
def drawn(monkeypatch):
    """Arguments of every call of the figure: (frame, boxes, up, lidar_points, map_masks, title) of every call."""
    calls = []
    monkeypatch.setattr("vexkd_model.figures.frame_figure.frame_figure", lambda path, *what, **_: calls.append(what))
    return calls


def plot(dataroot, index_dir, *words):
    main(
        ["plot", "frame", str(dataroot), "--version", "v1.0-mini", "--index", str(index_dir), "--out", "a.png", *words]
    )


def failure(*arguments):
    with pytest.raises(SystemExit) as error:
        plot(*arguments)
    return error.value.code


def test_the_first_frame_of_the_first_split_is_drawn_when_none_is_named(
    tiny_dataroot, tiny_index_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    plot(tiny_dataroot, tiny_index_dir)
    image = cv2.imread("a.png")
    assert image.shape[1] > 1.5 * image.shape[0] > 1000
    assert "a.png: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "token"),
    [
        ((), "scene-0061-0"),
        (("--frame", "2"), "scene-0061-2"),
        (("--split", "mini_val", "--frame", "1"), "scene-0103-1"),
        (("--token", "scene-0103-1"), "scene-0103-1"),
        (("--scene", "scene-0103"), "scene-0103-0"),
        (("--scene", "scene-0061", "--split", "mini_train"), "scene-0061-0"),
    ],
    ids=" ".join,
)
def test_a_frame_is_named_by_number_token_or_scene(drawn, tiny_dataroot, tiny_index_dir, words, token):
    plot(tiny_dataroot, tiny_index_dir, *words)
    ((frame, boxes, _, lidar_points, map_masks, title),) = drawn
    assert frame.token == token and title.split(", ")[2].endswith(f": {token[:10]}")
    expected = [thing for thing, _ in boxes_in_base(int(token[-1])) if thing.category != "animal"]
    assert lidar_points.tolist() == [thing.points for thing in expected] and len(boxes) == len(expected)
    assert map_masks.any(axis=(1, 2)).all() and not frame.points[:, 4].any()
    assert {camera.name: camera.pixels.shape for camera in frame.cameras} == dict.fromkeys(
        CAMERAS, (*IMAGE_SIZE[::-1], 3)
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--frame", "3"), "--frame 3: split mini_train has frames 0 … 2"),
        (("--frame", "-1"), "--frame -1"),
        (("--token", "nobody"), "--token nobody: in none of the prepared splits mini_train, mini_val"),
        (("--scene", "scene-0103", "--split", "mini_train"), "--scene scene-0103: in none"),
        (("--split", "test"), "test"),
    ],
    ids=" ".join,
)
def test_a_frame_that_is_not_there_is_one_line(tiny_dataroot, tiny_index_dir, words, named):
    message = failure(tiny_dataroot, tiny_index_dir, *words)
    assert message.startswith("vexkd: ") and named in message and "\n" not in message


def test_an_unprepared_dataset_is_sent_to_prepare(tiny_dataroot, tmp_path):
    message = failure(tiny_dataroot, tmp_path / "none")
    assert str(tmp_path / "none") in message and "vexkd prepare" in message


def test_number_token_and_scene_exclude_one_another(tiny_dataroot, tiny_index_dir, capsys):
    assert failure(tiny_dataroot, tiny_index_dir, "--frame", "1", "--scene", "scene-0061") == 2
    assert "not allowed with" in capsys.readouterr().err


def test_a_damaged_image_leaves_no_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0103": 1})
    prepare(root, "v1.0-mini", tmp_path / "index")
    image = next((root / "samples" / "CAM_BACK").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    assert str(image) in failure(root, tmp_path / "index")
    assert not (tmp_path / "a.png").exists()


def test_boxes_land_where_the_street_is_seen_in_every_image(drawn, tiny_dataroot, tiny_index_dir):
    for k in range(SCENES["scene-0061"]):
        plot(tiny_dataroot, tiny_index_dir, "--frame", str(k))
        frame, boxes, up, *_ = drawn.pop()
        np.testing.assert_allclose(up, np.tile([0, 0, 1], (len(boxes), 1)), atol=1e-7)
        for camera in frame.cameras:
            pixels, depth = project(projection(camera.image_from_camera, camera.base_from_camera), boxes.values)
            rows = [row[:3] for thing, row in boxes_in_base(k) if thing.category != "animal"]
            expected, _ = pixels_of(camera.name, k, rows)
            np.testing.assert_allclose(pixels[depth > 1], expected[depth > 1], atol=0.05)


def test_boxes_of_a_real_keyframe_are_drawn_within_half_a_pixel_of_the_devkits(drawn, keyframe_dataroot, tmp_path):
    from nuscenes.nuscenes import NuScenes

    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    plot(keyframe_dataroot, tmp_path)
    frame, boxes, up, lidar_points, map_masks, _ = drawn.pop()
    assert len(boxes) == 68 and map_masks is None and len(frame.cameras) == 6
    nusc = NuScenes("v1.0-mini", str(keyframe_dataroot), verbose=False)
    data, compared = nusc.get("sample", frame.token)["data"], 0
    for camera in frame.cameras:
        _, expected, intrinsics = nusc.get_sample_data(data[camera.name], box_vis_level=BoxVisibility.NONE)
        image_from_base = projection(camera.image_from_camera, camera.base_from_camera)
        pixels, depth = project(image_from_base, tilted_corners(boxes.values, up))
        for i in np.flatnonzero((depth > 1).all(axis=1)):
            devkit = view_points(expected[i].corners()[:, OF_DEVKIT], intrinsics, normalize=True)[:2].T
            assert np.abs(pixels[i] - devkit).max() <= 0.5
            compared += 1
    assert compared > 68
    counted = points_in_boxes(frame.points, boxes.values).sum(axis=1)
    assert (np.abs(counted - lidar_points) <= np.maximum(1, 0.05 * lidar_points)).sum() >= 66
