"""Results as plain-text tables for people."""

from collections.abc import Mapping, Sequence

import numpy as np

from vexkd_model.deploy.reliability import Reliability
from vexkd_model.evaluation.detection import DetectionResult
from vexkd_model.evaluation.error_sources import ErrorSources
from vexkd_model.evaluation.map_iou import MapResult
from vexkd_model.evaluation.motion_errors import MOVING_MPS, MotionErrors
from vexkd_model.evaluation.split import SplitResult
from vexkd_model.evaluation.tracking import TrackingResult
from vexkd_model.text_table import aligned

ERROR_UNITS = {
    "trans_err": "m",
    "scale_err": "(1 − IoU)",
    "orient_err": "rad",
    "vel_err": "m/s",
    "attr_err": "(1 − accuracy)",
}
MEAN_ERRORS = {"trans_err": "mATE", "scale_err": "mASE", "orient_err": "mAOE", "vel_err": "mAVE", "attr_err": "mAAE"}


def metrics_table(detection: DetectionResult | None, maps: MapResult | None) -> str:
    """Format the official figures; either part may be absent. Classes without ground truth are marked."""
    parts = []
    if detection is not None:
        parts.append(_detection_table(detection))
    if maps is not None:
        parts.append(_map_table(maps))
    return "\n\n".join(parts)


def comparison_table(results: Mapping[str, SplitResult]) -> str:
    """Format one line a model: mAP, NDS, mIoU and the mean errors; a dash for what was not scored."""
    units = {name: unit if unit in ("m", "rad", "m/s") else "" for name, unit in ERROR_UNITS.items()}
    heads = [f"{MEAN_ERRORS[name]} {unit}".strip() for name, unit in units.items()]
    rows = [["compared", "mAP", "NDS", "mIoU", *heads]]
    for name, result in results.items():
        detection, maps = result.detection, result.maps
        scores = ["–"] * 2 if detection is None else [f"{detection.mean_ap:.3f}", f"{detection.nd_score:.3f}"]
        errors = ["–"] * 5 if detection is None else [f"{detection.tp_errors[error]:.3f}" for error in ERROR_UNITS]
        rows.append([name, *scores, "–" if maps is None else f"{maps.mean_iou:.3f}", *errors])
    return aligned(rows)


def tracking_table(result: TrackingResult) -> str:
    """Format the official tracking figures by class, identity switches a minute, and errors before and after."""
    columns = ("amota", "amotp", "mota", "recall", "ids", "gt")
    rows = [["tracking", "AMOTA", "AMOTP [m]", "MOTA", "recall", "switches", "boxes"]]
    for name, values in result.class_metrics.items():
        if values["gt"]:
            rows.append([name, *(_figure(values[key], ".0f" if key in ("ids", "gt") else ".3f") for key in columns)])
    means = result.amota, result.amotp, result.mota, result.recall
    boxes = sum(values["gt"] or 0 for values in result.class_metrics.values())
    rows.append(["mean, sum", *(f"{value:.3f}" for value in means), str(result.ids), f"{boxes:.0f}"])
    driven = f"{result.ids_per_minute:.1f} identity switches a minute in {60 * result.minutes:.0f} s of driving"
    parts = [aligned(rows), f"{driven}, {result.frag} interruptions"]
    return "\n".join([*parts, *(["", _motion_table(result.motion)] if result.motion else [])])


def _motion_table(motion: MotionErrors) -> str:
    units = ("velocity [m/s]", "tracked", "heading [rad]", "tracked")
    rows = [["errors of", "boxes", *units]]
    named = {**motion.classes, "mean of classes": motion.mean, f"faster than {MOVING_MPS:g} m/s": motion.moving}
    for name, one in named.items():
        if one:
            errors = one.velocity_before, one.velocity_after, one.heading_before, one.heading_after
            rows.append([name, str(one.boxes), *(f"{error:.2f}" for error in errors)])
    return aligned(rows)


def _figure(value: float | None, layout: str) -> str:
    return "–" if value is None else format(value, layout)


