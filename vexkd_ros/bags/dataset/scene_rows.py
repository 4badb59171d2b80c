"""Rows of the scenes of one bag, of the files that were written."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

import numpy as np

from vexkd_model.data.scene_tables import Annotation, Drive, SceneTables, SensorFile
from vexkd_model.data.splits import LIDAR
from vexkd_model.geometry.transforms import quaternion_from_matrix
from vexkd_ros.bags.dataset.annotations import UNKNOWN_POINTS, AnnotatedBox
from vexkd_ros.bags.dataset.plan import nearest
from vexkd_ros.bags.dataset.sensor_files import Written, file_name
from vexkd_ros.bags.dataset.wiring import Wiring


def scene_tables(
    name: str,
    source: object,
    drive: str,
    wiring: Wiring,
    keyframes: Sequence[int],
    files: Sequence[Written],
    boxes: Mapping[int, list[AnnotatedBox]],
) -> SceneTables | None:
    """Make the rows of a scene; None where no keyframe has the reference's file.

    source: of the tokens. drive: name of the recording. keyframes: their stamps [ns]. files: of this scene, in any
    order. A keyframe without the reference's file is none, and its other files become sweeps.
    """
    reference = {file.capture.stamp_ns: file for file in files if file.capture.channel == wiring.reference}
    kept = [stamp for stamp in keyframes if stamp in reference]
    if not kept:
        return None
    tables = SceneTables(name, source)
    date = datetime.fromtimestamp(kept[0] * 1e-9, timezone.utc).strftime("%Y-%m-%d")
    tables.add_scene(
        Drive(drive, wiring.vehicle, date, wiring.location),
        [stamp // 1000 for stamp in kept],
        f"Recorded drive {drive}",
    )
    if not wiring.lidars:
        _stand_in_for_lidar(tables, drive, [reference[stamp] for stamp in kept])
    for file in sorted(files, key=lambda file: (file.capture.channel, file.capture.stamp_ns)):
        _add_file(tables, file, kept)
    tables.link_files()
    _add_annotations(tables, kept, reference, boxes, bool(wiring.lidars))
    return tables


def _add_file(tables: SceneTables, file: Written, keyframes: Sequence[int]) -> None:
    capture = file.capture
    belongs = capture.keyframe_ns in keyframes
    sample = capture.keyframe_ns if belongs else keyframes[nearest(keyframes, capture.stamp_ns)]
    tables.add_file(
        SensorFile(
            capture.channel,
            capture.stamp_ns // 1000,
            sample // 1000,
            capture.is_keyframe and belongs,
            file.filename,
            file.fileformat,
            tables.calibration(capture.channel, capture.base_from_sensor, [list(row) for row in file.intrinsics]),
            *_pose(capture.odom_from_base),
            file.size,
        )
    )


def _stand_in_for_lidar(tables: SceneTables, drive: str, references: Sequence[Written]) -> None:
    """Add LiDAR records without files: their stamps and poses are those of the frames, also for cameras alone."""
    calibration = tables.calibration(LIDAR, np.eye(4), [])
    for file in references:
        stamp = file.capture.stamp_ns
        tables.add_file(
            SensorFile(
                LIDAR,
                stamp // 1000,
                stamp // 1000,
                True,
                file_name(drive, LIDAR, stamp, True, "pcd.bin"),
                "pcd",
                calibration,
                *_pose(file.capture.odom_from_base),
            )
        )


def _add_annotations(
    tables: SceneTables,
    keyframes: Sequence[int],
    reference: Mapping[int, Written],
    boxes: Mapping[int, list[AnnotatedBox]],
    has_lidar: bool,
) -> None:
    of_instance: dict[tuple[str, str], list[Annotation]] = {}
    for number, stamp in enumerate(keyframes):
        for i, box in enumerate(boxes.get(stamp, ())):
            length, width, height = box.size
            of_instance.setdefault((box.instance, box.category), []).append(
                Annotation(
                    number,
                    tables.token("sample", stamp // 1000),
                    box.odom_from_box[:3, 3].tolist(),
                    [width, length, height],
                    quaternion_from_matrix(box.odom_from_box).tolist(),
                    reference[stamp].lidar_points[i] if has_lidar else UNKNOWN_POINTS,
                    attribute=box.attribute,
                )
            )
    for (instance, category), annotations in of_instance.items():
        tables.add_instance(f"{instance}/{category}", category, annotations)


def _pose(odom_from_base: np.ndarray) -> tuple[list[float], list[float]]:
    return odom_from_base[:3, 3].tolist(), quaternion_from_matrix(odom_from_base).tolist()
