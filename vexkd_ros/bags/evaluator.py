"""Command bag_evaluator: score what a student node published, or a student on the inputs in bags. Needs no ROS.

The code that scores is that of offline evaluation.
"""

import argparse
import dataclasses
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vexkd_model.command import DEVICE_HELP, make_parser, run_command
from vexkd_model.data.index import FrameIndex, index_folder
from vexkd_model.data.splits import split_names
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.motion_errors import motion_errors
from vexkd_model.evaluation.report import latency_table, metrics_table, tracking_table
from vexkd_model.evaluation.split import SplitResult, score_split
from vexkd_model.evaluation.tracking import TrackingResult, score_tracks
from vexkd_model.files import write_json
from vexkd_model.process import set_up_process
from vexkd_model.progress import progress
from vexkd_model.types import SEGMENTATION_GRID, BevGrid, Prediction
from vexkd_ros.bags.published import read_published
from vexkd_ros.bags.published_tracks import read_tracks
from vexkd_ros.bags.reading import bag_paths
from vexkd_ros.bags.student_replay import ReplayRecord, TopicNames, heard_stamps, predict_bag

NODE = "/student_node"
LOW_SCORE = 0.15  # there are always boxes of less, unless the node kept them to itself
ALL_BAGS = "give all bags of the split, or --scenes"
HELP = """\
Official nuScenes detection metrics, map IoU and latency, from bags: of what a student node published and a recorder
wrote down, or, with --student, of a student on the inputs that the bags hold, in this process and as fast as it goes.

Messages belong to the keyframes that bear their stamps; every keyframe of the split, or of --scenes, must be there."""
EXAMPLE = """\
example, after `vexkd-nuscenes-to-bag data --version v1.0-mini --out bags` and `vexkd prepare data --version v1.0-mini`:
  vexkd-bag-evaluator bags/* --student models/lidar_distilled --dataroot data --version v1.0-mini --split mini_val
or over DDS, each line in a terminal of its own:
  vexkd-student-node --ros-args -r points:=/lidar/points -p model:=models/lidar_distilled -p score_threshold:=0.0
  vexkd-bag-recorder --out published --namespace /student_node
  vexkd-bag-player bags/* --rate 0.25 --wait-for-subscribers /lidar/points
  vexkd-bag-evaluator published --dataroot data --version v1.0-mini --split mini_val
what a track node made of it, too, recorded with `… --namespace /student_node /track_node/tracks /track_node/markers`:
  vexkd-bag-evaluator published --track-node /track_node --dataroot data --version v1.0-mini --split mini_val
one scene of the split, which the result then says:
  vexkd-bag-evaluator bags/scene-0103 --student … --dataroot data --version v1.0-mini --scenes scene-0103"""


