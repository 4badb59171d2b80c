"""Assembly of point clouds and transforms to the Frames of a LiDAR student. Knows no node: a bag will do.

Sweeps are kept as they come, in the sensor's frame, and placed in the vehicle's when a Frame is made.
"""

from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vexkd_model.config.lidar import LidarConfig
from vexkd_model.data.sweeps import Sweep, accumulate_sweeps, spaced, without_own_roof
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_model.types import Frame
from vexkd_ros.inputs.assembly import AssembledFrame, InputSettings
from vexkd_ros.inputs.errors import Reason, TransformUnavailable
from vexkd_ros.inputs.pointcloud import Cloud, read_cloud
from vexkd_ros.inputs.transforms import TransformBuffer


@dataclass(frozen=True)
class RawSweep:
    """Sweep in its sensor's frame. points: float32 (N, 4) in `frame_id`: x, y, z [m], intensity."""

    points: np.ndarray
    stamp_ns: int
    frame_id: str

    @cached_property
    def older(self) -> np.ndarray:
        """Points as the frames after this one read them, without the own roof; computed once."""
        return without_own_roof(self.points)


class SweepBuffer:
    """Buffer of a frame's sweeps, newest first, as long as they follow one another in time.

    sweeps, interval: as `spaced` takes them.
    """

    def __init__(self, sweeps: int, max_gap_ns: int, interval: float | None = None) -> None:
        self._sweeps, self._max_gap_ns, self._interval = sweeps, max_gap_ns, interval
        self._history: deque[RawSweep] = deque()

    def add(self, sweep: RawSweep) -> tuple[tuple[RawSweep, ...], str]:
        """Return the sweeps of this one's frame, newest first, and why older ones were dropped, or ''."""
        reason = ""
        if self._history:
            gap = sweep.stamp_ns - self._history[0].stamp_ns
            if gap <= 0:
                reason = "time did not advance between clouds: older sweeps dropped: new scene, bad clock?"
            elif gap > self._max_gap_ns:
                reason = "gap between clouds longer than max_sweep_gap: older sweeps dropped; raise it for a slow LiDAR"
            if reason:
                self._history.clear()
        self._history.appendleft(sweep)
        frame = spaced([kept.stamp_ns for kept in self._history], self._sweeps, self._interval)
        chosen = tuple(self._history[i] for i in frame)
        if len(frame) == self._sweeps:
            # Each choice of a later frame is at least as new as the same one here: none is older than the last.
            while self._history[-1] is not chosen[-1]:
                self._history.pop()
        return chosen, reason


@dataclass(frozen=True)
class LidarPayload:
    """Sweeps of one frame, newest first. removed: points of the newest that no ray returned.

    reasons: what is poorer than it should be.
    """

    sweeps: tuple[RawSweep, ...]
    removed: int
    reasons: tuple[Reason, ...]


class LidarAssembler:
    """Assembles Frames; keeps every sweep for those after it. `add` and `frame` may be called from two threads."""

    def __init__(
        self,
        config: LidarConfig,
        settings: InputSettings,
        transforms: TransformBuffer,
        monitor: SensorMonitor | None = None,
    ) -> None:
        self._settings, self._transforms, self._monitor = settings, transforms, monitor
        self._layout_warned = False
        self._sweeps = SweepBuffer(config.sweeps, round(settings.max_sweep_gap * 1e9), config.sweep_interval)

    def add(self, message: Any, stamp_ns: int) -> LidarPayload:
        """Take in a sensor_msgs/PointCloud2 and return the sweeps of its frame. Raises CloudError."""
        cloud = read_cloud(message, self._settings.intensity_field, self._settings.intensity_scale)
        history, gap = self._sweeps.add(RawSweep(cloud.points, stamp_ns, message.header.frame_id))
        layout, self._layout_warned = "" if self._layout_warned else cloud.layout_warning, bool(cloud.layout_warning)
        reasons = tuple(Reason(text, text) for text in (layout, self._poorness(cloud), gap) if text)
        return LidarPayload(history, cloud.removed, reasons)

    def frame(self, payload: LidarPayload, deadline: float) -> AssembledFrame:
        """Make the Frame of the payload's newest sweep.

        Waits until `deadline` (time.monotonic()) for late transforms. Raises TransformUnavailable.
        """
        placed = place_sweeps(
            payload.sweeps, self._transforms, self._settings.base_frame, self._settings.odom_frame, deadline
        )
        if self._monitor:
            self._monitor.see_cloud(placed.sweeps[0])
        frame = Frame(accumulate_sweeps(placed.sweeps), placed.sweeps[0].stamp_ns)
        return AssembledFrame(frame, {"sweeps": len(placed.sweeps)}, (placed.reason,) if placed.reason else ())

    def _poorness(self, cloud: Cloud) -> str:
        if not len(cloud.points):
            return "the cloud has no point with finite numbers" if cloud.removed else "the cloud has no points"
        if not cloud.has_intensity:
            return (
                f"the cloud has no field {self._settings.intensity_field}, zero is used; the student was trained "
                "with intensity: name another field by intensity_field"
            )
        return ""


@dataclass(frozen=True)
class PlacedSweeps:
    """Sweeps for accumulate_sweeps, newest first. reason: why older ones are missing, if they are."""

    sweeps: list[Sweep]
    reason: Reason | None


def place_sweeps(
    history: tuple[RawSweep, ...], transforms: TransformBuffer, base_frame: str, odom_frame: str, deadline: float
) -> PlacedSweeps:
    """Look up where each sweep, newest first, was taken; wait until `deadline` (time.monotonic()) for late transforms.

    Without odometry at the newest stamp only the newest sweep is used; older sweeps whose own transforms are missing
    are left out. Raises TransformUnavailable where the newest sweep's place in `base_frame` is unknown.
    """
    newest, *older = history
    if not newest.frame_id:
        raise TransformUnavailable("the cloud's header has no frame_id; set it in the LiDAR driver")
    base_from_sensor = transforms.wait(base_frame, newest.frame_id, newest.stamp_ns, deadline, for_unknown=True)
    reason = None
    try:
        # One sweep alone needs no odometry, for its own motion cancels: not worth waiting for.
        odom_from_base = transforms.wait(odom_frame, base_frame, newest.stamp_ns, deadline if older else 0.0)
    except TransformUnavailable as error:
        reason = error.reason("only the newest sweep used: {}") if older else None
        older, odom_from_base = [], np.eye(4)
    sweeps = [Sweep(newest.points, newest.stamp_ns, base_from_sensor, odom_from_base)]
    for sweep in older:
        try:
            sweeps.append(
                Sweep(
                    sweep.points,
                    sweep.stamp_ns,
                    transforms.lookup(base_frame, sweep.frame_id, sweep.stamp_ns),
                    transforms.lookup(odom_frame, base_frame, sweep.stamp_ns),
                    sweep.older,
                )
            )
        except TransformUnavailable as error:
            reason = error.reason("some older sweeps not used: {}")
    return PlacedSweeps(sweeps, reason)
