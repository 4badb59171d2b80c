"""Assembly of point clouds and transforms to the Frames of a LiDAR student. Knows no node: a bag will do."""

from dataclasses import dataclass
from typing import Any

from vexkd_model.config.lidar import LidarConfig
from vexkd_model.data.sweeps import accumulate_sweeps
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_model.types import Frame
from vexkd_ros.inputs.assembly import AssembledFrame, InputSettings
from vexkd_ros.inputs.errors import Reason
from vexkd_ros.inputs.pointcloud import Cloud, read_cloud
from vexkd_ros.inputs.sweeps import RawSweep, SweepBuffer, place_sweeps
from vexkd_ros.inputs.transforms import TransformBuffer


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
