"""Reporter of problems: counts them for /diagnostics and logs each now and then."""

from rclpy.node import Node

from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_ros.health.node_health import NodeHealth


class Reporter:
    """Reporter to a node's health and its log; thread-safe."""

    def __init__(self, node: Node) -> None:
        self.health = NodeHealth()
        self._node = node

    def received(self, name: str, stamp_ns: int) -> None:
        """Count a message of the input `name`."""
        age_s = (self._node.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        self.health.input_received(age_s, name)

    def drop(self, kind: str, text: str) -> None:
        """Count and log an input that led to no output. text: the same with its numbers."""
        if self.health.dropped(kind, text):
            self._node.get_logger().error(f"input dropped: {text}")

    def report_mismatches(self, monitor: SensorMonitor) -> None:
        """Pass on how the sensors differ from those of the training; each difference is logged once."""
        for mismatch in self.health.sensors_compared(monitor.mismatches):
            self._node.get_logger().warning(f"{mismatch.sensor}: {mismatch.text}")

    def degrade(self, kind: str, text: str = "") -> None:
        """Count and log an output made from less than it should be. text: the same with its numbers."""
        if self.health.degraded(kind, text):
            self._node.get_logger().warning(text or kind)
