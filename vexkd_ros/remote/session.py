"""Session with other nodes over DDS: finds them and calls their services, with errors of one line."""

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor

from vexkd_model.errors import UserError, did_you_mean

STEP_S = 0.05
QUIET_S = 1.0  # without news, after which all that is there is taken as known


class Session:
    """Node of this process, with a context of its own, that waits `timeout_s` for others and for their answers."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self.node = rclpy.create_node(
            f"vexkd_ros_{os.getpid()}", context=self._context, start_parameter_services=False, enable_rosout=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def spin(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        """Receive for so long, or until something is true; return whether it is."""
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=STEP_S)
        return bool(until())

    def settle(self, look: Callable[[], object]) -> None:
        """Receive until something is seen and stays as it is for a while, at most `timeout_s`."""
        end, before = time.monotonic() + self.timeout_s, None
        while time.monotonic() < end:
            self.spin(QUIET_S)
            now = look()
            if now and now == before:
                return
            before = now

    def find(self, name: str) -> str:
        """Return the full name of a node; UserError, with those that are there, where it does not appear."""
        full = "/" + name.lstrip("/")
        if not self.spin(self.timeout_s, until=lambda: full in self.nodes()):
            there = sorted(self.nodes())
            others = f"there are {', '.join(there)}" if there else "there is none; ROS_DOMAIN_ID is that of the node?"
            raise UserError(f"{full}: no such node within {self.timeout_s:g} s; {others}{did_you_mean(full, there)}")
        return full

    def nodes(self) -> set[str]:
        """Full names of all other nodes that are known so far."""
        pairs = self.node.get_node_names_and_namespaces()
        return {f"{space.rstrip('/')}/{name}" for name, space in pairs if name != self.node.get_name()}

    def call(self, kind: Any, service: str, request: Any, timeout_s: float | None = None) -> Any:
        """Return a service's answer; UserError where it is not there or does not answer in time."""
        timeout_s = timeout_s or self.timeout_s
        client = self.node.create_client(kind, service)
        try:
            if not self.spin(timeout_s, until=client.service_is_ready):
                raise UserError(f"{service}: no such service within {timeout_s:g} s; the node offers none of this kind")
            future = client.call_async(request)
            if not self.spin(timeout_s, until=future.done):
                raise UserError(f"{service}: no answer within {timeout_s:g} s; the node is busy, or --timeout is short")
            return future.result()
        finally:
            self.node.destroy_client(client)
