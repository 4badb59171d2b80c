"""`vexkd plot`: pictures, one subcommand a kind."""

import argparse
from pathlib import Path

from vexkd_model.cli.arguments import add_command, add_dataset_arguments, add_group, index_dir


def frame(arguments: argparse.Namespace) -> None:
    from vexkd_model.data.index import FrameIndex
    from vexkd_model.figures.find_frame import frame_at, frame_with, prepared_splits
    from vexkd_model.figures.frame_figure import plot_frame

    folder = index_dir(arguments)
    splits = [arguments.split] if arguments.split else prepared_splits(folder)
    indices = [FrameIndex.open(folder, split, arguments.dataroot, arguments.version) for split in splits]
    if arguments.token:
        index, i = frame_with(indices, "token", arguments.token)
    elif arguments.scene:
        index, i = frame_with(indices, "scene", arguments.scene)
    else:
        index, i = frame_at(indices[0], arguments.frame)
    plot_frame(arguments.out, index, i)
    print(f"{arguments.out}: frame {i} of {index.split}, {index[i].scene}, sample {index[i].token}")


def add_commands(commands: argparse._SubParsersAction) -> None:
    kinds = add_group(commands, "plot", "draw pictures, one command a kind",
                      "vexkd plot frame data --version v1.0-mini --out frame.png")

    command = add_command(kinds, frame, "draw a frame from above and through its cameras, with boxes and map",
                        "vexkd plot frame data --version v1.0-mini --scene scene-0103 --out frame.png")
    command.add_argument("dataroot", type=Path, metavar="DATAROOT", help="prepared nuScenes folder")
    add_dataset_arguments(command)
    which = command.add_mutually_exclusive_group()
    which.add_argument("--frame", type=int, default=0, metavar="N", help="number in the split (default: 0)")
    which.add_argument("--token", help="of the sample, in any prepared split")
    which.add_argument("--scene", metavar="NAME", help="the first frame of this scene, for example scene-0103")
    command.add_argument("--out", type=Path, required=True, metavar="FILE.png", help="picture to write")
