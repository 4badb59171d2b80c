"""The student on a vehicle: one lifecycle node that turns point clouds into detections and a bird's-eye-view map."""

import argparse
import gc
import signal
import sys
import threading
import time
import traceback
from functools import partial
from typing import NamedTuple

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidParameterTypeException, ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vexkd_model.data.sweeps import accumulate_sweeps
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.process import set_up_process
from vexkd_model.types import Frame
from vexkd_ros.inputs.newest import Newest
from vexkd_ros.inputs.pointcloud import Cloud, CloudError, read_cloud
from vexkd_ros.inputs.sweeps import RawSweep, SweepBuffer, place_sweeps
from vexkd_ros.inputs.transforms import TransformBuffer, TransformUnavailable
from vexkd_ros.outputs.diagnostics import REPLACED, Health, Latency, latency_message
from vexkd_ros.outputs.publishers import Publishers
from vexkd_ros.student_parameters import LIVE, StudentParameters, declare_parameters, read_parameters

POINTS_DEPTH = 10
TF_DEPTH = 100
STOP_SIGNALS = {signal.SIGINT, signal.SIGTERM}


class Input(NamedTuple):
    """A cloud on its way to the student. history: this sweep and those before it, newest first.

    received: time.monotonic() at reception. read_s: what reading the message took.
    """

    history: tuple[RawSweep, ...]
    stamp: Time
    received: float
    read_s: float


