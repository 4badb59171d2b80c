"""A student's time by runtime and precision, in turns on the same frames, on one thread.

    vexkd graph models/lidar_distilled --dataroot data --version v1.0-trainval
    python benchmarks/runtimes.py models/lidar_distilled --dataroot data --version v1.0-trainval --split val

Given are the processor's time for the convolutions behind the scatter, and for a whole prediction.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from machine import machine

from vexkd_model.data.batch import sensors_for
from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.deploy.graph import Trunk, canvas_of
from vexkd_model.deploy.predictor import EXACT, Predictor, Runtime
from vexkd_model.process import set_up_process
from vexkd_model.types import Frame, Precision

WANTED = {"lidar": 2.5, "camera": 2.0}  # times as fast as eager float32, the convolutions
VARIANTS: tuple[tuple[Precision, Runtime], ...] = (("float32", "torch"), ("bfloat16", "torch"), ("bfloat16", "onnx"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="student package with graphs")
    parser.add_argument("--dataroot", type=Path, required=True, help="prepared dataset")
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--frames", type=int, default=12, help="different ones (default: 12)")
    parser.add_argument("--repeats", type=int, default=5, help="of each frame and variant (default: 5)")
    arguments = parser.parse_args()
    set_up_process()
    torch.set_num_threads(1)
    index = FrameIndex.open(
        index_folder(arguments.dataroot, arguments.version), arguments.split, arguments.dataroot, arguments.version
    )
    predictors = [Predictor.load(arguments.package, "cpu", precision, runtime) for precision, runtime in VARIANTS]
    chosen = np.linspace(0, len(index) - 1, arguments.frames).round().astype(int).tolist()
    frames = [load_frame(index, i, predictors[0].config) for i in chosen]
    dense: dict[str, list[float]] = {one.runtime: [] for one in predictors}
    whole: dict[str, list[float]] = {one.runtime: [] for one in predictors}
    for repeat in range(arguments.repeats + 1):  # the first warms up
        for frame in frames:
            for predictor in predictors:
                times = _dense_ms(predictor, frame), _whole_ms(predictor, frame)
                if repeat:
                    dense[predictor.runtime].append(times[0])
                    whole[predictor.runtime].append(times[1])
    print(f"{arguments.package.name}: {machine()}, one thread, medians of {len(dense[EXACT])}\n")
    print("| runtime | convolutions [ms] | times as fast | prediction [ms] |\n| --- | ---: | ---: | ---: |")
    for name, times in dense.items():
        ratio = median(dense[EXACT]) / median(times)
        print(f"| {name} | {median(times):.1f} | {ratio:.2f} | {median(whole[name]):.1f} |")
    fastest = max(median(dense[EXACT]) / median(times) for times in dense.values())
    return 0 if fastest >= WANTED[predictors[0].config.sensors[0]] else 1


@torch.inference_mode()
def _dense_ms(predictor: Predictor, frame: Frame) -> float:
    """Time the trunk, and a camera student's image network."""
    sensors = sensors_for(predictor.config, [frame])
    geometry = predictor.geometry(sensors)
    model, graphs = predictor.model, predictor.graphs
    with torch.autocast("cpu", torch.bfloat16, enabled=predictor.bfloat16):
        canvas = canvas_of(model, sensors, geometry)
        trunk = graphs.trunk if graphs else Trunk(model)
        start = time.process_time()
        trunk(canvas)
        if sensors.cameras is not None and model.camera is not None:
            model.camera.neck(model.camera.backbone(sensors.cameras.images.flatten(0, 1)))
        return (time.process_time() - start) * 1e3


def _whole_ms(predictor: Predictor, frame: Frame) -> float:
    start = time.process_time()
    predictor.predict(frame)
    return (time.process_time() - start) * 1e3


if __name__ == "__main__":
    raise SystemExit(main())
