"""Predictor: the only code path from a Frame to a Prediction, offline and on the vehicle."""

import copy
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import nn

from vexkd_model.camera.encoder import ViewGeometry
from vexkd_model.config import ModelConfig
from vexkd_model.data.batch import CameraBatch, SensorBatch, sensors_for
from vexkd_model.data.network_frame import in_base_link
from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.deploy.graph import GraphStudent
from vexkd_model.deploy.package import StudentCard, load_graphs, load_package
from vexkd_model.deploy.reliability import ReliabilityTables
from vexkd_model.deploy.runtimes import RUNTIME_NAMES, GraphRuntime, check_installed, is_installed
from vexkd_model.errors import UserError
from vexkd_model.heads.center import TaskMaps
from vexkd_model.heads.decode import CenterDecoder, TransFusionDecoder, build_decoder
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.lidar.pillars import PillarEncoder
from vexkd_model.machine import choose_device, device_text, in_bfloat16
from vexkd_model.model import BevModel
from vexkd_model.types import POINT_FIELDS, Boxes, CameraImage, Frame, Precision, Prediction

Runtime = Literal["auto", "torch", "onnx", "openvino", "tensorrt"]
EXACT = "PyTorch, float32"
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)


class Predictor:
    """Copy of a model, optimised for inference. `predict` may be called from one thread at a time.

    device: of `choose_device`. precision: of convolutions and linear layers; auto is bfloat16 where the device has
    instructions for it.
    """

    def __init__(
        self,
        model: BevModel,
        config: ModelConfig,
        card: StudentCard | None,
        device: str,
        precision: Precision = "float32",
    ) -> None:
        self.device = choose_device(device)
        self.model = fold_batch_norms(copy.deepcopy(model).eval()).to(self.device)
        # The scatter of points writes the BEV map as NHWC, too: convolutions then copy nothing.
        for layer in self.model.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if isinstance(self.model.lidar, PillarEncoder) and self.device.type == "cpu":
            self.model.lidar.pool_fast()
        self.config, self.card = config, card
        self.bfloat16 = in_bfloat16(precision, self.device)
        self.graphs: GraphStudent | None = None
        self._graph_runtime: GraphRuntime | None = None
        self.decoder = build_decoder(config)
        self._reliability = ReliabilityTables.of(card.reliability) if card and card.reliability else None
        self.map_grid = config.segmentation.grid.grid() if config.segmentation else None
        self._calibration: tuple[torch.Tensor, ...] = ()
        self._geometry: ViewGeometry | None = None

    @classmethod
    def load(
        cls,
        package: str | Path,
        device: str = "auto",
        precision: Precision = "float32",
        runtime: Runtime = "torch",
        calibrated: bool = True,
    ) -> "Predictor":
        """Load a student package; UserError names the file and key that are wrong.

        runtime: of its convolutions; auto is the fastest by `fastest_runtime`. calibrated: False for the scores that
        the model itself gives.
        """
        package = Path(package)
        model, config, card = load_package(package)
        if not calibrated:
            card = card.model_copy(update={"reliability": None})
        predictor = cls(model, config, card, device, precision)
        if runtime == "auto":
            runtime = fastest_runtime(card, predictor.device, predictor.bfloat16)
        if runtime != "torch":
            predictor._use_graphs(package, card, runtime)
        return predictor

    def _use_graphs(self, package: Path, card: StudentCard, runtime: GraphRuntime) -> None:
        check_installed(runtime)
        if not card.graphs:
            raise UserError(
                f"{package}: runtime {runtime}: the package has no graph; `vexkd graph {package} …` adds it, or choose "
                "torch"
            )
        if runtime == "tensorrt" and card.graph_precision != "float32":
            raise UserError(
                f"{package}: runtime tensorrt: takes no unsigned int8; `vexkd graph {package} … --precision float32` "
                "makes the graph, which it computes in float16"
            )
        if runtime == "openvino" and self.device.type != "cpu":
            raise UserError(f"runtime openvino: runs on the CPU, not on {self.device}; choose torch, or device cpu")
        self.graphs = GraphStudent(self.model, load_graphs(package, card), runtime)
        self._graph_runtime = runtime

    @property
    def runtime(self) -> str:
        """Runtime and precision in words, for logs."""
        if self._graph_runtime is not None:
            precision = "float16" if self._graph_runtime == "tensorrt" else self.card and self.card.graph_precision
            return f"{RUNTIME_NAMES[self._graph_runtime]}, {precision}"
        return "PyTorch, bfloat16" if self.bfloat16 else EXACT

    @property
    def place(self) -> str:
        """Device, runtime and precision in words, for logs."""
        return f"on {device_text(self.device)}, {self.runtime}"

    @property
    def sweeps(self) -> int:
        """LiDAR sweeps in a Frame, the newest included; 0 for a student without LiDAR."""
        return self.config.sweeps

    @property
    def thresholds(self) -> np.ndarray | None:
        """Scores from which on a box is worth showing, float64 (10,) by class; None if the card states none."""
        return self.card.reliability.thresholds() if self.card and self.card.reliability else None

    @torch.inference_mode()
    def predict(self, frame: Frame) -> Prediction:
        """Predict boxes and map of one frame, in base_link; the frame's stamp and token stay."""
        sensors = sensors_for(self.config, [frame]).to(self.device)
        geometry = self.geometry(sensors)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            if self.graphs is not None:
                detection, segmentation = self.graphs(sensors, geometry)
            else:
                _, detection, segmentation, _ = self.model(sensors, geometry)
        boxes, scores = detections_of(self.decoder, detection, self.config.network_from_base)
        deviations = None
        if self._reliability is not None:
            # After suppression, which compares scores of several classes as in training.
            scores = self._reliability.calibrated(scores, boxes.labels)
            best = np.argsort(-scores, kind="stable")
            boxes, scores = Boxes(boxes.values[best], boxes.labels[best]), scores[best]
            deviations = self._reliability.deviations_of(boxes)
        maps = None if segmentation is None else segmentation[0].float().sigmoid().cpu().numpy()
        return Prediction(boxes, scores, maps, self.map_grid, frame.stamp_ns, frame.token, deviations)

    def geometry(self, sensors: SensorBatch) -> ViewGeometry | None:
        """Geometry of the camera pixels in the BEV map, computed anew only if the calibration has changed."""
        cameras, encoder = sensors.cameras, self.model.camera
        if cameras is None or encoder is None:
            return None
        calibration = _calibration(cameras)
        if not self._calibration or not all(map(torch.equal, calibration, self._calibration)):
            self._geometry, self._calibration = encoder.geometry(cameras), calibration
        return self._geometry

    def warm_up(self) -> None:
        """Run once, so that the first real frame does not pay for allocation and kernel selection."""
        points = np.zeros((1000 if self.sweeps else 0, len(POINT_FIELDS)), np.float32)
        points[:, :2] = np.random.default_rng(0).uniform(-50, 50, (len(points), 2))
        self.predict(Frame(points, stamp_ns=0, cameras=self._grey_images()))

    def _grey_images(self) -> tuple[CameraImage, ...]:
        if self.config.camera is None:
            return ()
        images = self.config.camera.images
        grey = np.full((images.height, images.width, 3), 128, np.uint8)
        intrinsics = np.array([[images.width, 0, images.width / 2], [0, images.width, images.height / 2], [0, 0, 1]])
        forwards = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
        return tuple(CameraImage(name, grey, 0, intrinsics, np.eye(3), forwards) for name in images.cameras)