class StudentNode(LifecycleNode):
    """Reception stores every sweep; a worker thread runs the student on the newest one that waits, never on a queue."""

    def __init__(self) -> None:
        super().__init__("student_node")
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._label = self.get_fully_qualified_name().lstrip("/")
        self._health = Health()
        self._transforms = TransformBuffer()
        self._settings: StudentParameters | None = None  # None while unconfigured
        self._predictor: Predictor | None = None
        self._outputs: Publishers | None = None
        self._transform_subscriptions: list = []
        self._points_subscription = None
        self._inputs: Newest[Input] = Newest()
        self._worker: threading.Thread | None = None
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # --- Lifecycle ------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            parameters = read_parameters(self)
            if parameters.threads:
                torch.set_num_threads(parameters.threads)
            predictor = Predictor.load(parameters.model, parameters.device)
            if predictor.config.camera is not None:
                raise UserError(f"{parameters.model}: reads cameras; this node takes LiDAR students only")
            predictor.warm_up()
        except Exception as error:  # all of them: rclpy swallows silently what a callback raises
            problem = _one_line(error)
            if not isinstance(error, UserError):
                problem = f"the student cannot be loaded, {type(error).__name__}: {problem}"
            self._health.cannot_configure(problem)
            self.get_logger().error(problem)
            return TransitionCallbackReturn.FAILURE
        self._settings, self._predictor, self._outputs = parameters, predictor, Publishers(self, predictor.config)
        self._subscribe_transforms()
        # What is loaded stays: a collection between frames would otherwise walk all of PyTorch, for 150 ms.
        gc.collect()
        gc.freeze()
        self.get_logger().info(f"{parameters.model}: loaded on {predictor.device}, takes {predictor.sweeps} sweeps")
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        self._health.activated()
        self._sweeps = SweepBuffer(self._predictor.sweeps, round(self._settings.max_sweep_gap * 1e9))
        self._inputs = Newest()
        self._worker = threading.Thread(target=self._work, args=(self._inputs,), name="student")
        self._worker.start()
        reliability = ReliabilityPolicy[self._settings.input_reliability.upper()]
        self._points_subscription = self.create_subscription(
            PointCloud2, "points", self._on_points, QoSProfile(depth=POINTS_DEPTH, reliability=reliability))
        self.get_logger().info(f"active, waiting for point clouds on {self._points_subscription.topic_name}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        self._release()
        return super().on_shutdown(state)

    def _stop(self) -> None:
        """No more input, and no frame on its way; at most one inference long."""
        if self._points_subscription:
            self.destroy_subscription(self._points_subscription)
            self._points_subscription = None
        self._inputs.close()
        if self._worker:
            self._worker.join()
            self._worker = None

    def _release(self) -> None:
        """Give back what on_configure took."""
        for subscription in self._transform_subscriptions:
            self.destroy_subscription(subscription)
        self._transform_subscriptions = []
        self._transforms.clear()
        if self._outputs:
            self._outputs.destroy()
        self._settings = self._predictor = self._outputs = None
        gc.unfreeze()

    @property
    def lifecycle_state(self) -> str:
        """unconfigured, inactive, active or finalized."""
        return self._state_machine.current_state[1]  # rclpy has no public name for it

    def _check_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        fixed = [parameter.name for parameter in changed
                 if self._settings and parameter.name in StudentParameters.__dataclass_fields__
                 and parameter.name not in LIVE]
        reason = f"{', '.join(fixed)}: deactivate and clean up the node before changing it" if fixed else ""
        return SetParametersResult(successful=not fixed, reason=reason)

    # --- Reception: everything here is quick ------------------------------------------------------------------------

    def _subscribe_transforms(self) -> None:
        latched = QoSProfile(depth=TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._transform_subscriptions = [
            self.create_subscription(TFMessage, "/tf", partial(self._on_transforms, static=False), TF_DEPTH),
            self.create_subscription(TFMessage, "/tf_static", partial(self._on_transforms, static=True), latched),
        ]

    def _on_transforms(self, message: TFMessage, static: bool) -> None:
        for problem in self._transforms.insert_message(message, static):
            self._degrade(problem)

    def _on_points(self, message: PointCloud2) -> None:
        received = time.monotonic()
        stamp = Time.from_msg(message.header.stamp)
        self._health.input_received(age_s=(self.get_clock().now().nanoseconds - stamp.nanoseconds) * 1e-9)
        try:
            cloud = read_cloud(message)
        except CloudError as error:
            self._drop(error.kind, str(error))
            return
        self._report_poor(cloud)
        history, reason = self._sweeps.add(RawSweep(cloud.points, stamp.nanoseconds, message.header.frame_id))
        if reason:
            self._degrade(reason)
        if self._inputs.give(Input(history, stamp, received, time.monotonic() - received)):
            self._health.dropped(REPLACED)

    def _report_poor(self, cloud: Cloud) -> None:
        self._health.points_removed(cloud.removed)
        if not len(cloud.points):
            self._degrade("the cloud has no point with finite numbers" if cloud.removed else "the cloud has no points")
        elif not cloud.has_intensity:
            self._degrade("the cloud has no field intensity, zero is used; the student was trained with it")

    # --- Worker: one frame at a time --------------------------------------------------------------------------------

    def _work(self, inputs: Newest[Input]) -> None:
        while (item := inputs.take()) is not None:
            try:
                self._process(item)
            except TransformUnavailable as error:
                self._drop(error.kind, str(error))
            except Exception as error:  # one frame that fails must not silence the node
                self._drop(f"the frame failed with {type(error).__name__}; see the log", traceback.format_exc())

    def _process(self, item: Input) -> None:
        parameters = self._settings
        placed = place_sweeps(item.history, self._transforms, parameters.base_frame, parameters.odom_frame,
                              deadline=time.monotonic() + parameters.tf_timeout)
        if placed.reason:
            self._degrade(placed.reason)
        begun = time.monotonic()
        frame = Frame(accumulate_sweeps(placed.sweeps), item.stamp.nanoseconds)
        converted = time.monotonic()
        prediction = self._predictor.predict(frame)
        inferred = time.monotonic()
        header = Header(stamp=item.stamp.to_msg(), frame_id=parameters.base_frame)
        self._outputs.publish(prediction.scoring(self.get_parameter("score_threshold").value), header)
        latency = Latency(
            wait=(begun - item.received - item.read_s) * 1e3, convert=(converted - begun + item.read_s) * 1e3,
            infer=(inferred - converted) * 1e3, publish=(time.monotonic() - inferred) * 1e3)
        self._health.frame_published(latency)
        age_ms = (self.get_clock().now().nanoseconds - item.stamp.nanoseconds) * 1e-6
        self._outputs.publish_latency(latency_message(latency, age_ms, len(placed.sweeps), header, self._label))

    # --- What the node says of itself -------------------------------------------------------------------------------

    def _drop(self, reason: str, detail: str) -> None:
        if self._health.dropped(reason):
            self.get_logger().error(f"cloud dropped: {detail}")

    def _degrade(self, reason: str) -> None:
        if self._health.degraded(reason):
            self.get_logger().warning(reason)

    def _publish_diagnostics(self) -> None:
        status = self._health.status(
            state=self.lifecycle_state,
            model=self._settings.model if self._settings else "none",
            device=str(self._predictor.device) if self._predictor else "none",
            permitted_latency_ms=self._settings.permitted_latency * 1e3 if self._settings else None)
        status.name = f"{self._label}: student"
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=[status]))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def main(args: list[str] | None = None) -> int:
    """Exit code: 0 after SIGINT or SIGTERM, 1 where the node cannot start (the reason is one line), 2 for wrong use."""
    # Threads inherit the mask: signals wait for sigtimedwait below, however busy or nested the code is just then.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    set_up_process()
    args = sys.argv if args is None else args
    parser = argparse.ArgumentParser(
        prog="student_node", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  student_node --ros-args -p model:=models/lidar_pillar_small -r points:=/lidar/points")
    try:
        parser.parse_args(remove_ros_args(args)[1:])
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = StudentNode()
    except InvalidParameterTypeException as error:
        return _refuse(f"{_one_line(error)}; a number with a fraction is written 1.0")
    except ParameterException as error:
        return _refuse(_one_line(error))
    except RuntimeError as error:
        return _refuse(f"--ros-args: {_one_line(error)}")
    try:
        if node.get_parameter("autostart").value and not _start(node):
            return 1
        return _spin(node)
    finally:
        if node.lifecycle_state != "finalized":
            node.trigger_shutdown()
        node.destroy_node()
        rclpy.shutdown()


def _refuse(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 1


def _start(node: StudentNode) -> bool:
    return all(transition() == TransitionCallbackReturn.SUCCESS
               for transition in (node.trigger_configure, node.trigger_activate))


def _spin(node: StudentNode) -> int:
    """Receive in a thread of its own until a signal comes, or a defect ends it."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    receiver = threading.Thread(target=executor.spin, name="receiver")
    receiver.start()
    stopped = None
    while receiver.is_alive() and not stopped:
        stopped = signal.sigtimedwait(STOP_SIGNALS, 0.2)
    executor.shutdown()
    receiver.join()
    return 0 if stopped else 1


if __name__ == "__main__":
    sys.exit(main())
