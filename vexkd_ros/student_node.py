"""The student on a vehicle: a lifecycle node that turns clouds or images into detections and a bird's-eye-view map."""

import gc
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.subscription import Subscription
from rclpy.time import Time
from std_msgs.msg import Header
from tf2_msgs.msg import TFMessage

from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.process import keep_freed_memory
from vexkd_model.sensor_check.monitor import SensorMonitor
from vexkd_ros.bond import start_bond
from vexkd_ros.health.endpoints import no_publisher_events, subscription_events, tf_elsewhere, why_nothing_comes
from vexkd_ros.health.latency import Latency, latency_message
from vexkd_ros.health.reporter import Reporter
from vexkd_ros.inference import NOTHING, predict
from vexkd_ros.inputs.camera_source import CameraSource
from vexkd_ros.inputs.errors import InputError
from vexkd_ros.inputs.latest_slot import PendingInput
from vexkd_ros.inputs.lidar_source import LidarSource
from vexkd_ros.inputs.reception import subscribe
from vexkd_ros.inputs.transforms import TransformBuffer
from vexkd_ros.node_process import StatefulNode, run_lifecycle_node
from vexkd_ros.outputs.publishers import Publishers, check_outputs
from vexkd_ros.start_summary import start_summary
from vexkd_ros.student_parameters import (
    LIVE,
    StudentParameters,
    check_student,
    declare_parameters,
    least_scores,
    read_parameters,
)

TF_DEPTH = 100
LAST_FRAME_S = 0.5  # that the process, asked to end, waits for a frame
EXAMPLE = "example:\n  vexkd-student-node --ros-args -p model:=models/lidar_distilled -r points:=/lidar/points"


@dataclass(frozen=True)
class Loaded:
    """Student of a configured node, with its parameters and publishers."""

    settings: StudentParameters
    predictor: Predictor
    outputs: Publishers


@dataclass(frozen=True)
class Running:
    """Input of an active node, the thread that works on it, and the bond with the node's manager, if it has one."""

    source: LidarSource | CameraSource
    worker: threading.Thread
    bond: Any | None


