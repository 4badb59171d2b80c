"""Graphs of a student: they compute what PyTorch computes, and lie in its package with checksums."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

from vexkd_model.config import load_config
from vexkd_model.config.frame import FrameConfig
from vexkd_model.data.dataset import load_frame
from vexkd_model.deploy.add_graphs import add_graphs
from vexkd_model.deploy.card import CARD, read_card
from vexkd_model.deploy.equalise import equalise
from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.deploy.graph import IMAGES, TRUNK, Trunk, has_graph
from vexkd_model.deploy.package import load_package, save_package
from vexkd_model.deploy.predictor import EXACT, Predictor, fastest_runtime
from vexkd_model.deploy.runtimes import TENSORRT, is_installed, load_graph
from vexkd_model.errors import UserError
from vexkd_model.model import build_model

TINY_CAMERA = (
    "camera.images.width=64",
    "camera.images.height=32",
    "bev.stage_channels=[8, 8, 8]",
    "detection.task_channels=8",
)


@pytest.fixture(scope="module")
def camera_config(config_path):
    return load_config(config_path.with_name("bevdet_small.yaml"), TINY_CAMERA)


@pytest.fixture(scope="module")
def packages(tiny_config, camera_config, tmp_path_factory):
    """Folders of a LiDAR and a camera student, untrained but talkative, with batch norms that do something."""
    folders = {}
    for sensor, config in (("lidar", tiny_config), ("camera", camera_config)):
        torch.manual_seed(3)
        model = build_model(config)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
                nn.init.uniform_(layer.running_var, 0.5, 2.0)
                nn.init.uniform_(layer.running_mean, -0.2, 0.2)
        with torch.no_grad():
            for task in model.detection.tasks:
                task.out.bias[: task.split[0]] = 0.0
        folders[sensor] = tmp_path_factory.mktemp("graphs") / sensor
        save_package(folders[sensor], model, config, trained_on={}, metrics={}, source_revision="test")
    return folders


@pytest.fixture(scope="module")
def with_graphs(packages, tiny_index):
    """Copies of the packages with graphs, by sensor and precision; made once, in eight bits with one strength."""
    made = {}

    def make(sensor, precision):
        if (sensor, precision) not in made:
            folder = packages[sensor].with_name(f"{sensor}_{precision}")
            shutil.copytree(packages[sensor], folder)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("vexkd_model.deploy.add_graphs.STRENGTHS", (1.0,))
                add_graphs(folder, tiny_index, precision, frames=2)
            made[sensor, precision] = folder
        return made[sensor, precision]

    return make


@pytest.mark.parametrize("sensor", ["lidar", "camera"])
def test_a_float32_graph_predicts_what_pytorch_predicts(packages, with_graphs, tiny_index, sensor):
    exact, graph = Predictor.load(packages[sensor]), Predictor.load(with_graphs(sensor, "float32"), runtime="onnx")
    assert (exact.runtime, graph.runtime) == (EXACT, "ONNX Runtime, float32")
    for i in range(2):
        frame = load_frame(tiny_index, i, exact.config)
        expected, found = exact.predict(frame), graph.predict(frame)
        assert len(expected.boxes) > 10
        np.testing.assert_allclose(found.map_probabilities, expected.map_probabilities, atol=1e-4)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)


def test_a_graph_of_a_network_with_a_frame_predicts_what_pytorch_predicts(packages, tiny_index, tmp_path):
    model, config, _ = load_package(packages["lidar"])
    frame = FrameConfig(translation=(0.94, 0.0, 1.84), rotation=(-1.4, 0.3, -89.9))
    config = config.model_copy(update={"frame": frame})
    framed = build_model(config)
    framed.load_state_dict(model.state_dict())
    save_package(tmp_path / "framed", framed, config, trained_on={}, metrics={}, source_revision="test")
    add_graphs(tmp_path / "framed", tiny_index, "float32", frames=1)
    seen = load_frame(tiny_index, 0, config)
    expected = Predictor(framed, config, None, "cpu").predict(seen)
    found = Predictor.load(tmp_path / "framed", runtime="onnx").predict(seen)
    np.testing.assert_allclose(found.map_probabilities, expected.map_probabilities, atol=1e-4)
    apart = cdist(found.boxes.values, expected.boxes.values)  # equal scores may change places
    assert len(apart) > 100 and apart.min(axis=1).max() < 1e-3
    elsewhere = Predictor.load(packages["lidar"]).predict(seen)
    assert np.abs(elsewhere.map_probabilities - expected.map_probabilities).max() > 1e-3
    assert read_card(tmp_path / "framed")[1].frame == frame


def names_a_source_file(graph):
    return any(part in graph.read_bytes() for part in (b"site-packages/", b"vexkd_model/"))


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_graph_names_no_file_of_the_machine_that_made_it(with_graphs, precision):
    assert not [path.name for path in with_graphs("camera", precision).glob("*.onnx") if names_a_source_file(path)]


def test_the_graphs_that_ship_name_no_file_of_a_machine():
    shipped = list((Path(__file__).parents[3] / "models").glob("*/*.onnx"))
    assert len(shipped) == 6
    assert [str(path) for path in shipped if names_a_source_file(path)] == []


@pytest.mark.parametrize(("sensor", "graphs"), [("lidar", {TRUNK}), ("camera", {TRUNK, IMAGES})])
def test_eight_bits_round_and_no_more(packages, with_graphs, tiny_index, sensor, graphs):
    folder = with_graphs(sensor, "int8")
    exact, graph = Predictor.load(packages[sensor]), Predictor.load(folder, runtime="onnx")
    frame = load_frame(tiny_index, 0, exact.config)
    difference = np.abs(graph.predict(frame).map_probabilities - exact.predict(frame).map_probabilities)
    assert 0 < difference.mean() < 0.02
    assert set(read_card(folder)[1].graphs) == graphs
    for name in graphs:
        assert (folder / name).stat().st_size < (with_graphs(sensor, "float32") / name).stat().st_size


@pytest.mark.parametrize("sensor", ["lidar", "camera"])
def test_equalised_channels_compute_the_same_with_ranges_alike(packages, sensor):
    trunk = Trunk(fold_batch_norms(load_package(packages[sensor])[0]))
    rows = trunk.stem[0].in_channels if sensor == "lidar" else trunk.bev.stages[0][0][0].in_channels
    torch.manual_seed(1)
    canvas = torch.rand(1, 24, 24, rows)
    if trunk.segmentation is not None:
        trunk.segmentation = None  # its sampling is of the whole grid
    seen = []
    hidden = trunk.bev.stages[0][0][0]
    hidden.register_forward_hook(lambda layer, given, made: seen.append(made.relu().amax(dim=(0, 2, 3))))
    with torch.no_grad():
        hidden.weight[0] *= 100
        before = trunk(canvas)
        equalise(trunk, [canvas], 1.0)
        after = trunk(canvas)
    for expected, found in zip(before, after, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    spread = [float(peak[peak > 1e-3].max() / peak[peak > 1e-3].min()) for peak in (seen[0], seen[-1])]
    assert spread[0] > 20 and spread[1] < spread[0] / 5


def test_the_card_names_every_graph_and_a_damaged_one_is_refused(with_graphs, tmp_path):
    folder = shutil.copytree(with_graphs("camera", "float32"), tmp_path / "student")
    _, card = read_card(folder)
    assert set(card.graphs) == {TRUNK, IMAGES} and card.graph_precision == "float32"
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-1])
    with pytest.raises(UserError, match=r"images\.onnx: .* do not match graphs\.images\.onnx"):
        Predictor.load(folder, runtime="onnx")
    assert Predictor.load(folder).runtime == EXACT


@pytest.mark.parametrize(("sensor", "precision"), [("lidar", "float32"), ("lidar", "int8"), ("camera", "int8")])
def test_openvino_computes_what_onnx_runtime_computes(with_graphs, tiny_index, sensor, precision):
    pytest.importorskip("openvino")
    folder = with_graphs(sensor, precision)
    one, other = Predictor.load(folder, runtime="onnx"), Predictor.load(folder, runtime="openvino")
    assert other.runtime == f"OpenVINO, {precision}"
    tolerance = 1e-4 if precision == "float32" else 0.03  # a step or two of eight bits, rounded the other way
    for i in range(2):  # the second frame must not change what the first returned
        frame = load_frame(tiny_index, i, one.config)
        expected, found = one.predict(frame), other.predict(frame)
        np.testing.assert_allclose(found.map_probabilities, expected.map_probabilities, atol=tolerance)
    assert len(one.predict(frame).boxes) > 10


def test_outputs_of_one_frame_survive_the_next(with_graphs):
    pytest.importorskip("openvino")
    graph = load_graph((with_graphs("lidar", "float32") / TRUNK).read_bytes(), "openvino")
    shape = list(graph._request.get_input_tensor().shape)
    first = graph(torch.zeros(shape))[0]
    kept = first.clone()
    assert not torch.equal(graph(torch.rand(shape))[0], kept)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("runtime", ["openvino", "tensorrt"])
def test_a_runtime_that_is_not_installed_is_refused_with_the_cure(with_graphs, monkeypatch, runtime):
    monkeypatch.setattr("vexkd_model.deploy.runtimes.is_installed", lambda name: name != runtime)
    with pytest.raises(UserError, match=f"runtime {runtime}: .* is not installed; pip install "):
        Predictor.load(with_graphs("lidar", "float32"), runtime=runtime)


def test_tensorrt_keeps_its_engine_by_graph_and_takes_no_int8(with_graphs, monkeypatch, tmp_path):
    exact, int8 = (with_graphs("lidar", precision) for precision in ("float32", "int8"))  # made by the real session
    asked = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, content, options, providers):
            asked.append(providers)
            super().__init__(content, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: [TENSORRT, "CPUExecutionProvider"])
    monkeypatch.setattr("onnxruntime.InferenceSession", Session)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Predictor.load(exact, runtime="tensorrt").runtime == "TensorRT, float16"
    (name, settings), *others = asked[0]
    assert (name, others) == (TENSORRT, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    assert Path(settings["trt_engine_cache_path"]).parent == tmp_path / "vexkd" / "tensorrt"
    assert settings["trt_engine_cache_enable"] and Path(settings["trt_engine_cache_path"]).is_dir()
    with pytest.raises(UserError, match=r"takes no unsigned int8; .*--precision float32"):
        Predictor.load(int8, runtime="tensorrt")


@pytest.mark.parametrize(
    ("precision", "bfloat16", "device", "installed", "expected"),
    [
        ("int8", False, "cpu", {"onnx", "openvino"}, "openvino"),
        ("int8", True, "cpu", {"onnx"}, "onnx"),
        ("int8", True, "cpu", {"openvino"}, "openvino"),
        ("int8", False, "cpu", set(), "torch"),
        ("int8", False, "cuda", {"onnx", "tensorrt"}, "torch"),
        ("float32", False, "cpu", {"onnx"}, "onnx"),
        ("float32", True, "cpu", {"onnx"}, "torch"),
    ],
)
def test_auto_is_the_fastest_on_the_processor(
    with_graphs, monkeypatch, precision, bfloat16, device, installed, expected
):
    monkeypatch.setattr("vexkd_model.deploy.predictor.is_installed", lambda name: name in installed)
    _, card = read_card(with_graphs("lidar", precision))
    assert fastest_runtime(card, torch.device(device), bfloat16) == expected


def test_auto_takes_the_graph_where_there_is_one(packages, with_graphs):
    fastest = "OpenVINO, int8" if is_installed("openvino") else "ONNX Runtime, int8"
    assert Predictor.load(with_graphs("lidar", "int8"), runtime="auto").runtime == fastest
    assert Predictor.load(packages["lidar"], runtime="auto").runtime == EXACT
    with pytest.raises(UserError, match="the package has no graph"):
        Predictor.load(packages["lidar"], runtime="onnx")


def test_graphs_are_replaced_and_nothing_else_changes(packages, with_graphs, tiny_index, tmp_path):
    folder = shutil.copytree(with_graphs("lidar", "int8"), tmp_path / "student")
    add_graphs(folder, tiny_index, "float32", frames=1)
    assert read_card(folder)[1].graph_precision == "float32"
    before, after = (json.loads((place / CARD).read_text()) for place in (packages["lidar"], folder))
    assert {key for key in after if after[key] != before[key]} == {"graphs", "graph_precision"}


def test_models_whose_graph_needs_more_are_refused(config_path, tiny_teacher, tiny_index, tmp_path):
    config = load_config(config_path.with_name("vexkd_teacher_small.yaml"), tiny_teacher)
    model = build_model(config)
    assert not has_graph(model)
    save_package(tmp_path / "teacher", model, config, trained_on={}, metrics={}, source_revision="test")
    with pytest.raises(UserError, match="no graph of standard operators"):
        add_graphs(tmp_path / "teacher", tiny_index)