def detections_of(
    decoder: CenterDecoder | TransFusionDecoder | None,
    detection: list[TaskMaps] | TransFusionOutput | None,
    network_from_base: np.ndarray | None,
) -> tuple[Boxes, np.ndarray]:
    """Decode the output of a detection head for one frame to boxes in base_link and scores (M,).

    None of a model without a head. network_from_base: of its configuration.
    """
    match decoder, detection:
        case CenterDecoder(), list() as tasks:
            boxes, scores, labels = decoder(tasks)
        case TransFusionDecoder(), TransFusionOutput() as proposals:
            boxes, scores, labels = decoder(proposals)
        case _:
            return Boxes(np.empty((0, 9), np.float32), np.empty(0, np.int64)), np.empty(0, np.float32)
    found = Boxes(boxes.cpu().numpy(), labels.cpu().numpy())
    return in_base_link(found, network_from_base), scores.cpu().numpy()


def fastest_runtime(card: StudentCard, device: torch.device, bfloat16: bool) -> Literal["torch", "onnx", "openvino"]:
    """Choose by what was measured on processors with and without bfloat16 and int8 instructions (docs: speed.md).

    int8 is the fastest with AVX2 alone, too. A float32 graph is 1.2 times as fast as PyTorch in float32, and slower
    than PyTorch in bfloat16. OpenVINO is 1.6 times as fast as ONNX Runtime with AMX, and equally fast with AVX2.
    """
    if device.type == "cpu" and card.graphs and (card.graph_precision == "int8" or not bfloat16):
        for runtime in ("openvino", "onnx"):
            if is_installed(runtime):
                return runtime
    return "torch"


def _calibration(cameras: CameraBatch) -> tuple[torch.Tensor, ...]:
    return cameras.image_from_camera, cameras.base_from_camera, cameras.present
