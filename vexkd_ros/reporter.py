"""What goes wrong with inputs: counted for /diagnostics, and said in the log now and then."""

from rclpy.node import Node
from rclpy.time import Time

from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_ros.outputs.diagnostics import Health


class Reporter:
    """A node's health and its log. Thread-safe."""

    def __init__(self, node: Node) -> None:
        self.health = Health()
        self._node = node

    def received(self, name: str, stamp: Time) -> None:
        """A message of that input, with that stamp, came in."""
        age_s = (self._node.get_clock().now().nanoseconds - stamp.nanoseconds) * 1e-9
        self.health.input_received(age_s, name)

    def drop(self, reason: str, detail: str) -> None:
        """An input led to no output."""
        if self.health.dropped(reason):
            self._node.get_logger().error(f"input dropped: {detail}")

    def sensors(self, monitor: SensorMonitor) -> None:
        """How well the sensors fit the student now; each difference is logged once."""
        for mismatch in self.health.sensor_fit(monitor.mismatches):
            self._node.get_logger().warning(f"{mismatch.sensor}: {mismatch.text}")

    def degrade(self, reason: str) -> None:
        """An output was made from less than it should be."""
        if self.health.degraded(reason):
            self._node.get_logger().warning(reason)
