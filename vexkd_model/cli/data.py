"""`vexkd synth`, `prepare` and `autolabel`: datasets, written, indexed and annotated by a teacher."""

import argparse
import shlex
import sys
from pathlib import Path

from vexkd_model.cli.arguments import add_command, add_dataset_arguments, index_dir
from vexkd_model.command import positive_int
from vexkd_model.errors import UserError
from vexkd_model.files import write_json


def synth(arguments: argparse.Namespace) -> None:
    from vexkd_model.config.sensors import NUSCENES
    from vexkd_model.synth.like import sensors_like

    sensors = sensors_like(arguments.like) if arguments.like else NUSCENES

    from vexkd_model.machine import choose_device
    from vexkd_model.synth import PRESETS, synthesise

    scenes = arguments.scenes.split(",") if arguments.scenes else None
    synthesise(
        arguments.out,
        arguments.preset,
        arguments.seed,
        split=arguments.split,
        scenes=scenes,
        device=str(choose_device(arguments.device)),
        workers=arguments.workers,
        sensors=sensors,
    )
    following = shlex.join(["vexkd", "prepare", str(arguments.out), "--version", PRESETS[arguments.preset].version])
    print(f"{arguments.out}: synthetic dataset complete; next: {following}")


def prepare(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.index import MANIFEST, read_manifest
    from vexkd_model.data.inventory import Inventory, inventory_text
    from vexkd_model.data.prepare import prepare

    splits = [arguments.split] if arguments.split else None
    for folder in prepare(
        arguments.dataroot,
        arguments.version,
        index_dir(arguments),
        splits,
        arguments.force,
        arguments.workers,
        arguments.skip_bad,
    ):
        made = read_manifest(folder / MANIFEST)
        print(f"{folder}: index complete, {made['frames']} frames")
        print(inventory_text(Inventory.of_manifest(made), made["frames"], arguments.dataroot / arguments.version))
        if made["skipped_files"]:
            print(
                f"{folder}: {made['skipped_files']} problems, {made['skipped_frames']} frames left out, "
                f"{made['frames_with_damaged_map']} frames without their map, see {folder}_problems.txt"
            )


def autolabel(arguments: argparse.Namespace) -> None:
    from vexkd_model.autolabel.autolabel import autolabel, plan
    from vexkd_model.autolabel.report import quality_table
    from vexkd_model.data.index import FrameIndex
    from vexkd_model.data.requirements import check_evaluable
    from vexkd_model.deploy.predictor import Predictor
    from vexkd_model.distill.teacher import fingerprint
    from vexkd_model.figures.scene import prepared_splits
    from vexkd_model.process import set_up_process
    from vexkd_model.training.run import load_trained

    set_up_process()
    model, config = load_trained(arguments.teacher)
    if config.detection is None:
        raise UserError(f"--teacher {arguments.teacher}: {config.name} detects nothing; give a model that does")
    folder = index_dir(arguments)
    indices = [
        FrameIndex.open(folder, split, arguments.dataroot, arguments.version) for split in prepared_splits(folder)
    ]
    job = plan(indices, arguments.split, arguments.scenes.split(",") if arguments.scenes else None)
    for index in indices:
        if any(scene.split == index.split for scene in job.wanted.values()):
            check_evaluable(config, index, predictions_alone=True)
    teacher = {"name": config.name, "from": str(arguments.teacher), "fingerprint": fingerprint(model)}
    predictor = Predictor(model, config, None, arguments.device, arguments.precision)
    command = " ".join(["vexkd", *sys.argv[1:]])
    result = autolabel(predictor, teacher, job, arguments.out_version, command, arguments.score)
    print(quality_table(result))
    print(
        f"{arguments.dataroot / arguments.out_version}: {result.boxes} boxes of {result.tracks} objects in "
        f"{len(result.scenes)} scenes; next: "
        + shlex.join(["vexkd", "prepare", str(arguments.dataroot), "--version", arguments.out_version])
    )
    if arguments.json:
        write_json(arguments.json, {**result.to_dict(), "teacher": teacher, "command": command})
        print(f"{arguments.json}: written")


def add_commands(commands: argparse._SubParsersAction) -> None:
    command = add_command(
        commands,
        synth,
        "write a synthetic dataset in the official nuScenes schema",
        "vexkd synth data --preset demo --seed 1",
    )
    command.add_argument("out", type=Path, metavar="OUT", help="folder to write; an interrupted run is resumed")
    command.add_argument(
        "--preset",
        default="demo",
        choices=("demo", "bench-small", "bench-small-x4", "bench"),
        help="demo: v1.0-mini; bench-small: v1.0-trainval, for experiments on two CPU cores; "
        "bench-small-x4: the same with 700 train scenes; bench: for a GPU machine, 50 GB",
    )
    command.add_argument("--seed", type=int, default=1, help="other seeds give other streets (default: 1)")
    command.add_argument(
        "--like",
        type=Path,
        metavar="SENSORS",
        help="imitate the sensors of this description, for example config/sensors/lidar64.yaml or what vexkd-doctor "
        "--sensors-out has measured, or of this student package's card (default: nuScenes')",
    )
    command.add_argument("--split", help="only the scenes of this official split, for example mini_val")
    command.add_argument("--scenes", help="only these scenes, for example scene-0103,scene-0916")
    command.add_argument(
        "--workers", type=positive_int, default=1, help="processes; the files do not depend on it (default: 1)"
    )
    command.add_argument("--device", default="cpu", help="cpu, cuda or auto; files differ in last bits (default: cpu)")

    command = add_command(
        commands,
        prepare,
        "index a nuScenes folder for training and evaluation",
        "vexkd prepare data --version v1.0-mini",
    )
    command.add_argument("dataroot", type=Path, metavar="DATAROOT", help="folder that holds samples/, sweeps/, maps/")
    add_dataset_arguments(command)
    command.add_argument("--force", action="store_true", help="write a complete index anew")
    command.add_argument(
        "--workers", type=positive_int, default=1, help="processes that check files and draw map masks (default: 1)"
    )
    command.add_argument(
        "--skip-bad",
        action="store_true",
        help="go on without missing and unreadable files; INDEX/SPLIT_problems.txt lists them",
    )

    command = add_command(
        commands,
        autolabel,
        "annotate scenes with a teacher's detections, tracked and smoothed, in a version of their own",
        "vexkd autolabel data --version mine --teacher models/teacher --out-version mine-auto",
    )
    command.add_argument("dataroot", type=Path, metavar="DATAROOT", help="prepared nuScenes folder")
    add_dataset_arguments(command)
    command.add_argument("--teacher", type=Path, required=True, metavar="RUN_OR_PACKAGE", help="model that detects")
    command.add_argument(
        "--out-version", required=True, metavar="NAME", help="folder of the new tables, beside those of --version"
    )
    command.add_argument("--scenes", help="only these scenes (default: all without annotations, or those of --split)")
    command.add_argument(
        "--score",
        type=float,
        help="least score of a track, of every class (default: the best F1 on annotated scenes that are not labelled, "
        "or else 0.35)",
    )
    command.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")
    command.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="auto: bfloat16 where the device has instructions for it (default: auto)",
    )
    command.add_argument("--json", type=Path, metavar="FILE", help="write thresholds and figures there, too")