class StudentNode(StatefulNode):
    """Node whose reception stores what comes in and whose worker runs the student on the newest, never on a queue."""

    def __init__(self) -> None:
        super().__init__("student_node")
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._check_parameters)
        self._label = self.get_fully_qualified_name().lstrip("/")
        self._reporter = Reporter(self)
        self._transforms = TransformBuffer(hint=partial(tf_elsewhere, self))
        self._transform_subscriptions: list[Subscription] = []
        self._loaded: Loaded | None = None  # None while unconfigured
        self._running: Running | None = None  # None while inactive
        self._diagnostics = self.create_publisher(
            DiagnosticArray, "/diagnostics", 10, event_callbacks=no_publisher_events()
        )
        self.create_timer(1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # --- Lifecycle ------------------------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            parameters = read_parameters(self)
            if parameters.threads:
                torch.set_num_threads(parameters.threads)
            predictor = Predictor.load(parameters.model, parameters.device, parameters.precision, parameters.runtime)
            parameters = check_student(parameters, predictor.config)
            check_outputs(parameters.outputs)
            predictor.warm_up()
            outputs = Publishers(self, predictor.config, self._reporter.degrade)
        except Exception as error:  # all of them: rclpy swallows silently what a callback raises
            problem = " ".join(str(error).split())
            if not isinstance(error, UserError):
                problem = f"the student cannot be loaded, {type(error).__name__}: {problem}"
            self._reporter.health.cannot_configure(problem)
            self.get_logger().error(problem)
            return TransitionCallbackReturn.FAILURE
        self._loaded = Loaded(parameters, predictor, outputs)
        self._subscribe_transforms()
        # What is loaded stays: a collection between frames would otherwise walk all of PyTorch, for 150 ms.
        gc.collect()
        gc.freeze()
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        assert self._loaded
        config, settings, card = self._loaded.predictor.config, self._loaded.settings, self._loaded.predictor.card
        self._reporter.health.activated(settings.inputs(config), settings.limits())
        monitor = SensorMonitor(card.inputs, config) if card and card.inputs else None
        common = self, settings, self._transforms, self._reporter, monitor, partial(self._wanted, self._loaded)
        if config.camera:
            source = CameraSource(*common, config.camera)
        else:
            assert config.lidar
            source = LidarSource(*common, config.lidar)
        worker = threading.Thread(target=self._work, args=(self._loaded, source, monitor), name="student")
        self._running = Running(source, worker, start_bond(self))
        worker.start()
        topics = [topic for topic, _ in source.inputs.values()]
        outputs = self._loaded.outputs.topics(self.get_parameter("outputs").value)
        self.get_logger().info(
            start_summary(settings.model, self._loaded.predictor, topics, outputs, self._least_scores(self._loaded))
        )
        self.get_logger().info(f"active, waiting for {', '.join(topics)}")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        if self._stop(LAST_FRAME_S):
            self._release()
        return super().on_shutdown(state)

    def _wanted(self, loaded: Loaded) -> bool:
        return loaded.outputs.wanted(self.get_parameter("outputs").value)

    def _least_scores(self, loaded: Loaded) -> float | np.ndarray:
        return least_scores(self.get_parameter("score_threshold").value, loaded.predictor.thresholds)

    def _stop(self, patience_s: float | None = None) -> bool:
        """End the input and wait for the frame on its way; False if it still is after `patience_s`."""
        if self._running:
            if self._running.bond:
                self._running.bond.shutdown()
            self._running.source.stop()
            self._running.worker.join(patience_s)
            if self._running.worker.is_alive():
                return False
            self._running.source.close()
        self._running = None
        return True

    def _release(self) -> None:
        """Give back what on_configure took."""
        for subscription in self._transform_subscriptions:
            self.destroy_subscription(subscription)
        self._transform_subscriptions = []
        self._transforms.clear()
        if self._loaded:
            self._loaded.outputs.destroy()
        self._loaded = None
        gc.unfreeze()

    def _check_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        try:
            for parameter in changed:
                if parameter.name == "outputs":
                    check_outputs(parameter.value)
        except UserError as error:
            return SetParametersResult(successful=False, reason=str(error))
        fixed = [
            parameter.name
            for parameter in changed
            if self._loaded and parameter.name in StudentParameters.__dataclass_fields__ and parameter.name not in LIVE
        ]
        reason = f"{', '.join(fixed)}: deactivate and clean up the node before changing it" if fixed else ""
        return SetParametersResult(successful=not fixed, reason=reason)

    # --- Transforms -------------------------------------------------------------------------------------------------

    def _subscribe_transforms(self) -> None:
        latched = QoSProfile(depth=TF_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._transform_subscriptions = [
            subscribe(
                self,
                TFMessage,
                topic,
                partial(self._on_transforms, static=static),
                self._reporter.drop,
                quality,
                subscription_events(topic, self._reporter.degrade),
            )
            for topic, static, quality in (("/tf", False, QoSProfile(depth=TF_DEPTH)), ("/tf_static", True, latched))
        ]

    def _on_transforms(self, message: TFMessage, static: bool) -> None:
        for problem in self._transforms.insert_message(message, static):
            self._reporter.degrade(problem)

    # --- Worker: one frame at a time --------------------------------------------------------------------------------

    def _work(self, loaded: Loaded, source: LidarSource | CameraSource, monitor: SensorMonitor | None) -> None:
        while (pending := source.get()) is not None:
            try:
                self._process(loaded, source, pending)
                if monitor:
                    self._reporter.report_mismatches(monitor)
            except InputError as error:
                self._reporter.drop(error.kind, str(error))
            except MemoryError:  # of the inference, or of the points before it
                self._reporter.drop(NOTHING, NOTHING)
            except Exception as error:  # one frame that fails must not silence the node
                reason = f"the frame failed with {type(error).__name__}; see the log"
                self._reporter.drop(reason, f"{reason}\n{traceback.format_exc()}")

    def _process(self, loaded: Loaded, source: LidarSource | CameraSource, pending: PendingInput[Any]) -> None:
        begun = time.monotonic()
        frame, parts, poorer = source.frame(pending)
        for reason in poorer:
            self._reporter.degrade(*reason)
        for conflict in self._transforms.conflicts():
            self._reporter.degrade(*conflict)
        converted = time.monotonic()
        prediction, less = predict(loaded.predictor, frame)
        if less:
            self._reporter.degrade(less)
        inferred = time.monotonic()
        header = Header(stamp=Time(nanoseconds=pending.stamp_ns).to_msg(), frame_id=loaded.settings.base_frame)
        prediction = prediction.scoring(self._least_scores(loaded))
        loaded.outputs.publish(prediction, header, self.get_parameter("outputs").value)
        latency = Latency(
            wait=(begun - pending.received - pending.read_s) * 1e3,
            convert=(converted - begun + pending.read_s) * 1e3,
            infer=(inferred - converted) * 1e3,
            publish=(time.monotonic() - inferred) * 1e3,
        )
        self._reporter.health.frame_published(latency)
        age_ms = (self.get_clock().now().nanoseconds - pending.stamp_ns) * 1e-6
        loaded.outputs.publish_latency(latency_message(latency, age_ms, parts, header, self._label))
        loaded.outputs.publish_times(latency, age_ms, header.stamp)

    def _publish_diagnostics(self) -> None:
        statuses = self._reporter.health.statuses(
            self._label,
            self.lifecycle_state,
            model=self._loaded.settings.model if self._loaded else "none",
            device=str(self._loaded.predictor.device) if self._loaded else "none",
            why_silent=self._why_silent,
        )
        header = Header(stamp=self.get_clock().now().to_msg())
        self._diagnostics.publish(DiagnosticArray(header=header, status=statuses))

    def _why_silent(self, name: str) -> str:
        return why_nothing_comes(self, *self._running.source.inputs[name]) if self._running else ""


def main(args: list[str] | None = None) -> int:
    keep_freed_memory()  # a frame needs what the one before it needed
    return run_lifecycle_node(StudentNode, "vexkd-student-node", __doc__ or "", EXAMPLE, args)


if __name__ == "__main__":
    sys.exit(main())
