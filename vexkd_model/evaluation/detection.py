"""Official nuScenes detection metrics: predictions in base_link → submission → the unmodified devkit's figures."""

import contextlib
import copy
import io
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    get_samples_of_scenes,
    load_gt_of_sample_tokens,
    load_prediction,
)
from nuscenes.eval.detection.constants import TP_METRICS
from nuscenes.eval.detection.data_classes import DetectionBox, DetectionConfig, DetectionMetrics
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.nuscenes import NuScenes

from vexkd_model.data.schema import open_nuscenes, scenes_of_split
from vexkd_model.data.splits import SPLITS, SPLITS_OF_VERSION, own_splits
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file, write_json
from vexkd_model.geometry.boxes import nuscenes_from_values
from vexkd_model.types import DETECTION_CLASSES, Prediction

MAX_BOXES_PER_SAMPLE = 500
MOVING_SPEED_MPS = 0.2  # CenterPoint's and mmdetection3d's border between a moving and a standing object
# class → attribute when moving, attribute otherwise
ATTRIBUTES = {
    "car": ("vehicle.moving", "vehicle.parked"),
    "truck": ("vehicle.moving", "vehicle.parked"),
    "construction_vehicle": ("vehicle.moving", "vehicle.parked"),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    "trailer": ("vehicle.moving", "vehicle.parked"),
    "barrier": ("", ""),
    "motorcycle": ("cycle.with_rider", "cycle.without_rider"),
    "bicycle": ("cycle.with_rider", "cycle.without_rider"),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
    "traffic_cone": ("", ""),
}


@dataclass(frozen=True)
class DetectionResult:
    """Figures of `DetectionEval` with its configuration detection_cvpr_2019.

    class_ap: AP a class, mean over the distance thresholds 0.5, 1, 2 and 4 m.
    tp_errors: means over classes of trans_err [m], scale_err [1 − IoU], orient_err [rad], vel_err [m/s] and
        attr_err [1 − accuracy], of matches within 2 m.
    ground_truth: boxes a class that count: in range, with LiDAR or radar points. A class with none has AP 0 and still
        weighs in the mean.
    note: empty, or why there is nothing behind the figures.
    """

    mean_ap: float
    nd_score: float
    class_ap: dict[str, float]
    tp_errors: dict[str, float]
    ground_truth: dict[str, int]
    samples: int
    note: str = ""

    def to_dict(self) -> dict:
        """Convert to plain dictionaries and numbers, for JSON."""
        return asdict(self)


