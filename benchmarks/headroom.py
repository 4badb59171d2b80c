"""Headroom: how a student's val metrics rise with the number of scenes that it trains on, at the same number of steps.

The first N train scenes of DATAROOT are a dataset of their own for each N. All of them are trained with the same
configuration and the same number of optimiser steps, so that only the variety of what was seen differs, and are scored
on the same val split. While AP still rises, the student's own input holds more than it has learnt: that is what a
teacher can pass on. An interrupted study goes on with the same command; several N may run as separate processes.

    vexkd synth data-x4 --preset bench-small-x4 --seed 1
    vexkd prepare data-x4 --version v1.0-trainval
    python benchmarks/headroom.py config/model/lidar_pillar_small.yaml --dataroot data-x4 --out runs/headroom
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vexkd_model.config import load_config
from vexkd_model.data.index import FRAMES, MANIFEST, MASKS, FrameIndex, index_folder, read_manifest
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.figures.bev_axes import save_png
from vexkd_model.files import replace_folder, write_json
from vexkd_model.process import set_up_process
from vexkd_model.training.run import CONFIG, EVALUATION, load_run
from vexkd_model.training.train import quiet_lightning, train

VERSION = "v1.0-trainval"
SCENES = (44, 88, 175, 700)  # 25, 50, 100 and 400 % of what bench-small held until generator 3
STEPS = 3144  # twelve epochs of 175 scenes, three of bench-small-x4


def first_scenes(dataroot: Path, count: int, folder: Path) -> FrameIndex:
    """The index of the first `count` train scenes, written to `folder`."""
    whole = FrameIndex.open(index_folder(dataroot, VERSION), "train", dataroot, VERSION)
    target, manifest = folder / "train", read_manifest(whole.folder / MANIFEST)
    if not target.is_dir() or read_manifest(target / MANIFEST)["tables"] != manifest["tables"]:
        if count > len(manifest["scenes"]):
            raise UserError(f"{whole.folder}: holds {len(manifest['scenes'])} scenes, not {count}; use bench-small-x4")
        scenes = manifest["scenes"][:count]
        table = pa.ipc.open_file(pa.memory_map(str(whole.folder / FRAMES))).read_all()
        rows = np.flatnonzero(pc.is_in(table["scene"], pa.array(scenes)).to_numpy())
        partial = folder / "train.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with pa.OSFile(str(partial / FRAMES), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table.take(rows))
        np.save(partial / MASKS, np.load(whole.folder / MASKS, mmap_mode="r")[rows])
        write_json(partial / MANIFEST, {**manifest, "scenes": scenes, "frames": len(rows)})
        replace_folder(partial, target)
    return FrameIndex.open(folder, "train", dataroot, VERSION)


def measure(config_path: Path, dataroot: Path, count: int, steps: int, folder: Path) -> None:
    """Train on `count` scenes and score on val; what an earlier run has finished is kept."""
    run = folder / "run"
    if (run / EVALUATION).is_file():
        return
    index = first_scenes(dataroot, count, folder / "index")
    steps_an_epoch = len(index) // load_config(config_path).training.batch_size
    epochs = round(steps / steps_an_epoch)
    config = load_config(config_path, [f"training.epochs={epochs}"])
    train(config, index, run, 1, resume=(run / CONFIG).is_file(), interactive=sys.stderr.isatty())
    student, config, _ = load_run(run)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    val = FrameIndex.open(index_folder(dataroot, VERSION), "val", dataroot, VERSION)
    result = score_split(predict_split(Predictor(student, config, card=None, device=device), val), val)
    report = {"scenes": count, "frames": len(index), "epochs": epochs, "steps": epochs * steps_an_epoch,
              **result.to_dict()}  # fmt: skip
    write_json(run / EVALUATION, report)


def report(out: Path) -> None:
    """Print a Markdown table of every point that is there, and draw it as OUT/headroom.png."""
    points = sorted((json.loads(path.read_text()) for path in out.glob(f"*/run/{EVALUATION}")),
                    key=lambda point: point["scenes"])  # fmt: skip
    print("| train scenes | frames | steps | mAP | NDS | mIoU |\n| ---: | ---: | ---: | ---: | ---: | ---: |")
    for point in points:
        print(f"| {point['scenes']} | {point['frames']} | {point['steps']} | {point['detection']['mean_ap']:.3f} | "
              f"{point['detection']['nd_score']:.3f} | {point['map']['mean_iou']:.3f} |")
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xscale="log", xlabel="train scenes", ylabel="val, at the same number of steps",
                              title="What more data teaches the same student")  # fmt: skip
    scenes = [point["scenes"] for point in points]
    for label, group, key in (("mAP", "detection", "mean_ap"), ("NDS", "detection", "nd_score"),
                              ("mIoU", "map", "mean_iou")):  # fmt: skip
        axes.plot(scenes, [point[group][key] for point in points], marker="o", label=label)
    axes.set_xticks(scenes, [str(count) for count in scenes], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save_png(figure, out / "headroom.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a model of config/model/")
    parser.add_argument("--dataroot", type=Path, required=True, help="prepared bench-small-x4")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study")
    parser.add_argument("--scenes", type=int, nargs="+", default=SCENES, help="train scenes (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=STEPS, help="of each training, to whole epochs (%(default)s)")
    arguments = parser.parse_args()
    set_up_process()
    quiet_lightning()
    try:
        for count in arguments.scenes:
            measure(arguments.config, arguments.dataroot, count, arguments.steps, arguments.out / f"{count:04d}")
    except UserError as error:
        sys.exit(f"error: {error}")
    report(arguments.out)


if __name__ == "__main__":
    main()
