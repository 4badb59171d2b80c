"""Times of each frame under the names that Autoware's nodes give them, for its tools and plots."""

import time
from collections.abc import Callable
from importlib import import_module

from builtin_interfaces.msg import Time
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from std_msgs.msg import Float64

from vexkd_ros.health.endpoints import no_publisher_events
from vexkd_ros.health.latency import Latency

DEPTH = 10


class DebugTimes:
    """Lifecycle publishers of times [ms], each only where somebody subscribes.

    debug/cyclic_time_ms: since the frame before this one was published, by the steady clock; absent for the first.
    debug/pipeline_latency_ms: node clock now − input stamp.
    debug/processing_time/: preprocess (message → Frame), inference (Frame → Prediction, with voxels and decoding),
    postprocess (Prediction → messages), total (their sum; waiting is not in it).

    autoware_internal_debug_msgs/Float64Stamped with the input's stamp where that package is, else std_msgs/Float64.
    """

    def __init__(self, node: LifecycleNode, clock: Callable[[], float] = time.monotonic) -> None:
        self._node, self._clock = node, clock
        self._stamped = _float64_stamped()
        self._published_at: float | None = None
        self._publishers: dict[str, LifecyclePublisher] = {
            name: node.create_lifecycle_publisher(
                self._stamped or Float64, f"~/debug/{name}_ms", DEPTH, event_callbacks=no_publisher_events()
            )
            for name in (
                "cyclic_time",
                "pipeline_latency",
                "processing_time/preprocess",
                "processing_time/inference",
                "processing_time/postprocess",
                "processing_time/total",
            )
        }

    def publish(self, latency: Latency, age_ms: float, stamp: Time) -> None:
        """Publish the times of one frame."""
        before, self._published_at = self._published_at, self._clock()
        values = {
            "pipeline_latency": age_ms,
            "processing_time/preprocess": latency.convert,
            "processing_time/inference": latency.infer,
            "processing_time/postprocess": latency.publish,
            "processing_time/total": latency.convert + latency.infer + latency.publish,
        }
        if before is not None:
            values["cyclic_time"] = (self._published_at - before) * 1e3
        for name, value in values.items():
            publisher = self._publishers[name]
            if publisher.get_subscription_count():
                data = float(value)  # rclpy reads the memory of any other number as if it were one
                publisher.publish(self._stamped(stamp=stamp, data=data) if self._stamped else Float64(data=data))

    def wanted(self) -> bool:
        """Return whether somebody subscribes to a time."""
        return any(publisher.get_subscription_count() for publisher in self._publishers.values())

    def destroy(self) -> None:
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)


def _float64_stamped() -> type | None:
    try:
        return import_module("autoware_internal_debug_msgs.msg").Float64Stamped
    except ImportError:
        return None
