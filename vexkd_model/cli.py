"""`vexkd`: the command line of everything that trains. One function a command; the work is done elsewhere."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from vexkd_model.errors import UserError
from vexkd_model.files import write_json

TOUR = """\
a first tour:
  vexkd synth data --preset demo --seed 1
  vexkd prepare data --version v1.0-mini
  vexkd train config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-mini --out run
  vexkd evaluate run --dataroot data --version v1.0-mini
  vexkd export run student"""

DEBUG_HELP = "show the traceback of an error"

# Imports of torch and of the devkit stand inside the commands: `vexkd --help` must answer at once.


def synth(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.synth import PRESETS, synthesise

    scenes = arguments.scenes.split(",") if arguments.scenes else None
    synthesise(arguments.out, arguments.preset, arguments.seed, split=arguments.split, scenes=scenes,
               device=arguments.device, workers=arguments.workers)
    print(f"{arguments.out}: synthetic dataset complete; next: vexkd prepare {arguments.out} "
          f"--version {PRESETS[arguments.preset].version}")


def prepare(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.index import MANIFEST, read_manifest
    from vexkd_model.data.prepare import prepare

    splits = [arguments.split] if arguments.split else None
    for folder in prepare(arguments.dataroot, arguments.version, _index_dir(arguments), splits, arguments.force,
                          arguments.workers, arguments.skip_bad):
        made = read_manifest(folder / MANIFEST)
        print(f"{folder}: index complete, {made['frames']} frames")
        if made["skipped_files"]:
            print(f"{folder}: {made['skipped_files']} problems, {made['skipped_frames']} frames left out, "
                  f"{made['frames_with_damaged_map']} frames without their map, see {folder}_problems.txt")


def train(arguments: argparse.Namespace) -> None:
    from vexkd_model.config import load_config
    from vexkd_model.process import set_up_process
    from vexkd_model.training.train import quiet_lightning, train

    set_up_process()
    quiet_lightning()
    config = load_config(arguments.config, arguments.set)
    index = _open_index(arguments, default=0)
    train(config, index, arguments.out, arguments.workers, arguments.resume, interactive=sys.stderr.isatty(),
          weights=arguments.weights)
    print(f"{arguments.out}: trained; next: vexkd evaluate {arguments.out} --dataroot {arguments.dataroot} "
          f"--version {arguments.version}")


def evaluate(arguments: argparse.Namespace) -> None:
    from vexkd_model.deploy.predictor import Predictor
    from vexkd_model.evaluation.report import metrics_table
    from vexkd_model.evaluation.split import predict_split, score_split
    from vexkd_model.process import set_up_process
    from vexkd_model.training.run import CONFIG, EVALUATION, RECORD, describe_data, load_run

    set_up_process()
    target: Path = arguments.run_or_student
    is_run = (target / RECORD).is_file() and (target / CONFIG).is_file()
    predictor = (Predictor(*load_run(target)[:2], card=None, device=arguments.device) if is_run
                 else Predictor.load(target, arguments.device))
    index = _open_index(arguments, default=-1)
    result = score_split(predict_split(predictor, index), index, arguments.submission,
                         detects=predictor.config.detection is not None)
    if arguments.submission:
        print(f"{arguments.submission}: written")
    print(metrics_table(result.detection, result.maps) or f"{index.split}: without annotations, nothing to score")
    report = {"data": describe_data(index), "command": " ".join(["vexkd", *sys.argv[1:]]), **result.to_dict()}
    for path in filter(None, (arguments.json, target / EVALUATION if is_run else None)):
        write_json(path, report)
        print(f"{path}: written")


def export(arguments: argparse.Namespace) -> None:
    from vexkd_model.deploy.package import save_package
    from vexkd_model.training.run import EVALUATION, RECORD, load_run

    student, config, epochs = load_run(arguments.run)
    record = json.loads((arguments.run / RECORD).read_text())
    evaluation = arguments.run / EVALUATION
    if not evaluation.is_file():
        print(f"{evaluation}: absent, so the card will state no metrics; `vexkd evaluate {arguments.run}` writes it",
              file=sys.stderr)
    metrics = json.loads(evaluation.read_text()) if evaluation.is_file() else {}
    trained_on = {**record["data"], "command": record["command"], "epochs": epochs}
    save_package(arguments.out, student, config, trained_on, metrics, record["source_revision"])
    print(f"{arguments.out}: student package complete")


def describe(arguments: argparse.Namespace) -> None:
    from dataclasses import asdict

    from vexkd_model.config import load_config
    from vexkd_model.describe import as_text, describe

    described = describe(load_config(arguments.config, arguments.set))
    print(as_text(described))
    if arguments.json:
        write_json(arguments.json, {**asdict(described), "hops": [hop._asdict() for hop in described.hops]})
        print(f"{arguments.json}: written")


def import_weights(arguments: argparse.Namespace) -> None:
    from vexkd_model.config import load_config
    from vexkd_model.deploy.import_weights import import_weights
    from vexkd_model.deploy.package import save_package
    from vexkd_model.model import build_model
    from vexkd_model.training.run import source_revision

    config = load_config(arguments.config, arguments.set)
    model = build_model(config)
    report = import_weights(arguments.checkpoint, config, model)
    print(report.text(lines=None if arguments.all else 5))
    trained_on = {"imported": arguments.checkpoint.name, "family": report.family, "notes": list(report.notes)}
    save_package(arguments.out, model, config, trained_on, metrics={}, source_revision=source_revision())
    print(f"{arguments.out}: student package complete; next: vexkd train {arguments.config} --weights {arguments.out}")


def plot(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.index import FrameIndex
    from vexkd_model.evaluation.plot import frame_at, frame_with, plot, prepared_splits

    folder = _index_dir(arguments)
    splits = [arguments.split] if arguments.split else prepared_splits(folder)
    indices = [FrameIndex.open(folder, split, arguments.dataroot, arguments.version) for split in splits]
    if arguments.token:
        index, i = frame_with(indices, "token", arguments.token)
    elif arguments.scene:
        index, i = frame_with(indices, "scene", arguments.scene)
    else:
        index, i = frame_at(indices[0], arguments.frame)
    plot(arguments.out, index, i)
    print(f"{arguments.out}: frame {i} of {index.split}, {index[i].scene}, sample {index[i].token}")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command; exit code 0, 1 for a failure in one line, 2 for wrong use."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except UserError as error:
        if arguments.debug:
            traceback.print_exc()
        sys.exit(f"vexkd: {error}")
    except KeyboardInterrupt:
        sys.exit("vexkd: interrupted")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a place that cannot be written
        if arguments.debug:
            traceback.print_exc()
        sys.exit(f"vexkd: {error.filename}: {error.strerror}" if error.filename else f"vexkd: {error}")


def _index_dir(arguments: argparse.Namespace) -> Path:
    from vexkd_model.data.index import index_folder

    return arguments.index or index_folder(arguments.dataroot, arguments.version)


def _open_index(arguments: argparse.Namespace, default: int):
    """default: which of the version's splits, the first one is for training and the last one for evaluation."""
    from vexkd_model.data.index import SPLITS_OF_VERSION, FrameIndex

    if arguments.version not in SPLITS_OF_VERSION:
        raise UserError(f"--version {arguments.version}: choose one of {', '.join(SPLITS_OF_VERSION)}")
    split = arguments.split or SPLITS_OF_VERSION[arguments.version][default]
    return FrameIndex.open(_index_dir(arguments), split, arguments.dataroot, arguments.version)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="vexkd", description="Train, evaluate and export bird's-eye-view models.", epilog=TOUR,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debug", action="store_true", help=DEBUG_HELP)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, synth, "write a synthetic dataset in the official nuScenes schema",
                       "vexkd synth data --preset demo --seed 1")
    command.add_argument("out", type=Path, metavar="OUT", help="folder to write; an interrupted run is resumed")
    command.add_argument("--preset", default="demo", choices=("demo", "bench-small", "bench-small-x4", "bench"),
                         help="demo: v1.0-mini; bench-small: v1.0-trainval, for experiments on two CPU cores; "
                              "bench-small-x4: the same with 700 train scenes; bench: for a GPU machine, 50 GB")
    command.add_argument("--seed", type=int, default=1, help="other seeds give other streets (default: 1)")
    command.add_argument("--split", help="only the scenes of this official split, for example mini_val")
    command.add_argument("--scenes", help="only these scenes, for example scene-0103,scene-0916")
    command.add_argument("--workers", type=int, default=1, help="processes; the files do not depend on it (default: 1)")
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")

    command = _command(commands, prepare, "index a nuScenes folder for training and evaluation",
                       "vexkd prepare data --version v1.0-mini")
    command.add_argument("dataroot", type=Path, metavar="DATAROOT", help="folder that holds samples/, sweeps/, maps/")
    _dataset_arguments(command)
    command.add_argument("--force", action="store_true", help="write a complete index anew")
    command.add_argument("--workers", type=int, default=1,
                         help="processes that check files and draw map masks (default: 1)")
    command.add_argument("--skip-bad", action="store_true",
                         help="go on without missing and unreadable files; INDEX/SPLIT_problems.txt lists them")

    command = _command(commands, train, "train a student or a teacher on its tasks",
                       "vexkd train config/model/lidar_pillar_small.yaml --dataroot data --version v1.0-mini --out run")
    command.add_argument("config", type=Path, metavar="CONFIG", help="a model of config/model/")
    command.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")
    _dataset_arguments(command)
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of this run")
    command.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    command.add_argument("--weights", type=Path, metavar="STUDENT", help="begin with the weights of this package")
    command.add_argument("--workers", type=int, default=1, help="processes that load data (default: 1)")
    _set_argument(command)

    command = _command(commands, evaluate, "official detection metrics and map mIoU of a run or student package",
                       "vexkd evaluate models/lidar_pillar_small --dataroot data --version v1.0-mini")
    command.add_argument("run_or_student", type=Path, metavar="RUN_OR_STUDENT")
    command.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")
    _dataset_arguments(command)
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    command.add_argument("--submission", type=Path, metavar="FILE",
                         help="also write the detections here, in nuScenes' submission format")

    command = _command(commands, export, "make a student package of a run", "vexkd export run models/my_student")
    command.add_argument("run", type=Path, metavar="RUN")
    command.add_argument("out", type=Path, metavar="OUT", help="folder of the package; an older package is replaced")

    command = _command(commands, describe, "modules of a model, shapes at every hop, parameters, GFLOPs and memory",
                       "vexkd describe config/model/bevdet_r50.yaml")
    command.add_argument("config", type=Path, metavar="CONFIG", help="a model of config/model/")
    _set_argument(command)
    command.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")

    command = _command(commands, import_weights, "make a student package of weights published by others",
                       "vexkd import-weights centerpoint.pth config/model/centerpoint_voxel.yaml imported/centerpoint")
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT",
                         help="of mmdetection3d, CenterPoint, BEVDet or BEVFusion: .pth, .pt, .ckpt or .safetensors")
    command.add_argument("config", type=Path, metavar="CONFIG", help="the model of config/model/ to load it into")
    command.add_argument("out", type=Path, metavar="OUT", help="folder of the package; an older package is replaced")
    _set_argument(command)
    command.add_argument("--all", action="store_true", help="name every tensor, not the first five of each group")

    command = _command(commands, plot, "draw a frame from above and through its cameras, with boxes and map",
                       "vexkd plot data --version v1.0-mini --scene scene-0103 --out frame.png")
    command.add_argument("dataroot", type=Path, metavar="DATAROOT", help="prepared nuScenes folder")
    _dataset_arguments(command)
    which = command.add_mutually_exclusive_group()
    which.add_argument("--frame", type=int, default=0, metavar="N", help="number in the split (default: 0)")
    which.add_argument("--token", help="of the sample, in any prepared split")
    which.add_argument("--scene", metavar="NAME", help="the first frame of this scene, for example scene-0103")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="picture to write")
    return parser


def _command(commands: argparse._SubParsersAction, run, text: str, example: str) -> argparse.ArgumentParser:
    command = commands.add_parser(run.__name__.replace("_", "-"), help=text,
                                  description=text[0].upper() + text[1:] + ".", epilog=f"example:\n  {example}",
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    command.set_defaults(command=run)
    command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=DEBUG_HELP)
    return command


def _set_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                         help="change one key of CONFIG, for example training.epochs=5; may be repeated")


def _dataset_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--version", required=True, help="v1.0-mini, v1.0-trainval or v1.0-test")
    command.add_argument("--split", help="official split, for example mini_val")
    command.add_argument("--index", type=Path, help="folder of the frame index (default: DATAROOT/vexkd/VERSION)")


if __name__ == "__main__":
    main()