def submission(
    predictions: Iterable[Prediction], global_from_base: Mapping[str, np.ndarray], sensors: Collection[str]
) -> dict:
    """Make the official submission: {"meta": …, "results": {sample token: [box …]}}, boxes in the global frame.

    global_from_base: float64 (4, 4) ego poses by sample token. sensors: lidar, camera or both, what the predictions are
    made from. Of more than 500 boxes in a sample the best scores stay. The attribute follows from class and speed
    (`ATTRIBUTES`). An unknown (NaN) velocity is submitted as zero: the devkit would leave NaN out of the velocity
    error, so that saying nothing would score better than trying.

    UserError: a sample twice, one without a pose, or a box that is not finite or has no volume.
    """
    results: dict[str, list[dict]] = {}
    for prediction in predictions:
        token = prediction.token
        if token in results:
            raise UserError(f"sample {token!r}: predicted twice; replay every scene once")
        if token not in global_from_base:
            raise UserError(f"sample {token!r}: no ego pose is known; predict on samples of the evaluated dataset")
        results[token] = _sample_results(prediction, global_from_base[token])
    meta = {
        "use_camera": "camera" in sensors,
        "use_lidar": "lidar" in sensors,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
    return {"meta": meta, "results": results}


def score_submission(
    dataroot: Path,
    version: str,
    split: str,
    document: dict,
    work_dir: Path,
    unreadable: int = 0,
    scenes: Collection[str] | None = None,
    kept: Path | None = None,
) -> DetectionResult | None:
    """Score a submission on every sample of a split; the devkit prints nothing. None without annotations.

    The submission that is scored holds every sample of the split, and has passed the devkit's own checks. `work_dir` is
    made where absent and receives it as `submission.json`; kept: another place to write it to.
    unreadable: so many samples may be missing, and count as samples without detections. scenes: score these scenes of
    the split alone; any number up to `unreadable` of their samples may then be missing.
    UserError: more samples of the split without a prediction, predictions of other samples, a submission that the
    devkit does not take, a split that the dataset does not have.
    """
    nusc = open_nuscenes(dataroot, version)
    official = SPLITS_OF_VERSION.get(version, (split,))
    if split not in (*official, *own_splits(dataroot, version)):
        raise UserError(
            f"{dataroot}: {version} cannot be scored on split {split!r}; choose one of {', '.join(official)}"
        )
    names = [scene["name"] for scene in scenes_of_split(nusc, split) if scenes is None or scene["name"] in scenes]
    tokens = get_samples_of_scenes(names, nusc)
    if not tokens:
        raise UserError(f"{nusc.dataroot}: {nusc.version} holds no sample of split {split!r}")
    missing = [token for token in tokens if token not in document["results"]]
    if scenes is not None:
        unreadable = min(unreadable, len(missing))
    if len(missing) == unreadable:
        document = {**document, "results": {**document["results"], **{token: [] for token in missing}}}
    _check_complete(document["results"].keys(), tokens, split)
    config = config_factory("detection_cvpr_2019")
    assert isinstance(config, DetectionConfig)
    path = Path(work_dir) / "submission.json"
    write_json(path, document)
    _check_official(path, config)
    if kept is not None:
        with atomic_file(kept) as partial:
            shutil.copyfile(path, partial)
    if not nusc.sample_annotation:
        return None
    note = f"{unreadable} keyframes could not be read and count as empty" if unreadable else ""
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            counted = _counted_ground_truth(nusc, tokens, config)
            # The devkit cannot tell the box type of an empty set and raises; the figures are known all the same.
            if not any(document["results"].values()):
                return _zero_result(counted, len(tokens), "no detections at all")
            if not counted:
                return _zero_result(counted, len(tokens), "no ground truth in range in this split")
            metrics = _official_metrics(nusc, names, config, path)
    except (AssertionError, ValueError) as error:
        raise UserError(f"{dataroot}: {version} cannot be scored on split {split!r} ({error})") from error
    return DetectionResult(
        mean_ap=float(metrics.mean_ap),
        nd_score=float(metrics.nd_score),
        class_ap={name: float(metrics.mean_dist_aps[name]) for name in DETECTION_CLASSES},
        tp_errors={name: float(metrics.tp_errors[name]) for name in TP_METRICS},
        ground_truth={name: counted[name] for name in DETECTION_CLASSES},
        samples=len(tokens),
        note=note,
    )


def _check_official(path: Path, config: DetectionConfig) -> None:
    """Raise UserError for a submission that the devkit's loader refuses, as nuScenes' server would."""
    try:
        load_prediction(str(path), config.max_boxes_per_sample, DetectionBox)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: the official validator refuses the detections ({error})") from None


def _official_metrics(nusc: NuScenes, scenes: Sequence[str], config: DetectionConfig, path: Path) -> DetectionMetrics:
    """Run the devkit on these scenes alone, as a split of its `splits.json`, which it looks for beside the tables."""
    write_json(path.parent / nusc.version / SPLITS, {"scored": scenes})
    beside = copy.copy(nusc)
    beside.dataroot = str(path.parent)
    metrics, _ = DetectionEval(beside, config, str(path), "scored", str(path.parent), verbose=False).evaluate()
    return metrics


def _counted_ground_truth(nusc: NuScenes, tokens: list[str], config: DetectionConfig) -> Counter[str]:
    """Count the boxes of each class that the devkit counts: in range, with LiDAR or radar points."""
    boxes = load_gt_of_sample_tokens(nusc, tokens, DetectionBox)
    if boxes.all:
        boxes = filter_eval_boxes(nusc, add_center_dist(nusc, boxes), dict(config.class_range))
    return Counter(box.detection_name for box in boxes.all)


def _sample_results(prediction: Prediction, global_from_base: np.ndarray) -> list[dict]:
    best = np.argsort(-prediction.scores, kind="stable")[:MAX_BOXES_PER_SAMPLE]
    values, scores = prediction.boxes.values[best], prediction.scores[best]
    usable = np.isfinite(values[:, :7]).all(axis=1) & (values[:, 3:6] > 0).all(axis=1) & np.isfinite(scores)
    if not usable.all():
        raise UserError(
            f"sample {prediction.token!r}: {np.sum(~usable)} detections are not finite or have no volume; "
            "the student's weights are unusable, train it again"
        )
    boxes = official_boxes(prediction.token, values, global_from_base)
    names = [DETECTION_CLASSES[label] for label in prediction.boxes.labels[best]]
    moving = np.hypot(*np.nan_to_num(values[:, 7:9], posinf=0.0, neginf=0.0).T) > MOVING_SPEED_MPS
    return [
        {
            **box,
            "detection_name": name,
            "detection_score": score,
            "attribute_name": ATTRIBUTES[name][0 if is_moving else 1],
        }
        for box, name, score, is_moving in zip(boxes, names, scores.tolist(), moving, strict=True)
    ]


def official_boxes(token: str, values: np.ndarray, global_from_base: np.ndarray) -> list[dict]:
    """Make what every official box has, of boxes (M, 9) in base_link: place, size, rotation, velocity in global.

    An unknown (NaN) velocity counts as zero.
    """
    values = np.concatenate([values[:, :7], np.nan_to_num(values[:, 7:9], posinf=0.0, neginf=0.0)], axis=1)
    keys = ("translation", "size", "rotation", "velocity")
    columns = (column.tolist() for column in nuscenes_from_values(global_from_base, values))
    return [{"sample_token": token, **dict(zip(keys, box, strict=True))} for box in zip(*columns, strict=True)]


def _check_complete(predicted: Iterable[str], tokens: list[str], split: str) -> None:
    wanted, predicted = set(tokens), set(predicted)
    if missing := wanted - predicted:
        raise UserError(
            f"{len(missing)} of {len(wanted)} samples of split {split!r} have no prediction "
            f"(the first is {min(missing)}); predict all of them, if need be without boxes"
        )
    if strange := predicted - wanted:
        raise UserError(
            f"{len(strange)} predictions are of samples outside split {split!r} "
            f"(the first is {min(strange)}); evaluate the split that was predicted"
        )


def _zero_result(counted: Counter[str], samples: int, note: str) -> DetectionResult:
    """Make the devkit's figures for no detections in any class: AP 0 and all errors 1."""
    nothing: dict[str, float] = dict.fromkeys(DETECTION_CLASSES, 0.0)
    ground_truth = {name: counted[name] for name in DETECTION_CLASSES}
    return DetectionResult(0.0, 0.0, nothing, dict.fromkeys(TP_METRICS, 1.0), ground_truth, samples, note)
