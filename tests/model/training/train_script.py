"""A training in processes of its own, for tests: what `vexkd train` does, or with --teacher `vexkd distill`, with every
step's loss in the log."""

import argparse
import sys
from pathlib import Path

from vexkd_model.config import load_config
from vexkd_model.data.index import FrameIndex
from vexkd_model.errors import UserError
from vexkd_model.training import fit
from vexkd_model.training.distill import distill
from vexkd_model.training.train import quiet_lightning, train

parser = argparse.ArgumentParser()
parser.add_argument("config", type=Path)
parser.add_argument("index", type=Path)
parser.add_argument("run", type=Path)
parser.add_argument("--devices", type=int, default=1)
parser.add_argument("--workers", type=int, default=0)
parser.add_argument("--teacher", type=Path)
parser.add_argument("--resume", action="store_true")
parser.add_argument("--set", action="append", default=[])
arguments = parser.parse_args()
fit.LOG_EVERY_STEPS = 1
quiet_lightning()
try:
    index = FrameIndex.open(arguments.index, "mini_train")
    config = load_config(arguments.config, arguments.set)
    if arguments.teacher is None:
        first = train(
            config, index, arguments.run, arguments.workers, arguments.resume, False, devices=arguments.devices
        )
    else:
        first = distill(
            config,
            arguments.teacher,
            index,
            arguments.run,
            arguments.workers,
            arguments.resume,
            False,
            devices=arguments.devices,
        )
    if first:
        print("trained")
except UserError as error:
    sys.exit(f"script: {error}")
