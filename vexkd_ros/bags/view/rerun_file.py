"""File of the Rerun viewer: clouds, cameras, boxes and maps in 3D over time, as the page shows them from above."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr  # pyright: ignore[reportMissingImports]
import rerun.blueprint as rrb  # pyright: ignore[reportMissingImports]
from matplotlib import colormaps

from vexkd_model.errors import UserError
from vexkd_model.figures.palette import DETECTION_COLOURS, MAP_COLOURS
from vexkd_model.progress import progress
from vexkd_model.types import DETECTION_CLASSES, MAP_CLASSES, BevGrid, Boxes
from vexkd_ros.bags.published import read_boxes, read_map
from vexkd_ros.bags.view.document import shown_points
from vexkd_ros.bags.view.pictures import PlacedImage, camera_images, camera_messages, left_out, map_labels
from vexkd_ros.bags.view.recording import GROUND_TRUTH, Moment, RecordedPoses, Recording
from vexkd_ros.bags.view.students import ViewedStudent
from vexkd_ros.inputs.errors import ImageError

APPLICATION, TIMELINE = "vexkd-bag-view", "stamp"
ODOM, BASE = "odom", "odom/base_link"
TRUTH = "truth"
TRUE_COLOUR = (30, 160, 60)
SHOWN_SCORE = 0.3  # of a student without thresholds of its own; the page's slider begins there, too
HEIGHTS_M = (-0.5, 3.5)  # of the scale of the points' colours
MAP_HEIGHT_M = -0.05  # below the road's points
MAP_OPACITY = 0.99  # at 1 the viewer shows transparent cells black
IMAGE_PLANE_M = 1.0  # in front of its camera; further away, images hide what is near
EYE, LOOKS_AT = (-22.0, 0.0, 16.0), (8.0, 0.0, 0.0)  # of the 3D views, in base_link
AS_THEY_ARE = ("jpeg", "jpg", "png", "rgb8", "bgr8")  # formats of compressed images that the viewer reads
PNG = b"\x89PNG"
QUALITY = 90  # of the JPEG that others become


def write_rerun(path: Path, title: str, recording: Recording, students: Sequence[ViewedStudent]) -> list[str]:
    """Write a recording and its students to `path`; return what was left out, a line each.

    UserError where nothing could be shown. Entities lie below odom/base_link, each at every moment or cleared there.
    """
    poses, notes, seen = RecordedPoses(recording.transforms), set(), False
    rr.set_strict_mode(True)  # else what it cannot log is a warning
    names = _entity_names(students)
    cameras = list(dict.fromkeys(name for moment in recording.moments for name, _ in camera_messages(moment)))
    stream = rr.RecordingStream(APPLICATION, recording_id=title)
    with stream:
        stream.set_log_tick_enabled(False)
        stream.set_log_time_enabled(False)
        stream.save(path, _blueprint(cameras, students, names))
        _log_what_stays(stream, recording, poses)
        for moment in progress(recording.moments, "write", len(recording.moments), "moments"):
            stream.set_time(TIMELINE, timestamp=np.datetime64(moment.stamp_ns, "ns"))
            stream.log(BASE, _transform(poses.odom_from_base(moment.stamp_ns)))
            seen |= _log_points(stream, moment.messages.get(recording.points), recording.points, poses, notes)
            seen |= _log_cameras(stream, cameras, camera_images(moment, recording, poses, notes), notes)
            seen |= _log_truth(stream, moment)
            for student, name in zip(students, names, strict=True):
                seen |= _log_student(stream, moment.stamp_ns, student, name)
    stream.disconnect()
    if not seen:
        raise UserError(f"{title}: nothing to see; {'; '.join(sorted(notes)) or 'the messages are empty'}")
    return sorted(notes)


def _entity_names(students: Sequence[ViewedStudent]) -> list[str]:
    """Name an entity for each student; of two students of one name, the second one is "student 2"."""
    seen: Counter[str] = Counter()
    names = []
    for student in students:
        seen[student.name] += 1
        name = student.name if seen[student.name] == 1 else f"{student.name} {seen[student.name]}"
        names.append(rr.escape_entity_path_part(name))
    return names


def _log_what_stays(stream: Any, recording: Recording, poses: RecordedPoses) -> None:
    stream.log("/", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
    ways: dict[str, list[np.ndarray]] = {}
    for moment in recording.moments:
        ways.setdefault(moment.bag, []).append(poses.odom_from_base(moment.stamp_ns)[:3, 3])
    stream.log(f"{ODOM}/trajectory", rr.LineStrips3D(list(ways.values()), labels=list(ways)), static=True)


def _log_points(stream: Any, message: object, topic: str, poses: RecordedPoses, notes: set[str]) -> bool:
    """Log a cloud, coloured by height; like the others here, return whether there is something to see."""
    points = shown_points(message, topic, poses, notes)
    if points is None:
        stream.log(f"{BASE}/points", rr.Clear(recursive=False))
        return False
    low, high = HEIGHTS_M
    colours = colormaps["viridis"](np.clip((points[:, 2] - low) / (high - low), 0, 1))[:, :3]
    stream.log(f"{BASE}/points", rr.Points3D(points, colors=np.rint(255 * colours).astype(np.uint8)))
    return len(points) > 0


def _log_cameras(stream: Any, names: Sequence[str], images: Sequence[PlacedImage], notes: set[str]) -> bool:
    """Log images, and clear what cameras of `names` showed before that show nothing now."""
    logged = set()
    for camera in images:
        try:
            _log_camera(stream, camera)
            logged.add(camera.name)
        except ImageError as error:
            notes.add(left_out(camera.name, error))
    for name in names:
        if name not in logged:
            stream.log(_camera_place(name), rr.Clear(recursive=False))
    return bool(logged)


def _log_camera(stream: Any, camera: PlacedImage) -> None:
    """Log an image, and where it was taken as far as that is known. ImageError where it cannot be read."""
    if getattr(camera.message, "format", "").split(";")[0].strip() in AS_THEY_ARE:
        camera.stored.read(8)  # says what is wrong with a damaged one
        content = bytes(camera.message.data)
        image = rr.EncodedImage(contents=content, media_type="image/png" if content.startswith(PNG) else "image/jpeg")
    else:
        image = rr.Image(camera.stored.read(1)).compress(jpeg_quality=QUALITY)
    place = _camera_place(camera.name)
    if camera.intrinsics is not None and camera.base_from_camera is not None:
        pinhole = rr.Pinhole(
            image_from_camera=camera.intrinsics,
            resolution=camera.stored.size,
            camera_xyz=rr.ViewCoordinates.RDF,
            image_plane_distance=IMAGE_PLANE_M,
        )
        stream.log(place, _transform(camera.base_from_camera), pinhole)
    stream.log(place, image)


def _camera_place(name: str) -> str:
    return f"{BASE}/cameras/{rr.escape_entity_path_part(name)}"


def _log_truth(stream: Any, moment: Moment) -> bool:
    place, messages = f"{BASE}/{TRUTH}", moment.messages
    truth = read_boxes(messages[GROUND_TRUTH])[0] if GROUND_TRUTH in messages else None
    if truth is None:
        stream.log(place, rr.Clear(recursive=True))
    else:
        names = [DETECTION_CLASSES[label] for label in truth.labels]
        colours = np.tile(np.array(TRUE_COLOUR, np.uint8), (len(truth), 1))
        _log_boxes(stream, place, truth, names, colours, fill_mode="majorwireframe", show_labels=False)
    grids = [messages[topic] for name in MAP_CLASSES if (topic := f"{GROUND_TRUTH}/map/{name}") in messages]
    complete = len(grids) == len(MAP_CLASSES)
    _log_map(stream, place, *(read_map(grids) if complete else (None, None)))
    return bool(truth) or complete


def _log_student(stream: Any, stamp_ns: int, student: ViewedStudent, name: str) -> bool:
    place, prediction = f"{BASE}/{name}", student.predictions.get(stamp_ns)
    if stamp_ns in student.latency_ms:
        stream.log(f"latency/{name}", rr.Scalars(student.latency_ms[stamp_ns]))
    if prediction is None:
        stream.log(place, rr.Clear(recursive=True))
        return False
    thresholds = np.full(len(DETECTION_CLASSES), SHOWN_SCORE) if student.thresholds is None else student.thresholds
    shown = prediction.scores >= thresholds[prediction.boxes.labels]
    boxes = Boxes(prediction.boxes.values[shown], prediction.boxes.labels[shown])
    classes = [DETECTION_CLASSES[label] for label in boxes.labels]
    labels = [f"{kind} {score:.2f}" for kind, score in zip(classes, prediction.scores[shown], strict=True)]
    colours = np.array([DETECTION_COLOURS[kind] for kind in classes], np.uint8).reshape(-1, 3)
    _log_boxes(stream, place, boxes, labels, colours)
    _log_map(stream, place, prediction.map_probabilities, prediction.map_grid)
    return len(boxes) > 0 or prediction.map_probabilities is not None


def _log_boxes(stream: Any, place: str, boxes: Boxes, labels: list[str], colours: np.ndarray, **look: Any) -> None:
    """Log boxes, and an arrow for the way of one second of each whose velocity is known.

    colours: uint8 (M, 3). look: how Boxes3D draws them.
    """
    centres, sizes, yaw, velocities = np.split(boxes.values, [3, 6, 7], axis=1)
    halves = yaw[:, 0] / 2
    quaternions = np.column_stack([np.zeros((len(boxes), 2)), np.sin(halves), np.cos(halves)])
    stream.log(
        f"{place}/boxes",
        rr.Boxes3D(centers=centres, sizes=sizes, quaternions=quaternions, labels=labels, colors=colours, **look),
    )
    known = np.isfinite(velocities).all(axis=1)
    stream.log(
        f"{place}/velocities",
        rr.Arrows3D(origins=centres[known], vectors=np.pad(velocities[known], ((0, 0), (0, 1))), colors=colours[known]),
    )


def _log_map(stream: Any, place: str, probabilities: np.ndarray | None, grid: BevGrid | None) -> None:
    """Lay a map (classes, Y, X) on the road; cells of no class are transparent."""
    if probabilities is None or grid is None:
        stream.log(f"{place}/map", rr.Clear(recursive=False))
        return
    colours = np.array([(0, 0, 0, 0), *((*MAP_COLOURS[name], 255) for name in MAP_CLASSES)], np.uint8)
    picture = colours[map_labels(probabilities)[::-1]]  # of a picture, the first row is the upper one
    stream.log(
        f"{place}/map",
        rr.GridMap(
            data=picture.tobytes(),
            format=rr.components.ImageFormat(
                width=picture.shape[1], height=picture.shape[0], color_model="RGBA", channel_datatype="U8"
            ),
            cell_size=grid.cell,
            translation=(grid.x_min, grid.y_min, MAP_HEIGHT_M),
            opacity=MAP_OPACITY,
        ),
    )


def _transform(parent_from_child: np.ndarray) -> Any:
    return rr.Transform3D(translation=parent_from_child[:3, 3], mat3x3=parent_from_child[:3, :3])


def _blueprint(cameras: Sequence[str], students: Sequence[ViewedStudent], names: Sequence[str]) -> Any:
    """Arrange a 3D view a student, with true boxes in each, over latencies, beside the cameras."""
    eye = rrb.EyeControls3D(position=EYE, look_target=LOOKS_AT, eye_up=(0.0, 0.0, 1.0))
    hidden = [f"- /{BASE}/{name}/**" for name in names]
    scenes = [
        rrb.Spatial3DView(
            name=student.name,
            origin=f"/{BASE}",
            contents=[f"+ /{ODOM}/**", f"- /{BASE}/{TRUTH}/map", *hidden[:i], *hidden[i + 1 :]],
            eye_controls=eye,
        )
        for i, student in enumerate(students)
    ] or [rrb.Spatial3DView(name="recorded", origin=f"/{BASE}", contents=f"/{ODOM}/**", eye_controls=eye)]
    left = [rrb.Horizontal(*scenes)]
    if any(student.latency_ms for student in students):
        left.append(rrb.TimeSeriesView(name="latency [ms]", origin="/latency"))
    images = [
        rrb.Spatial2DView(
            name=name,
            origin=f"/{_camera_place(name)}",
            contents=["+ $origin/**", *(f"+ /{BASE}/{place}/boxes" for place in (TRUTH, *names[:1]))],
        )
        for name in cameras
    ]
    shares = [4, 1][: len(left)]
    views = [rrb.Vertical(*left, row_shares=shares)]
    if images:
        views.append(rrb.Grid(*images, grid_columns=1 if len(images) < 4 else 2))
    return rrb.Blueprint(rrb.Horizontal(*views, column_shares=[3, 2][: len(views)]), collapse_panels=True)
