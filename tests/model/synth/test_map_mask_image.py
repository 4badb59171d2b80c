"""Map mask, read by another library, against the same polygons that OpenCV draws into one array."""

import cv2
import numpy as np
from PIL import Image

from vexkd_model.synth.map_mask_image import write_mask
from vexkd_model.synth.maps import scene_geometry
from vexkd_model.synth.world import build_world, patch_origin


def test_the_mask_is_what_drawing_all_polygons_at_once_gives_also_where_bands_meet_and_where_they_are_empty(tmp_path):
    scenes = {str(slot): scene_geometry(build_world(2, slot, 4.0).layout, patch_origin(slot)) for slot in (0, 17)}
    block = [[100.0, 250.0], [140.0, 250.0], [140.0, 400.0], [100.0, 400.0]]
    hole = [[110.0, 300.0], [120.0, 300.0], [120.0, 330.0], [110.0, 330.0]]
    scenes["across"] = {"drivable_area": [[block, hole]], "walkway": []}
    canvas = (2 * 310.0, 4 * 310.0)
    write_mask(tmp_path / "mask.png", scenes, canvas)
    expected = np.zeros((12_400, 6_200), np.uint8)
    for geometry in scenes.values():
        for layer in ("drivable_area", "walkway"):
            for rings in geometry[layer]:
                pixels = [np.round(np.array(ring) * 10 * [1, -1] + [0, 12_400]).astype(np.int32) for ring in rings]
                cv2.fillPoly(expected, pixels, 255)
    with Image.open(tmp_path / "mask.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.array(image), expected)
    assert not expected[:3_000].any()  # an empty band
    assert (expected > 0).mean() > 0.02
