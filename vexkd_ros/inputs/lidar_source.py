"""Subscription of the topic `points` for a LiDAR student."""

import time
from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2

from vexkd_model.config.lidar import LidarConfig
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_ros.health.endpoints import subscription_events
from vexkd_ros.health.node_health import REPLACED
from vexkd_ros.health.qos_match import QosRequest
from vexkd_ros.health.reporter import Reporter
from vexkd_ros.inputs.assembly import AssembledFrame
from vexkd_ros.inputs.latest_slot import LatestSlot, PendingInput
from vexkd_ros.inputs.lidar_assembler import LidarAssembler, LidarPayload
from vexkd_ros.inputs.reception import stamp_ns, subscribe
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.student_parameters import POINTS, StudentParameters

DEPTH = 10


class LidarSource:
    """Hands every cloud to the assembler as long as an output is wanted; `get` returns the newest that waits.

    inputs: name of each input → its topic and the quality of service that is requested of it.
    """

    def __init__(
        self,
        node: LifecycleNode,
        parameters: StudentParameters,
        transforms: TransformBuffer,
        reporter: Reporter,
        monitor: SensorMonitor | None,
        wanted: Callable[[], bool],
        config: LidarConfig,
    ) -> None:
        self._node, self._reporter, self._wanted = node, reporter, wanted
        self._tf_timeout = parameters.tf_timeout
        self._assembler = LidarAssembler(config, parameters.input_settings(), transforms, monitor)
        self._slot: LatestSlot[PendingInput[LidarPayload]] = LatestSlot()
        reliability = ReliabilityPolicy[parameters.input_reliability.upper()]
        self._subscription = subscribe(
            node,
            PointCloud2,
            POINTS,
            self._on_points,
            reporter.drop,
            QoSProfile(depth=DEPTH, reliability=reliability),
            subscription_events(node.resolve_topic_name(POINTS), reporter.degrade),
        )
        request = QosRequest("sensor_msgs/msg/PointCloud2", reliability == ReliabilityPolicy.RELIABLE)
        self.inputs = {POINTS: (self._subscription.topic_name, request)}

    def get(self) -> PendingInput[LidarPayload] | None:
        """Wait for a sweep; None once this is stopped."""
        return self._slot.get()

    def frame(self, pending: PendingInput[LidarPayload]) -> AssembledFrame:
        """Make the student's input. Raises TransformUnavailable."""
        return self._assembler.frame(pending.payload, time.monotonic() + self._tf_timeout)

    def stop(self) -> None:
        """End the subscription; a waiting `get` returns None."""
        self._node.destroy_subscription(self._subscription)
        self._slot.close()

    def close(self) -> None:
        """Free what `frame` needs: nothing."""

    def _on_points(self, message: PointCloud2) -> None:
        received = time.monotonic()
        stamp = stamp_ns(message.header.stamp)
        self._reporter.received(POINTS, stamp)
        if not self._wanted():
            self._reporter.health.idle()
            return
        payload = self._assembler.add(message, stamp)
        self._reporter.health.points_removed(payload.removed)
        for reason in payload.reasons:
            self._reporter.degrade(*reason)
        if self._slot.put(PendingInput(stamp, received, time.monotonic() - received, payload)):
            self._reporter.health.dropped(REPLACED)