def errors_table(sources: ErrorSources) -> str:
    """Format AP by class and what it gains where one kind of error is mended, and shares of reversed headings [%]."""
    mended = {
        "class": sources.class_right,
        "place": sources.place_right,
        "background": sources.no_background,
        "missed": sources.none_missed,
    }
    rows = [["AP without errors of", "as found", *mended, "reversed, standing [%]", "moving [%]"]]
    for name, ap in sources.as_found.items():
        gains = [f"{by_class[name] - ap:+.3f}" for by_class in mended.values()]
        turned = [of.get(name) and of[name].reversed for of in (sources.standing, sources.moving)]
        shares = [_figure(None if share is None else 100 * share, ".0f") for share in turned]
        rows.append([name, f"{ap:.3f}", *gains, *shares])
    means = [np.mean([*by_class.values()]) for by_class in (sources.as_found, *mended.values())]
    rows.append(["mean", f"{means[0]:.3f}", *(f"{mean - means[0]:+.3f}" for mean in means[1:]), "", ""])
    return aligned(rows)


def reliability_table(reliability: Reliability) -> str:
    """Format what `vexkd calibrate` measured, one line a class; coverage [%] of position, height, heading, velocity."""
    rows = [["held out", "boxes", "ECE", "calibrated", "threshold", "precision", "recall", "covered [%]"]]
    for name, one in reliability.classes.items():
        held_out = one.held_out
        covered = ["–" if share is None else f"{100 * share:.0f}" for share in held_out.coverage.values()]
        figures = held_out.ece_before, held_out.ece_after, one.score_threshold, held_out.precision, held_out.recall
        rows.append([name, str(one.annotations), *(f"{figure:.3f}" for figure in figures), " ".join(covered)])
    frames = (
        f"{reliability.boxes_per_frame:g} boxes a frame at the thresholds, {reliability.annotations_per_frame:g} true"
    )
    return f"{aligned(rows)}\n{frames}"


def latency_table(rows: Mapping[str, Sequence[float]]) -> str:
    """Format durations [s] by name: their number, median, 90th and 99th percentile and maximum [ms]."""
    cells = [["latency [ms]", "n", "p50", "p90", "p99", "max"]]
    for name, seconds in rows.items():
        figures = 1e3 * np.percentile(seconds, [50, 90, 99, 100]) if len(seconds) else []
        cells.append([name, str(len(seconds)), *(f"{figure:.1f}" for figure in figures)])
    return aligned([row + ["–"] * (len(cells[0]) - len(row)) for row in cells])


def _detection_table(result: DetectionResult) -> str:
    rows = [["detection", "AP", "boxes"]]
    for name, ap in result.class_ap.items():
        rows.append([name, f"{ap:.3f}", str(result.ground_truth[name])])
    rows.append(["mean (mAP)", f"{result.mean_ap:.3f}", str(sum(result.ground_truth.values()))])
    rows.append(["NDS", f"{result.nd_score:.3f}", ""])
    errors = ", ".join(f"{name[:-4]} {value:.2f} {ERROR_UNITS[name]}" for name, value in result.tp_errors.items())
    lines = [aligned(rows), f"errors of matches: {errors}"]
    without = [name for name, count in result.ground_truth.items() if count == 0]
    if without:
        lines.append(f"no ground truth in range for {', '.join(without)}: AP 0 by definition")
    if result.note:
        lines.append(f"note: {result.note}")
    return "\n".join(lines)


def _map_table(result: MapResult) -> str:
    rows = [["map", "IoU", "at"]]
    for name, iou in result.class_iou.items():
        rows.append([name, f"{iou:.3f}", f"{result.best_threshold[name]:.2f}"])
    rows.append(["mean (mIoU)", f"{result.mean_iou:.3f}", ""])
    lines = [aligned(rows)]
    if result.absent:
        lines.append(f"no ground truth for {', '.join(result.absent)}: IoU 0 by definition")
    return "\n".join(lines)
