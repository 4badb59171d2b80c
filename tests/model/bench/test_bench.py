"""`vexkd bench` measures every runtime that is there, beside PyTorch in float32 and the floors."""

import json
from itertools import groupby

import pytest
import torch

from vexkd_model.bench import rates
from vexkd_model.cli import main
from vexkd_model.config import load_config
from vexkd_model.deploy.add_graphs import add_graphs
from vexkd_model.deploy.package import save_package
from vexkd_model.deploy.predictor import EXACT
from vexkd_model.model import build_model

ONE_TURN = ("--frames", "2", "--repeats", "1", "--steps", "1")


@pytest.fixture(autouse=True)
def small_products(monkeypatch, one_thread):
    """The command measures with matrices and copies that take no time."""
    monkeypatch.setattr(rates, "EDGE", 64)
    monkeypatch.setattr(rates, "COPIED", 1 << 20)


@pytest.fixture(scope="module")
def package(tiny_config, tmp_path_factory):
    return saved(tiny_config, tmp_path_factory.mktemp("bench") / "lidar_tiny")


def saved(config, folder):
    torch.manual_seed(1)
    save_package(folder, build_model(config), config, trained_on={}, metrics={}, source_revision="test")
    return folder


def bench(*words, capsys):
    assert main(["bench", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_one_run_gives_inference_loading_and_training_as_tables_and_json(
    package, tiny_index, tiny_index_dir, tiny_dataroot, tmp_path, capsys
):
    add_graphs(package, tiny_index, "float32", frames=1)
    data = ("--dataroot", tiny_dataroot, "--version", "v1.0-mini", "--split", "mini_train", "--index", tiny_index_dir)
    out = bench(package, *data, *ONE_TURN, "--json", tmp_path / "bench.json", capsys=capsys)
    made = json.loads((tmp_path / "bench.json").read_text())
    assert made["machine"]["cores"] >= 1 and min(*made["rates"]["gflops"].values(), made["rates"]["gbytes"]) > 0
    (figures,) = made["packages"]
    parts = {part: list(rows) for part, rows in groupby(figures["latency"], lambda row: row["part"])}
    assert list(parts) == ["convolutions", "prediction"]
    for rows in parts.values():
        assert rows[0]["runtime"] == EXACT and rows[0]["times_as_fast"] == 1
        assert {"ONNX Runtime, float32"} <= {row["runtime"] for row in rows[1:]}
        for row in rows:
            assert row["times_as_fast"] == pytest.approx(rows[0]["ms"] / row["ms"])
            assert row["rate_share"] == pytest.approx(row["flops_floor_ms"] / row["ms"])
            assert row["runtime"] in out
    assert parts["prediction"][0]["flops_floor_ms"] > parts["convolutions"][0]["flops_floor_ms"]  # and the pillars
    assert figures["loading"]["frames_per_s"] == pytest.approx(1e3 / figures["loading"]["ms_a_frame"])
    exact, faster, *_ = figures["steps"]
    assert exact["loss_difference"] == 0 and faster["loss_difference"] < 1e-3
    assert all(step["seconds"] > 0 and step["way"] in out for step in figures["steps"])


def test_without_data_inference_is_measured_on_a_generated_frame(tiny_teacher, config_path, tmp_path, capsys):
    """A model of two sensors has no graph, and no convolutions that would become one."""
    config = load_config(config_path.with_name("bevfusion_teacher_small.yaml"), tiny_teacher)
    out = bench(saved(config, tmp_path / "teacher"), *ONE_TURN, capsys=capsys)
    assert "a generated frame" in out and "| prediction | PyTorch, float32" in out
    assert "| convolutions" not in out and "Training" not in out


def test_a_dataset_without_its_version_is_refused(package, tiny_dataroot):
    with pytest.raises(SystemExit, match="--dataroot and --version belong together"):
        main(["bench", str(package), "--dataroot", str(tiny_dataroot)])
