"""`vexkd plot drive` draws a scene frame by frame: cameras, boxes and maps of the students that it is given."""

import numpy as np
import pytest
from PIL import Image

from vexkd_model.cli import main
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.figures.palette import MAP_COLOURS
from vexkd_model.types import MAP_CLASSES

pytestmark = pytest.mark.usefixtures("one_thread")


def drive(runs, names, of_first_frame, tmp_path, *, scene="scene-0061", out="drive.gif"):
    words = [*of_first_frame, "--split", "mini_train", "--scene", scene, "--out", str(tmp_path / out)]
    main(["plot", "drive", *(str(runs / name) for name in names), *words])
    return Image.open(tmp_path / out)


def test_a_frame_a_keyframe_in_the_colours_of_the_map(runs, of_first_frame, tiny_index, tmp_path, monkeypatch):
    everywhere, answer = MAP_CLASSES.index("drivable_area"), Predictor.predict

    def all_road(self, frame):
        prediction = answer(self, frame)
        prediction.map_probabilities[:] = 0
        prediction.map_probabilities[everywhere] = 1
        return prediction

    monkeypatch.setattr(Predictor, "predict", all_road)
    frames = tiny_index.column("scene").count("scene-0061")
    one = drive(runs, ["plain"], of_first_frame, tmp_path)
    assert one.n_frames == frames and one.info["duration"] == 400
    one.seek(frames - 1)
    pixels = np.asarray(one.convert("RGB")).astype(int)
    road = (255 + np.array(MAP_COLOURS["drivable_area"])) / 2  # half transparent on white
    share = (np.abs(pixels - road).max(axis=2) <= 12).mean()
    assert 0.2 < share < 0.6  # of one of two panels


@pytest.mark.parametrize(
    ("names", "changed", "message"),
    [
        (["detection"], {}, "it has one head alone"),
        (["plain"], {"scene": "scene-9999"}, "--scene scene-9999: not in split"),
        (["plain"], {"out": "drive.mp4"}, "drive.mp4: a moving picture is a GIF"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(runs, of_first_frame, tmp_path, names, changed, message):
    with pytest.raises(SystemExit, match=message) as error:
        drive(runs, names, of_first_frame, tmp_path, **changed)
    assert "\n" not in error.value.code and not list(tmp_path.glob("drive*"))
