"""`bag_evaluator`: scores what a student node published, with the same code that scores it offline. Needs no ROS."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vexkd_model.data.index import SPLITS_OF_VERSION, FrameIndex, index_folder
from vexkd_model.data.map_masks import SEGMENTATION_GRID
from vexkd_model.errors import UserError
from vexkd_model.evaluation.report import latency_table, metrics_table
from vexkd_model.evaluation.split import SplitResult, score_split
from vexkd_model.files import write_json
from vexkd_model.types import Prediction
from vexkd_ros.bags.command import run_command
from vexkd_ros.bags.published import read_published

NODE = "/student_node"
HELP = """\
Official nuScenes detection metrics, map IoU and latency of what a student node published, from a recorded bag.

Messages belong to the keyframes that bear their stamps; every keyframe of the split must be there."""
EXAMPLE = """\
example, each line in a terminal of its own:
  student_node --ros-args -r points:=/lidar/points -p model:=models/lidar_pillar_small
  bag_recorder --out published --namespace /student_node
  bag_player bags/* --rate 0.25 --wait-for-subscribers /lidar/points
then, after `vexkd prepare data --version v1.0-mini`:
  bag_evaluator published --dataroot data --version v1.0-mini --split mini_val"""


class KeyframesMissing(UserError):
    """The node did not publish everything of some keyframes, most often because it could not keep up."""


@dataclass(frozen=True)
class Evaluation:
    """predictions: one a keyframe, in the order of the index. latency: seconds of every published frame, by stage."""

    predictions: list[Prediction]
    result: SplitResult
    latency: dict[str, list[float]]

    def tables(self) -> str:
        """Metrics and latency for people."""
        tables = metrics_table(self.result.detection, self.result.maps)
        return f"{tables}\n\n{latency_table(self.latency)}" if self.latency else tables

    def to_dict(self) -> dict:
        """The figures for programs."""
        return {"keyframes": len(self.predictions), **self.result.to_dict(),
                "latency_ms": {stage: _summary_ms(seconds) for stage, seconds in self.latency.items()}}


def _summary_ms(seconds: list[float]) -> dict[str, float]:
    p50, p90, p99, longest = np.round(1000 * np.percentile(seconds, [50, 90, 99, 100]), 3).tolist()
    return {"frames": len(seconds), "p50": p50, "p90": p90, "p99": p99, "max": longest}


def evaluate_bag(bag: Path, index: FrameIndex, node: str = NODE) -> Evaluation:
    """Score the bag's messages of `node` on all keyframes of the index.

    KeyframesMissing where one lacks its detections, markers or a map: a score of the rest would flatter.
    """
    token_of = {record.stamp_ns: record.token for record in (index[i] for i in range(len(index)))}
    published = read_published(bag, node, token_of.keys())
    missing = [token for stamp, token in token_of.items() if stamp not in published.predictions]
    if missing:
        total = published.latency.get("total")
        took = f"; it took {1000 * np.median(total):.0f} ms a frame" if total else ""
        raise KeyframesMissing(f"{bag}: {node} published {len(token_of) - len(missing)} of {len(token_of)} keyframes "
                               f"of {index.split} (the first that is missing: {missing[0]}){took}: play slower, --rate")
    predictions = [dataclasses.replace(published.predictions[stamp], token=token)
                   for stamp, token in token_of.items()]
    if index.has_maps and predictions[0].map_grid != SEGMENTATION_GRID:
        raise UserError(f"{bag}: {node}/map has the grid {predictions[0].map_grid}, "
                        f"the index {SEGMENTATION_GRID}; the student cannot be scored")
    return Evaluation(predictions, score_split(predictions, index), published.latency)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("bag_evaluator", description=HELP, epilog=EXAMPLE,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bag", type=Path, help="recorded bag folder")
    parser.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")
    parser.add_argument("--version", required=True, help="v1.0-mini or v1.0-trainval")
    parser.add_argument("--split", help="official split (default: mini_val or val)")
    parser.add_argument("--index", type=Path, help="folder of the frame index (default: DATAROOT/vexkd/VERSION)")
    parser.add_argument("--node", default=NODE, help=f"name of the student node (default: {NODE})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")

    def command(arguments: argparse.Namespace) -> None:
        index_dir = arguments.index or index_folder(arguments.dataroot, arguments.version)
        split = arguments.split or SPLITS_OF_VERSION.get(arguments.version, ("val",))[-1]
        evaluation = evaluate_bag(arguments.bag, FrameIndex.open(index_dir, split), arguments.node)
        print(evaluation.tables())
        if arguments.json:
            write_json(arguments.json, evaluation.to_dict())
            print(f"{arguments.json}: written")

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
