"""Reporter of problems: counts them for /diagnostics and logs each now and then."""

from rclpy.node import Node
from rclpy.time import Time

from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_ros.health.node_health import NodeHealth


class Reporter:
    """Reporter to a node's health and its log; thread-safe."""

    def __init__(self, node: Node) -> None:
        self.health = NodeHealth()
        self._node = node

    def received(self, name: str, stamp: Time) -> None:
        """Count a message of the input `name`."""
        age_s = (self._node.get_clock().now().nanoseconds - stamp.nanoseconds) * 1e-9
        self.health.input_received(age_s, name)

    def drop(self, reason: str, detail: str) -> None:
        """Count and log an input that led to no output."""
        if self.health.dropped(reason):
            self._node.get_logger().error(f"input dropped: {detail}")

    def report_mismatches(self, monitor: SensorMonitor) -> None:
        """Pass on how the sensors differ from those of the training; each difference is logged once."""
        for mismatch in self.health.sensors_compared(monitor.mismatches):
            self._node.get_logger().warning(f"{mismatch.sensor}: {mismatch.text}")

    def degrade(self, reason: str) -> None:
        """Count and log an output made from less than it should be."""
        if self.health.degraded(reason):
            self._node.get_logger().warning(reason)
