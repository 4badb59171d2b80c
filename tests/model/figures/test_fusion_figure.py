"""`vexkd plot fusion` shows the maps that go into the fusion and what comes out, each where it belongs."""

import cv2
import numpy as np
import pytest
import torch

from vexkd_model.cli import main
from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.missing_sensor import without_sensor
from vexkd_model.training.run import load_run

pytestmark = pytest.mark.usefixtures("one_thread")
TITLES = ["LiDAR, low level", "cameras, low level", "fused, low level", "high level"]


@torch.no_grad()
def maps_of(model, sensors):
    """Capture the maps inside the whole model, in the order of TITLES: the length of each cell's features."""
    before = {}
    hook = model.fusion.register_forward_pre_hook(lambda _, arguments: before.update(arguments[0]))
    features = model.eval()(sensors).features
    hook.remove()
    return [maps[0].norm(dim=0).numpy() for maps in (before["lidar"], before["camera"], *features)]


@pytest.mark.parametrize("drop", [None, "lidar", "camera"])
def test_the_panels_hold_what_passes_through_the_model(runs, of_first_frame, tiny_index, saved, tmp_path, drop):
    main(
        [
            "plot",
            "fusion",
            str(runs / "teacher"),
            *of_first_frame,
            *(["--drop", drop] if drop else []),
            "--out",
            str(tmp_path / "a.png"),
        ]
    )
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 1170
    panels = [axes for axes in saved["a.png"].axes if axes.get_label() not in ("<colorbar>", "bar")]
    assert len(panels) == (10 if drop else 5)
    model, config, _ = load_run(runs / "teacher")
    frame = load_frame(tiny_index, 0, config)
    for k, seen in enumerate([frame, without_sensor(frame, drop)] if drop else [frame]):
        row = panels[5 * k + 1 : 5 * k + 5]
        expected = maps_of(model, sensors_for(config, [seen]))
        for axes, title, values, above in zip(row, TITLES, expected, panels[1:5], strict=True):
            if k == 1 and title == TITLES[("lidar", "camera").index(drop)]:
                assert axes.texts[0].get_text() == f"{drop}: silent" and not axes.images
                continue
            assert axes.get_title().startswith(f"{title}, 0 … ")
            np.testing.assert_allclose(axes.images[0].get_array(), values.T, rtol=1e-4, atol=1e-5)
            assert values.std() > 0 and axes.images[0].get_clim() == above.images[0].get_clim()


def test_a_model_of_one_sensor_is_one_line(runs, of_first_frame, tmp_path):
    with pytest.raises(SystemExit) as error:
        main(["plot", "fusion", str(runs / "plain"), *of_first_frame, "--out", str(tmp_path / "a.png")])
    assert error.value.code == (
        f"vexkd: {runs / 'plain'}: lidar_pillar_small reads only lidar and fuses nothing; give a model of two sensors"
    )