class KeyframesMissing(UserError):
    """Missing detections of some keyframes, most often because the node could not keep up."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of an evaluation. latency: seconds of every frame, by stage.

    notes: what a reader of the figures must know, one line each.
    predictions: of what a node published, one a keyframe in the order of the index; those of --student are not kept.
    tracking: of what a track node published, where it was asked for.
    """

    keyframes: int
    result: SplitResult
    latency: dict[str, list[float]]
    notes: tuple[str, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    tracking: TrackingResult | None = None

    def tables(self) -> str:
        """Format metrics and latency for people."""
        parts = [metrics_table(self.result.detection, self.result.maps)]
        if self.tracking:
            parts.append(tracking_table(self.tracking))
        if self.latency:
            parts.append(latency_table(self.latency))
        return "\n\n".join([*parts, *(["\n".join(f"note: {note}" for note in self.notes)] if self.notes else [])])

    def to_dict(self) -> dict:
        """Return the figures for programs."""
        return {
            "keyframes": self.keyframes,
            **self.result.to_dict(),
            **({"tracking": self.tracking.to_dict()} if self.tracking else {}),
            "notes": list(self.notes),
            "latency_ms": {stage: _summary_ms(seconds) for stage, seconds in self.latency.items()},
        }


def _summary_ms(seconds: list[float]) -> dict[str, float]:
    p50, p90, p99, longest = np.round(1000 * np.percentile(seconds, [50, 90, 99, 100]), 3).tolist()
    return {"frames": len(seconds), "p50": p50, "p90": p90, "p99": p99, "max": longest}


def evaluate_bag(bag: Path, index: FrameIndex, node: str = NODE, track_node: str | None = None) -> Evaluation:
    """Score the bag's messages of `node`, and of a `track_node` that follows it, on all keyframes of the index.

    KeyframesMissing where one lacks its detections, markers, a map or tracks: a score of the rest would flatter.
    """
    token_of = _tokens_by_stamp(index)
    published = read_published(bag, node, token_of.keys())
    total = published.latency.get("total")
    took = f"; it took {1000 * np.median(total):.0f} ms a frame" if total else ""
    _check_complete(published.predictions.keys(), index, f"{bag}: {node} published", f"{took}: play slower, --rate")
    predictions = tuple(
        dataclasses.replace(published.predictions[stamp], token=token) for stamp, token in token_of.items()
    )
    _check_grid(predictions[0].map_grid, index, f"{bag}: {node}/map has")
    result = score_split(predictions, index, detects=published.detects)
    tracking = _score_track_node(bag, index, track_node, predictions) if track_node else None
    notes = (*_subset_note(index), *_threshold_note(predictions))
    return Evaluation(len(predictions), result, published.latency, notes, predictions, tracking)


def _score_track_node(
    bag: Path, index: FrameIndex, node: str, predictions: Sequence[Prediction]
) -> TrackingResult | None:
    token_of = _tokens_by_stamp(index)
    found = read_tracks(bag, node, token_of.keys())
    _check_complete(found.keys(), index, f"{bag}: {node} published tracks of", ": play slower, --rate")
    tracks = [dataclasses.replace(found[stamp], token=token) for stamp, token in token_of.items()]
    motion = motion_errors(
        ((one.boxes, one.scores), (track.boxes, track.scores), index[i].counted_boxes)
        for i, (one, track) in enumerate(zip(predictions, tracks, strict=True))
    )
    return score_tracks(tracks, index, motion)


def evaluate_student(
    bags: Sequence[Path], index: FrameIndex, student: Predictor, topics: TopicNames | None = None
) -> Evaluation:
    """Run the student on the inputs that the bags hold at the keyframes of the index, and score it.

    KeyframesMissing where the bags lack the input of a keyframe, or its place.
    """
    _check_grid(student.map_grid, index, "the student's map has")
    topics = topics or TopicNames()
    _check_scenes(bags, index, student, topics)
    student.warm_up()
    record = ReplayRecord()
    result = score_split(
        _predict(bags, index, student, topics, record), index, detects=student.config.detection is not None
    )
    speed = record.driven_s / record.took_s
    notes = (
        *_subset_note(index),
        *(f"{count} times: {reason}" for reason, count in record.degraded.most_common()),
        f"{record.driven_s:.1f} s of driving took {record.took_s:.1f} s, {speed:.1f} times real time",
    )
    return Evaluation(len(index), result, record.latency, notes)


def _check_scenes(bags: Sequence[Path], index: FrameIndex, student: Predictor, topics: TopicNames) -> None:
    """Raise KeyframesMissing, before anything is predicted, where the bags hold nothing of a whole scene."""
    of_bags = [heard_stamps(bag, student, topics) for bag in bags]
    if None in of_bags:
        return  # the replay says which topics the bag lacks
    heard = np.sort([stamp for stamps in of_bags for stamp in stamps or ()])
    of_scene: dict[str, list[int]] = {}
    for stamp, scene in zip(index.column("stamp_ns"), index.column("scene"), strict=True):
        of_scene.setdefault(scene, []).append(stamp)
    there = [
        stamp
        for stamps in of_scene.values()
        if np.searchsorted(heard, min(stamps)) < np.searchsorted(heard, max(stamps), "right")
        for stamp in stamps
    ]
    _check_complete(there, index, f"{', '.join(map(str, bags))}: hold the input of", f"; {ALL_BAGS}")


def _predict(
    bags: Sequence[Path], index: FrameIndex, student: Predictor, topics: TopicNames, record: ReplayRecord
) -> Iterator[Prediction]:
    token_of = _tokens_by_stamp(index)
    waiting = dict(token_of)
    found = (prediction for bag in bags for prediction in predict_bag(bag, student, waiting.keys(), topics, record))
    for prediction in progress(found, "predict", len(token_of), "frames"):
        yield dataclasses.replace(prediction, token=waiting.pop(prediction.stamp_ns))
    reason = f"; {record.drops.most_common(1)[0][0]}" if record.drops else f"; {ALL_BAGS}"
    _check_complete(token_of.keys() - waiting.keys(), index, f"{', '.join(map(str, bags))}: hold the input of", reason)


def _tokens_by_stamp(index: FrameIndex) -> dict[int, str]:
    return dict(zip(index.column("stamp_ns"), index.column("token"), strict=True))


def _check_complete(stamps: Collection[int], index: FrameIndex, who: str, why: str) -> None:
    """Raise KeyframesMissing, with the scenes that are whole, unless every keyframe is among the stamps."""
    token_of = _tokens_by_stamp(index)
    scene_of = dict(zip(index.column("stamp_ns"), index.column("scene"), strict=True))
    missing = [stamp for stamp in token_of if stamp not in stamps]
    if missing:
        whole = sorted(set(scene_of.values()) - {scene_of[stamp] for stamp in missing})
        or_less = f"; whole are --scenes {','.join(whole[:5])}{',…' if len(whole) > 5 else ''}" if whole else ""
        raise KeyframesMissing(
            f"{who} {len(token_of) - len(missing)} of {len(token_of)} keyframes of {index.split} "
            f"(the first that is missing: {token_of[missing[0]]}){why}{or_less}"
        )


def _check_grid(grid: BevGrid | None, index: FrameIndex, who: str) -> None:
    if grid is not None and index.has_maps and grid != SEGMENTATION_GRID:
        raise UserError(f"{who} the grid {grid}, the index {SEGMENTATION_GRID}; the student cannot be scored")


def _subset_note(index: FrameIndex) -> tuple[str, ...]:
    if index.scenes is None:
        return ()
    return (f"only {', '.join(index.scenes)} of {index.split}: no figure of the split",)


def _threshold_note(predictions: Sequence[Prediction]) -> tuple[str, ...]:
    least = min((float(prediction.scores.min()) for prediction in predictions if len(prediction.scores)), default=0.0)
    if least < LOW_SCORE:
        return ()
    return (f"no box scores below {least:.2f}: the metrics want all boxes; record a node with -p score_threshold:=0.0",)


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("vexkd-bag-evaluator", HELP, EXAMPLE)
    parser.add_argument("bags", type=Path, nargs="+", metavar="BAG", help="bag folder; several with --student")
    parser.add_argument("--dataroot", type=Path, required=True, help="prepared nuScenes folder")
    parser.add_argument("--version", required=True, help="folder of the tables: v1.0-mini, v1.0-trainval, …")
    parser.add_argument("--split", help="split (default: the last one, mini_val or val)")
    parser.add_argument("--scenes", help="score these scenes of the split alone: scene-0103,scene-0916")
    parser.add_argument("--index", type=Path, help="folder of the frame index (default: DATAROOT/vexkd/VERSION)")
    parser.add_argument("--node", default=NODE, help=f"name of the student node (default: {NODE})")
    parser.add_argument(
        "--track-node", metavar="NAME", help="also score the tracks of this node, in BAG, too: /track_node"
    )
    parser.add_argument(
        "--student",
        type=Path,
        metavar="PACKAGE",
        help="student package to run on the bags' inputs, in place of what a node published",
    )
    parser.add_argument("--device", default="auto", help=f"where --student runs: {DEVICE_HELP}")
    parser.add_argument(
        "--points",
        default=TopicNames().points,
        metavar="TOPIC",
        help=f"point clouds for --student (default: {TopicNames().points})",
    )
    parser.add_argument(
        "--cameras",
        metavar="NAMES",
        help="namespaces of the cameras for --student, in its order (default: /cam_front_left,/cam_front, …)",
    )
    parser.add_argument(
        "--tf",
        default=TopicNames().tf,
        metavar="TOPIC",
        help="transforms for --student, beside "
        f"TOPIC_static; /robot1/tf where a bag holds several robots (default: {TopicNames().tf})",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")

    def command(arguments: argparse.Namespace) -> None:
        bags = bag_paths(arguments.bags)
        if len(bags) != 1 and not arguments.student:
            parser.error("one BAG of what a node published, or --student")
        if arguments.track_node and arguments.student:
            parser.error("--track-node: of what nodes published, without --student")
        set_up_process()
        index_dir = arguments.index or index_folder(arguments.dataroot, arguments.version)
        split = arguments.split or split_names(arguments.dataroot, arguments.version)[-1]
        index = FrameIndex.open(index_dir, split, arguments.dataroot, arguments.version)
        if arguments.scenes:
            index = index.of_scenes(arguments.scenes.split(","))
        if arguments.student:
            cameras = tuple(arguments.cameras.split(",")) if arguments.cameras else ()
            topics = TopicNames(arguments.points, cameras, arguments.tf)
            student = Predictor.load(arguments.student, arguments.device)
            print(f"{arguments.student}: {student.place}", file=sys.stderr)
            evaluation = evaluate_student(bags, index, student, topics)
        else:
            evaluation = evaluate_bag(bags[0], index, arguments.node, arguments.track_node)
        print(evaluation.tables())
        if arguments.json:
            write_json(arguments.json, evaluation.to_dict())
            print(f"{arguments.json}: written")

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
