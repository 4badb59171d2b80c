"""Results of the demo: figures, pictures and the page of what the node published, beside the other students."""

from collections.abc import Sequence
from pathlib import Path

from vexkd_model.data.index import FrameIndex
from vexkd_model.deploy.card import StudentCard
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.report import comparison_table
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.figures.bev_figure import bev_figure
from vexkd_model.figures.comparison_figure import StudentPanel, comparison_figure
from vexkd_model.figures.scene import load_scene
from vexkd_model.files import write_json
from vexkd_ros.bags.evaluator import Evaluation
from vexkd_ros.bags.view.students import ViewedStudent
from vexkd_ros.demo.steps import say


def fullest_keyframe(index: FrameIndex) -> int:
    """Find the keyframe with the most annotated boxes and return its number."""
    return max(range(len(index)), key=lambda i: len(index[i].boxes))


def draw_fullest_keyframe(path: Path, index: FrameIndex, evaluation: Evaluation, card: StudentCard) -> None:
    """Draw the keyframe with the most annotated boxes from above."""
    fullest = fullest_keyframe(index)
    record = index[fullest]
    bev_figure(
        path,
        record.load_points(sweeps=1),
        record.seen_boxes,
        evaluation.predictions[fullest],
        index.map_mask(fullest),
        f"{card.name} over ROS 2: {record.scene}, keyframe {record.token[:8]}",
        thresholds=card.reliability.thresholds() if card.reliability else None,
    )


def compare(packages: Sequence[Path], index: FrameIndex, out: Path) -> tuple[str, list[ViewedStudent]]:
    """Evaluate packages on the keyframes without ROS; write OUT/comparison.json and a picture.

    Returns a table for people, and every package with its predictions for the page.
    """
    results, students, panels, fullest = {}, [], [], fullest_keyframe(index)
    stamps = index.column("stamp_ns")
    for package in packages:
        say(f"evaluate {package.name} for comparison, without ROS")
        predictor = Predictor.load(package, precision="auto", runtime="auto")
        try:
            predictions = list(predict_split(predictor, index))
        except UserError as error:  # a dataset without cameras is good for the LiDAR students
            say(f"{package.name} is left out: {error}")
            continue
        results[package.name] = score_split(predictions, index)
        by_stamp = dict(zip(stamps, predictions, strict=True))
        students.append(ViewedStudent(package.name, predictor.thresholds, by_stamp))
        panels.append(StudentPanel(package.name, predictions[fullest], predictor.thresholds))
    write_json(out / "comparison.json", {name: result.to_dict() for name, result in results.items()})
    comparison_figure(out / "comparison.png", load_scene(index, fullest), panels)
    return f"{comparison_table(results)}\n\ncomparison: {out / 'comparison.png'}\n", students
