"""`vexkd plot`: pictures, one subcommand a kind."""

import argparse
from pathlib import Path

from vexkd_model.cli.arguments import (
    add_command,
    add_dataroot_argument,
    add_dataset_arguments,
    add_group,
    index_dir,
    open_index,
)


def frame(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.frame_figure import plot_frame

    index, i = _chosen_frame(arguments)
    plot_frame(arguments.out, index, i)
    print(_drawn(arguments.out, index, i))


def masks(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.masks_figure import plot_masks
    from vexkd_model.process import set_up_process

    set_up_process()
    index, i = _chosen_frame(arguments)
    plot_masks(arguments.out, arguments.runs, index, i, arguments.teacher)
    print(_drawn(arguments.out, index, i))


def fusion(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.fusion_figure import plot_fusion
    from vexkd_model.process import set_up_process

    set_up_process()
    index, i = _chosen_frame(arguments)
    plot_fusion(arguments.out, arguments.teacher, index, i, arguments.drop)
    print(_drawn(arguments.out, index, i))


def students(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.students_figure import plot_students
    from vexkd_model.process import set_up_process

    set_up_process()
    index, i = _chosen_frame(arguments)
    plot_students(arguments.out, arguments.models, index, i)
    print(_drawn(arguments.out, index, i))


def predictions(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.bev_figure import plot_predictions
    from vexkd_model.process import set_up_process

    set_up_process()
    index, i = _chosen_frame(arguments)
    plot_predictions(arguments.out, arguments.model, index, i)
    print(_drawn(arguments.out, index, i))


def drive(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.drive_figure import plot_drive
    from vexkd_model.process import set_up_process

    set_up_process()
    index = open_index(arguments, default=-1)
    frames = plot_drive(arguments.out, arguments.students, index, arguments.scene)
    print(f"{arguments.out}: {frames} frames of {arguments.scene}")


def losses(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.losses_figure import plot_losses

    plot_losses(arguments.out, arguments.runs)
    print(f"{arguments.out}: losses of {len(arguments.runs)} runs")


def blocks(arguments: argparse.Namespace) -> None:
    from vexkd_model.figures.blocks_figure import plot_blocks

    plot_blocks(arguments.out, arguments.table)
    print(f"{arguments.out}: blocks against mAP of {arguments.table}")


def _chosen_frame(arguments: argparse.Namespace):
    """Find the split's index and the frame's number in it."""
    from vexkd_model.data.index import FrameIndex
    from vexkd_model.figures.bev_axes import check_format
    from vexkd_model.figures.scene import frame_at, frame_with, prepared_splits

    check_format(arguments.out)
    folder = index_dir(arguments)
    splits = [arguments.split] if arguments.split else prepared_splits(folder)
    indices = [FrameIndex.open(folder, split, arguments.dataroot, arguments.version) for split in splits]
    if arguments.token:
        return frame_with(indices, "token", arguments.token)
    if arguments.scene:
        return frame_with(indices, "scene", arguments.scene)
    return frame_at(indices[0], arguments.frame)


def _drawn(path: Path, index, i: int) -> str:
    return f"{path}: frame {i} of {index.split}, {index[i].scene}, sample {index[i].token}"


def _add_frame_arguments(command: argparse.ArgumentParser) -> None:
    add_dataset_arguments(command)
    which = command.add_mutually_exclusive_group()
    which.add_argument("--frame", type=int, default=0, metavar="N", help="number in the split (default: 0)")
    which.add_argument("--token", help="of the sample, in any prepared split")
    which.add_argument("--scene", metavar="NAME", help="the first frame of this scene, for example scene-0103")
    _add_out_argument(command)


def _add_out_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--out", type=Path, required=True, metavar="FILE.png", help="picture to write: .png, .pdf or .svg"
    )


def add_commands(commands: argparse._SubParsersAction) -> None:
    kinds = add_group(
        commands,
        "plot",
        "draw pictures, one command a kind",
        "vexkd plot frame data --version v1.0-mini --out frame.png",
    )

    command = add_command(
        kinds,
        frame,
        "draw a frame from above and through its cameras, with boxes and map",
        "vexkd plot frame data --version v1.0-mini --scene scene-0103 --out frame.png",
    )
    command.add_argument("dataroot", type=Path, metavar="DATAROOT", help="prepared nuScenes folder")
    _add_frame_arguments(command)

    command = add_command(
        kinds,
        masks,
        "draw where the masks of distilled students look, by level and task",
        "vexkd plot masks runs/detection runs/segmentation --dataroot data --version v1.0-trainval "
        "--split val --out masks.png",
    )
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="of vexkd distill; a row each")
    add_dataroot_argument(command)
    _add_frame_arguments(command)
    command.add_argument(
        "--teacher",
        type=Path,
        metavar="RUN_OR_PACKAGE",
        help="where the teacher of these runs lies now (default: where it lay)",
    )

    command = add_command(
        kinds,
        fusion,
        "draw the maps of a model of two sensors before and after fusion",
        "vexkd plot fusion runs/teacher --dataroot data --version v1.0-trainval --split val --out fusion.png",
    )
    command.add_argument("teacher", type=Path, metavar="RUN_OR_PACKAGE", help="a model of two sensors")
    add_dataroot_argument(command)
    _add_frame_arguments(command)
    command.add_argument("--drop", choices=("lidar", "camera"), help="a second row shows the maps without this sensor")

    command = add_command(
        kinds,
        students,
        "draw maps, detections and segmentations of several models",
        "vexkd plot students runs/plain runs/distilled models/teacher --dataroot data "
        "--version v1.0-trainval --split val --out students.png",
    )
    command.add_argument(
        "models", type=Path, nargs="+", metavar="RUN_OR_PACKAGE", help="students and teachers; a row each"
    )
    add_dataroot_argument(command)
    _add_frame_arguments(command)

    command = add_command(
        kinds,
        predictions,
        "draw boxes and map that one model predicts, over the ground truth",
        "vexkd plot predictions models/lidar_distilled --dataroot data --version v1.0-mini --scene scene-0103 "
        "--out predictions.png",
    )
    command.add_argument("model", type=Path, metavar="RUN_OR_PACKAGE", help="a student or a teacher")
    add_dataroot_argument(command)
    _add_frame_arguments(command)

    command = add_command(
        kinds,
        drive,
        "draw a moving picture of a scene: cameras, and boxes and maps of students",
        "vexkd plot drive models/lidar_plain models/lidar_distilled --dataroot data --version v1.0-mini "
        "--split mini_val --scene scene-0103 --out drive.gif",
    )
    command.add_argument("students", type=Path, nargs="+", metavar="RUN_OR_PACKAGE", help="two in a row")
    add_dataroot_argument(command)
    add_dataset_arguments(command)
    command.add_argument("--scene", required=True, metavar="NAME", help="for example scene-0103")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.gif", help="picture to write")

    command = add_command(
        kinds,
        losses,
        "draw the loss curves of runs, the sum and every term",
        "vexkd plot losses runs/plain runs/distilled --out losses.png",
    )
    command.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="of vexkd train or vexkd distill")
    _add_out_argument(command)

    command = add_command(
        kinds,
        blocks,
        "draw mAP against the number of blocks that draw a mask",
        "vexkd plot blocks ablations/table.csv --out blocks.png",
    )
    command.add_argument("table", type=Path, metavar="TABLE.csv", help="of vexkd ablate blocks")
    _add_out_argument(command)
