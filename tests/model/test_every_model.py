"""What holds for every model of config/model: the small ones here, the paper's sizes in benchmarks/models.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.gallery import documented_costs

from vexkd_model.config import load_config
from vexkd_model.criterion import build_criterion
from vexkd_model.data.batch import collate_for, sensors_for
from vexkd_model.data.dataset import load_frame, load_sample
from vexkd_model.data.dummy_frame import dummy_frame
from vexkd_model.deploy.export import export_program
from vexkd_model.deploy.package import load_package, save_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.describe import as_text, describe
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.model import build_model

SMALL = (
    "lidar_pillar_small",
    "lidar_voxel_small",
    "bevdet_small",
    "bevdet4d_depth_small",
    "bevformer_small",
    "bevfusion_teacher_small",
    "vexkd_teacher_small",
)
WITH_CAMERAS = SMALL[2:]
# Tracing sparse convolutions takes longest: VeXKD's teacher stands for the voxels and for the other teacher, too.
EXPORTED = ("lidar_pillar_small", "bevdet_small", "bevdet4d_depth_small", "bevformer_small", "vexkd_teacher_small")


@pytest.fixture(scope="module", params=SMALL)
def model(request, config_path):
    """A configuration and its model. What starts at exactly zero, as published for attention, is drawn, too: zero
    weights pass no gradient on to what feeds them."""
    config = load_config(config_path.with_name(f"{request.param}.yaml"))
    return config, built(config)


def built(config):
    torch.manual_seed(5)
    module = build_model(config)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.02)
    return module


def sensors_of(config, *frames):
    return sensors_for(config, frames)


def thinned(frame, keep):
    """The same frame with every `keep`th point: another number of them."""
    return replace(frame, points=np.ascontiguousarray(frame.points[::keep]))


def batch_of(config, index, *rows):
    """Frames of the index with what is true in them."""
    return collate_for(config)([load_sample(index, row, config) for row in rows])


def close(a, b, tolerance=2e-4):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * float(a.detach().abs().max() + 1e-6))


def test_gradients_reach_every_parameter(model, tiny_index):
    config, module = model
    module.train().zero_grad()
    batch = batch_of(config, tiny_index, 1, 2)
    losses = build_criterion(config)(module(batch.sensors), batch)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_both_levels_lie_on_the_grid(model):
    config, module = model
    with torch.no_grad():
        output = module.eval()(sensors_of(config, thinned(dummy_frame(config), 8)))
    rows, columns = config.grid.grid().shape
    assert output.features.low.shape[2:] == output.features.high.shape[2:] == (rows, columns)
    assert output.segmentation.shape == (1, 6, 200, 200)


def test_a_batch_equals_its_frames_one_by_one(model):
    config, module = model
    frame = thinned(dummy_frame(config), 8)
    other = thinned(replace(frame, cameras=frame.cameras[::-1][:4], past=frame.past[:1]), 3)
    with torch.no_grad():
        together = module.eval()(sensors_of(config, frame, other))
        for i, alone in enumerate((frame, other)):
            single = module(sensors_of(config, alone))
            close(together.features.high[i], single.features.high[0])
            close(together.segmentation[i], single.segmentation[0])


def test_bfloat16_says_about_the_same(model):
    config, module = model
    sensors = sensors_of(config, thinned(dummy_frame(config), 8))
    with torch.no_grad():
        expected = module.eval()(sensors).features.high
        with torch.autocast("cpu", torch.bfloat16):
            found = module(sensors).features.high.float()
    assert (found - expected).norm() < 0.1 * expected.norm()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_the_exported_graph_says_the_same_of_another_cloud(name, config_path):
    config = load_config(config_path.with_name(f"{name}.yaml"))
    module, frame = built(config).eval(), dummy_frame(config)
    program = export_program(module, sensors_of(config, thinned(frame, 40))).module()
    other = sensors_of(config, thinned(frame, 23))
    with torch.no_grad():
        expected, found = module(other), program(other)
    close(expected.features.high, found.features.high)
    close(expected.segmentation, found.segmentation)


def test_nothing_to_see_gives_a_finite_answer(model):
    config, module = model
    frame = dummy_frame(config)
    blind = replace(frame, points=frame.points[:0], cameras=(), past=())
    prediction = Predictor(module, config, None, "cpu").predict(blind)
    assert np.isfinite(prediction.map_probabilities).all() and np.isfinite(prediction.boxes.values).all()


@pytest.mark.parametrize("name", WITH_CAMERAS)
def test_a_covered_camera_counts_as_an_absent_one(name, config_path):
    config = load_config(config_path.with_name(f"{name}.yaml"))
    predictor, frame = Predictor(built(config), config, None, "cpu"), thinned(dummy_frame(config), 8)
    noise = np.random.default_rng(0).integers(0, 10, frame.cameras[1].pixels.shape, np.uint8)
    covered = replace(frame.cameras[1], pixels=noise)
    absent = replace(frame, cameras=frame.cameras[:1] + frame.cameras[2:])
    dark = replace(frame, cameras=(frame.cameras[0], covered, *frame.cameras[2:]))
    whole, without, behind_a_cap = (predictor.predict(f).map_probabilities for f in (frame, absent, dark))
    assert not np.array_equal(whole, without)
    np.testing.assert_allclose(behind_a_cap, without, atol=1e-5)


def test_geometry_is_computed_again_only_where_the_calibration_changes(config_path, monkeypatch):
    config = load_config(config_path.with_name("bevdet_small.yaml"))
    predictor, frame = Predictor(built(config), config, None, "cpu"), dummy_frame(config)
    calls = []
    compute = predictor.model.camera.geometry
    monkeypatch.setattr(predictor.model.camera, "geometry", lambda cameras: calls.append(1) or compute(cameras))
    first, second = predictor.predict(frame), predictor.predict(replace(frame, stamp_ns=1))
    np.testing.assert_array_equal(first.map_probabilities, second.map_probabilities)
    assert len(calls) == 1
    turned = replace(frame.cameras[0], base_from_camera=frame.cameras[1].base_from_camera)
    moved = predictor.predict(replace(frame, cameras=(turned, *frame.cameras[1:])))
    assert len(calls) == 2 and not np.array_equal(first.map_probabilities, moved.map_probabilities)


def test_a_student_remembers_where_the_vehicle_was(config_path):
    """The same past images say something else if the vehicle stood elsewhere then."""
    config = load_config(config_path.with_name("bevdet4d_depth_small.yaml"))
    predictor, frame = Predictor(built(config), config, None, "cpu"), dummy_frame(config)
    moved = np.eye(4)
    moved[0, 3] = 9.0
    elsewhere = replace(frame, past=tuple(replace(past, now_from_then=moved) for past in frame.past))
    still, driven = (predictor.predict(f).map_probabilities for f in (frame, elsewhere))
    assert not np.allclose(still, driven, atol=1e-4)


def test_a_package_of_every_kind_predicts_what_the_model_did(model, tiny_index, tmp_path):
    config, module = model
    save_package(tmp_path / "package", module, config, {}, {}, "test")
    _, stored, card = load_package(tmp_path / "package")
    assert stored == config.model_copy(update={"distillation": None}) and card.sensors == config.sensors
    assert len(card.cameras) == (6 if config.camera else 0) and card.sweeps == config.sweeps
    predictors = Predictor(module, config, None, "cpu"), Predictor.load(tmp_path / "package")
    before, after = (p.predict(load_frame(tiny_index, 2, config)) for p in predictors)
    np.testing.assert_array_equal(before.map_probabilities, after.map_probabilities)
    np.testing.assert_array_equal(before.boxes.values, after.boxes.values)


@pytest.mark.parametrize("head", ["detection", "segmentation"])
def test_a_model_of_one_task_is_scored_on_that_one(config_path, tiny_settings, tiny_index, head):
    settings = [setting for setting in tiny_settings if not setting.startswith(head)]
    config = load_config(config_path, [*settings, f"{head}=null"])
    predictor = Predictor(built(config), config, None, "cpu")
    result = score_split(predict_split(predictor, tiny_index), tiny_index, detects=config.detection is not None)
    assert (result.detection is None) == (head == "detection") and (result.maps is None) == (head == "segmentation")


def test_describe_counts_what_the_model_holds(model):
    config, module = model
    described = describe(config)
    assert described.parameters == sum(p.numel() for p in module.parameters())
    by_name = {layer.name: layer for layer in described.layers}
    parts = [name for name in ("lidar", "camera", "fusion", "bev", "detection", "segmentation") if name in by_name]
    assert sum(by_name[name].parameters for name in parts) == described.parameters
    assert described.gflops >= sum(by_name[name].gflops for name in parts) * 0.999 > 0
    rows, columns = config.grid.grid().shape
    assert f"×{rows}×{columns}" in by_name["bev"].shapes and "1×6×200×200" in by_name["segmentation"].shapes
    assert documented_costs()[config.name].gflops == f"{described.gflops:.1f}"
    text = as_text(described)
    assert config.name in text and all(name in text for name in by_name)


def test_describe_counts_the_operations_of_a_convolution_as_by_hand(config_path, tiny_settings):
    config = load_config(config_path, tiny_settings)
    layer = next(layer for layer in describe(config).layers if layer.name == "segmentation")
    by_hand = 2 * (60 * 60 * 9 * 32 * 8 + 200 * 200 * (9 * 8 * 8 + 8 * 6))  # two 3×3 convolutions and one 1×1
    assert layer.gflops == pytest.approx(by_hand * 1e-9, rel=1e-6)
