"""How certain a val mAP is: its standard error by bootstrap over scenes, and what it would be with more or fewer.

The claim: on the val split of `bench-small` the standard error is below one point; exit code 1 where not. Scenes are
drawn, not keyframes, because the keyframes of one scene show the same objects. What a model found is written by
`vexkd evaluate … --submission submission.json`.

    python benchmarks/val_standard_error.py --dataroot data --version v1.0-trainval --split val \\
        --submission submission.json
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import add_center_dist, filter_eval_boxes, load_gt, load_prediction
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionConfig

from vexkd_model.data.tables import open_nuscenes
from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_model.types import DETECTION_CLASSES

DRAWS = 100
SCENE_COUNTS = (25, 50, 100, 150, 300)
LIMIT = 0.01


def read_boxes(dataroot: Path, version: str, split: str, submission: Path) -> tuple[EvalBoxes, EvalBoxes, dict]:
    """Ground truth and predictions as `DetectionEval` filters them, and sample token → scene token."""
    nusc, config = open_nuscenes(dataroot, version), config_factory("detection_cvpr_2019")
    if not submission.is_file():
        raise UserError(f"{submission}: not there; `vexkd evaluate --submission {submission}` writes it")
    predicted, _ = load_prediction(str(submission), config.max_boxes_per_sample, DetectionBox)
    both = [filter_eval_boxes(nusc, add_center_dist(nusc, boxes), config.class_range)
            for boxes in (load_gt(nusc, split, DetectionBox), predicted)]
    return *both, {sample["token"]: sample["scene_token"] for sample in nusc.sample}


def match(truth: list[DetectionBox], found: list[DetectionBox], within_m: float) -> list[tuple[float, bool]]:
    """(score, is it right?) of every prediction of one class in one sample: the devkit's greedy match by distance."""
    free, matched = list(range(len(truth))), []
    for box in sorted(found, key=lambda box: -box.detection_score):
        distances = [np.hypot(*np.subtract(truth[i].translation[:2], box.translation[:2])) for i in free]
        right = bool(distances) and min(distances) < within_m
        if right:
            free.pop(int(np.argmin(distances)))
        matched.append((box.detection_score, right))
    return matched


def average_precision(matches: np.ndarray, positives: int, config: DetectionConfig) -> float:
    """nuScenes' AP. matches: (N, 2), score and whether it is right."""
    if not positives or not len(matches):
        return 0.0
    right = np.cumsum(matches[np.argsort(-matches[:, 0], kind="stable"), 1])
    precision = np.interp(np.linspace(0, 1, 101), right / positives, right / np.arange(1, len(right) + 1), right=0)
    precision = precision[round(100 * config.min_recall) + 1:] - config.min_precision
    return float(precision.clip(0).mean()) / (1 - config.min_precision)


class Scenes:
    """The matches of every scene, so that any choice of scenes is scored without matching again."""

    def __init__(self, truth: EvalBoxes, found: EvalBoxes, scene_of: dict[str, str], config: DetectionConfig) -> None:
        self.config = config
        self.names = sorted({scene_of[token] for token in truth.sample_tokens})
        self._matches = {scene: defaultdict(list) for scene in self.names}
        self._positives = {scene: defaultdict(int) for scene in self.names}
        for token in progress(truth.sample_tokens, "match", unit="samples"):
            for name in DETECTION_CLASSES:
                true, here = ([box for box in boxes[token] if box.detection_name == name] for boxes in (truth, found))
                self._positives[scene_of[token]][name] += len(true)
                for within_m in config.dist_ths:
                    self._matches[scene_of[token]][name, within_m] += match(true, here, within_m)

        for of_scene in self._matches.values():
            of_scene.update({key: np.array(pairs, float).reshape(-1, 2) for key, pairs in of_scene.items()})

    def mean_ap(self, scenes: list[str]) -> float:
        """mAP of the chosen scenes, each as often as it is named."""
        values = []
        for name in DETECTION_CLASSES:
            positives = sum(self._positives[scene][name] for scene in scenes)
            for within_m in self.config.dist_ths:
                matches = np.concatenate([self._matches[scene][name, within_m] for scene in scenes])
                values.append(average_precision(matches, positives, self.config))
        return float(np.mean(values))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataroot", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--submission", type=Path, required=True, help="detections of a model on that split")
    arguments = parser.parse_args()
    config, rng = config_factory("detection_cvpr_2019"), np.random.default_rng(0)
    try:
        truth, found, scene_of = read_boxes(arguments.dataroot, arguments.version, arguments.split,
                                            arguments.submission)
    except UserError as error:
        sys.exit(f"error: {error}")
    scenes = Scenes(truth, found, scene_of, config)
    print(f"mAP {100 * scenes.mean_ap(scenes.names):.2f} on {len(scenes.names)} scenes")
    errors = {}
    for count in sorted({*SCENE_COUNTS, len(scenes.names)}):
        draws = progress(range(DRAWS), f"{count} scenes", unit="draws")
        errors[count] = float(np.std([scenes.mean_ap(list(rng.choice(scenes.names, count))) for _ in draws]))
    for count, error in errors.items():
        print(f"{count:4d} scenes: standard error {100 * error:.2f} points"
              f"{' <- this split' if count == len(scenes.names) else ''}")
    return 0 if errors[len(scenes.names)] < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
