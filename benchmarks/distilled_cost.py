"""Run-time cost of a distilled student beside a plain one; VeXKD claims that it has none.

Two packages of one configuration, plain and distilled, predict the same frames in turns. Claims, exit code 1 where one
fails: the same modules, the same bytes of weights, and times whose ratio lies within 1.00 ± 0.02.

    python benchmarks/distilled_cost.py students/plain students/taught data --version v1.0-trainval --split val
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

from machine import machine

from vexkd_model.data.dataset import load_frame
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.deploy.package import WEIGHTS
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.process import set_up_process
from vexkd_model.progress import progress
from vexkd_model.types import Frame

TOLERANCE = 0.02


def seconds(predictor: Predictor, frame: Frame) -> float:
    start = time.perf_counter()
    predictor.predict(frame)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plain", type=Path)
    parser.add_argument("taught", type=Path)
    parser.add_argument("dataroot", type=Path)
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    set_up_process()
    index = FrameIndex.open(
        index_folder(arguments.dataroot, arguments.version), arguments.split, arguments.dataroot, arguments.version
    )
    packages = (arguments.plain, arguments.taught)
    pair = [Predictor.load(package, "cpu") for package in packages]
    for predictor in pair:
        predictor.warm_up()
    frames = [load_frame(index, i, pair[0].config) for i in range(min(arguments.frames, len(index)))]
    ratios, times_by_package = [], ([], [])
    for i in progress(range(arguments.rounds * len(frames)), "predict in turns", unit="pairs"):
        # Each goes first as often as the other.
        order = (0, 1) if i % 2 else (1, 0)
        took = {which: seconds(pair[which], frames[i % len(frames)]) for which in order}
        ratios.append(took[1] / took[0])
        for which in order:
            times_by_package[which].append(took[which])
    sizes = [(package / WEIGHTS).stat().st_size for package in packages]
    modules = [[(name, type(module)) for name, module in predictor.model.named_modules()] for predictor in pair]
    plain, taught = (1e3 * median(times) for times in times_by_package)
    same = modules[0] == modules[1]
    print(f"{machine()}\n\n| | plain | distilled | ratio |\n| --- | ---: | ---: | ---: |")
    print(f"| weights [bytes] | {sizes[0]} | {sizes[1]} | {sizes[1] / sizes[0]:.3f} |")
    print(f"| modules | {len(modules[0])} | {len(modules[1])} | {'identical' if same else 'they differ'} |")
    print(f"| median time of {len(ratios)} predictions [ms] | {plain:.1f} | {taught:.1f} | {taught / plain:.3f} |")
    print(f"| median of the pairs' ratios | | | {median(ratios):.3f} |")
    return 0 if sizes[0] == sizes[1] and same and abs(median(ratios) - 1) <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
