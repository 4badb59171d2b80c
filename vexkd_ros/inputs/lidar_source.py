"""Point clouds of the topic `points` → Frames of a LiDAR student."""

import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.time import Time
from sensor_msgs.msg import PointCloud2

from vexkd_model.config.lidar import LidarConfig
from vexkd_model.data.sweeps import accumulate_sweeps
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_model.types import Frame
from vexkd_ros.health.endpoints import subscription_events
from vexkd_ros.health.node_health import REPLACED
from vexkd_ros.health.offers import Asked
from vexkd_ros.health.reporter import Reporter
from vexkd_ros.inputs.moment import Moment
from vexkd_ros.inputs.newest import Newest
from vexkd_ros.inputs.pointcloud import Cloud, CloudError, read_cloud
from vexkd_ros.inputs.sweeps import RawSweep, SweepBuffer, place_sweeps
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.student_parameters import POINTS, StudentParameters

DEPTH = 10


class LidarSource:
    """Reception stores every sweep as long as an output is wanted; `take` gives the newest that waits and those before.

    inputs: name of each input → its topic and what is asked of it.
    """

    def __init__(self, node: LifecycleNode, parameters: StudentParameters, transforms: TransformBuffer,
                 reporter: Reporter, monitor: SensorMonitor | None, wanted: Callable[[], bool],
                 config: LidarConfig) -> None:
        self._node, self._parameters, self._transforms, self._reporter = node, parameters, transforms, reporter
        self._monitor, self._wanted = monitor, wanted
        self._sweeps = SweepBuffer(config.sweeps, round(parameters.max_sweep_gap * 1e9), config.sweep_interval)
        self._newest: Newest[Moment] = Newest()
        reliability = ReliabilityPolicy[parameters.input_reliability.upper()]
        self._subscription = node.create_subscription(
            PointCloud2, POINTS, self._on_points, QoSProfile(depth=DEPTH, reliability=reliability),
            event_callbacks=subscription_events(node.resolve_topic_name(POINTS), reporter.degrade))
        asked = Asked("sensor_msgs/msg/PointCloud2", reliability == ReliabilityPolicy.RELIABLE)
        self.inputs = {POINTS: (self._subscription.topic_name, asked)}

    def take(self) -> Moment | None:
        """Wait for a sweep; None once this is stopped."""
        return self._newest.take()

    def frame(self, moment: Moment) -> tuple[Frame, dict[str, int]]:
        """The student's input, and how many sweeps are in it. Raises TransformUnavailable."""
        parameters = self._parameters
        placed = place_sweeps(moment.sensed, self._transforms, parameters.base_frame, parameters.odom_frame,
                              deadline=time.monotonic() + parameters.tf_timeout)
        if placed.reason:
            self._reporter.degrade(placed.reason)
        if self._monitor:
            self._monitor.see_cloud(placed.sweeps[0])
        return Frame(accumulate_sweeps(placed.sweeps), moment.stamp.nanoseconds), {"sweeps": len(placed.sweeps)}

    def stop(self) -> None:
        """No more input; `take` returns."""
        self._node.destroy_subscription(self._subscription)
        self._newest.close()

    def close(self) -> None:
        """After the last `frame`."""

    def _on_points(self, message: PointCloud2) -> None:
        received = time.monotonic()
        stamp = Time.from_msg(message.header.stamp)
        self._reporter.received(POINTS, stamp)
        if not self._wanted():
            self._reporter.health.idle()
            return
        try:
            cloud = read_cloud(message)
        except CloudError as error:
            self._reporter.drop(error.kind, str(error))
            return
        self._report_poor(cloud)
        history, reason = self._sweeps.add(RawSweep(cloud.points, stamp.nanoseconds, message.header.frame_id))
        if reason:
            self._reporter.degrade(reason)
        if self._newest.give(Moment(stamp, received, time.monotonic() - received, history)):
            self._reporter.health.dropped(REPLACED)

    def _report_poor(self, cloud: Cloud) -> None:
        self._reporter.health.points_removed(cloud.removed)
        if not len(cloud.points):
            nothing = "the cloud has no point with finite numbers" if cloud.removed else "the cloud has no points"
            self._reporter.degrade(nothing)
        elif not cloud.has_intensity:
            self._reporter.degrade("the cloud has no field intensity, zero is used; the student was trained with it")
