"""Process around a lifecycle node: arguments, start, signals, end."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from vexkd_model.command import make_parser, run_command
from vexkd_model.errors import UserError
from vexkd_model.process import set_up_process
from vexkd_ros.parameter_check import type_hint, warn_of_unused_parameters

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
LOG_EVERY_S = 5.0
PAUSE_S = 0.01  # after a callback that failed: one that always fails does not take a whole core


class StatefulNode(LifecycleNode):
    """Lifecycle node that says its state, for which rclpy has no public name."""

    @property
    def lifecycle_state(self) -> str:
        """Return unconfigured, inactive, active or finalized."""
        return self._state_machine.current_state[1]


def run_lifecycle_node(
    make_node: Callable[[], StatefulNode], name: str, description: str, example: str, args: list[str] | None = None
) -> int:
    """Run the node until SIGINT or SIGTERM and return the exit code; SystemExit where it cannot start.

    The node has a parameter `autostart`.
    """
    with _signals_waiting():
        set_up_process()
        args = sys.argv if args is None else args
        return run_command(make_parser(name, description, example), lambda _: _run(make_node, args), args[1:])


@contextmanager
def _signals_waiting() -> Iterator[None]:
    """Let signals wait for `sigtimedwait` in `_spin`, however busy or nested the code is just then.

    Threads that are begun meanwhile inherit that. A library's thread that was there before may still receive a signal;
    it is sent on to the main thread, where it waits. All of it ends with the block: processes that the caller starts
    later would inherit it, too, and never hear Ctrl-C.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    handlers = {number: signal.signal(number, _send_to_main_thread) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        while signal.sigtimedwait(STOP_SIGNALS, 0):  # a second Ctrl-C: the node has ended already
            pass
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _send_to_main_thread(number: int, _: object) -> None:
    signal.pthread_kill(threading.main_thread().ident or 0, number)


def run_simple_node(
    make_node: Callable[[], Node], name: str, description: str, example: str, args: list[str] | None = None
) -> int:
    """Run a node without a lifecycle until SIGINT or SIGTERM; exit code and errors as of `run_lifecycle_node`."""
    args = sys.argv if args is None else args
    return run_command(make_parser(name, description, example), lambda _: _run_simple(make_node, args), args[1:])


def _run_simple(make_node: Callable[[], Node], args: list[str]) -> int:
    with start_errors(args):
        rclpy.init(args=args)
        node = make_node()
    warn_of_unused_parameters(node, args)
    executor = GuardedExecutor()
    executor.add_node(node)
    try:
        receive(executor, node)
    except KeyboardInterrupt:
        pass
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _run(make_node: Callable[[], StatefulNode], args: list[str]) -> int:
    with start_errors(args):
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make_node()
    warn_of_unused_parameters(node, args)
    try:
        started = not node.get_parameter("autostart").value or _start(node)
        code = _spin(node) if started else 1
    finally:
        if node.lifecycle_state != "finalized":
            node.trigger_shutdown()
        node.destroy_node()
        rclpy.shutdown()
    if threading.active_count() > 1:  # in the middle of a frame; Python would wait for its end
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


@contextmanager
def start_errors(args: list[str]) -> Iterator[None]:
    """Make a UserError of what rclpy raises of wrong arguments and parameters."""
    try:
        remove_ros_args(args)  # rclpy.init would refuse wrong ones, too, but after a line of rcl's own
        yield
    except InvalidParameterTypeException as error:
        raise UserError(_one_line(error) + type_hint(error)) from None
    except ParameterException as error:
        raise UserError(_one_line(error)) from None
    except RuntimeError as error:
        raise UserError(f"--ros-args: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _start(node: LifecycleNode) -> bool:
    return all(
        transition() == TransitionCallbackReturn.SUCCESS
        for transition in (node.trigger_configure, node.trigger_activate)
    )


class GuardedExecutor(SingleThreadedExecutor):
    """Executor that a message or request which cannot be converted does not block.

    rclpy converts what comes on /clock and for the services of a node before it calls back. Where that raises, it
    leaves the callback group occupied for ever, and with it the whole node; it has no public place to prevent that.
    """

    def _take_subscription(self, sub: Any) -> Any:
        return self._taken(super()._take_subscription, sub, f"message on {sub.topic_name}")

    def _take_service(self, srv: Any) -> Any:
        return self._taken(super()._take_service, srv, f"request to {srv.srv_name}")

    def _take_client(self, client: Any) -> Any:
        return self._taken(super()._take_client, client, f"answer of {client.srv_name}")

    def _taken(self, take: Callable[[Any], Any], entity: Any, what: str) -> Any:
        try:
            return take(entity)
        except Exception as error:
            for node in self.get_nodes()[:1]:
                node.get_logger().error(
                    f"a {what} could not be read and is dropped; {_one_line(error)}", throttle_duration_sec=LOG_EVERY_S
                )
            time.sleep(PAUSE_S)
            return None


def receive(executor: SingleThreadedExecutor, node: Node) -> None:
    """Spin until the executor is shut down, whatever a callback raises: rclpy's own are not guarded, as of /clock."""
    while True:
        try:
            return executor.spin()
        except ExternalShutdownException:
            return
        except Exception as error:
            node.get_logger().error(f"a callback failed, the node goes on; {type(error).__name__}: {_one_line(error)}")
            time.sleep(PAUSE_S)


def _spin(node: LifecycleNode) -> int:
    """Receive in a thread of its own until a signal comes."""
    executor = GuardedExecutor()
    executor.add_node(node)
    receiver = threading.Thread(target=receive, args=(executor, node), name="receiver")
    receiver.start()
    stopped = None
    while receiver.is_alive() and not stopped:
        stopped = signal.sigtimedwait(STOP_SIGNALS, 0.2)
    executor.shutdown()
    receiver.join()
    return 0 if stopped else 1
