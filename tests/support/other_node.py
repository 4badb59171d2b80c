"""Node of the test's own process, beside a node that is tested in another one."""

import time
from collections.abc import Callable

import rclpy
from rclpy.executors import SingleThreadedExecutor

TIMEOUT_S = 60.0


class OtherNode:
    """Node with a context and an executor of its own, which spins only while something is waited for."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("around", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)
