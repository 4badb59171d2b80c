"""Process around a lifecycle node: arguments, start, signals, end."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.exceptions import InvalidParameterTypeException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from vexkd_model.command import make_parser, run_command
from vexkd_model.errors import UserError
from vexkd_model.process import set_up_process
from vexkd_ros.parameter_check import type_hint, warn_of_unused_parameters

STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}
PAUSE_S = 0.01  # after a callback that failed: one that always fails does not take a whole core


class StatefulNode(LifecycleNode):
    """Lifecycle node that says its state, for which rclpy has no public name."""

    @property
    def lifecycle_state(self) -> str:
        """Return unconfigured, inactive, active or finalized."""
        return self._state_machine.current_state[1]


def run_lifecycle_node(make_node: Callable[[], StatefulNode], name: str, description: str, example: str,
                       args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM and return the exit code; SystemExit where it cannot start.

    The node has a parameter `autostart`.
    """
    # Threads inherit the mask: signals wait for sigtimedwait below, however busy or nested the code is just then.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    set_up_process()
    args = sys.argv if args is None else args
    return run_command(make_parser(name, description, example), lambda _: _run(make_node, args), args[1:])


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
    return all(transition() == TransitionCallbackReturn.SUCCESS
               for transition in (node.trigger_configure, node.trigger_activate))


def _receive(executor: SingleThreadedExecutor, node: LifecycleNode) -> None:
    """Spin until the executor is shut down, whatever a callback raises: rclpy's own are not guarded, as of /clock."""
    while True:
        try:
            return executor.spin()
        except Exception as error:
            node.get_logger().error(f"a callback failed, the node goes on; {type(error).__name__}: {_one_line(error)}")
            time.sleep(PAUSE_S)


def _spin(node: LifecycleNode) -> int:
    """Receive in a thread of its own until a signal comes."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    receiver = threading.Thread(target=_receive, args=(executor, node), name="receiver")
    receiver.start()
    stopped = None
    while receiver.is_alive() and not stopped:
        stopped = signal.sigtimedwait(STOP_SIGNALS, 0.2)
    executor.shutdown()
    receiver.join()
    return 0 if stopped else 1
