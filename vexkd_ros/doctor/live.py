"""Observation of live topics, by a node that hears everything that a student could hear."""

import sys
import time
from collections.abc import Sequence
from functools import partial

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from tf2_msgs.msg import TFMessage

from vexkd_ros.doctor.observation import CLOUD, COMPRESSED, IMAGE, INFO, Heard, Observation
from vexkd_ros.health.endpoints import qos_offers
from vexkd_ros.inputs.reception import subscribe

CLASSES = {CLOUD: PointCloud2, IMAGE: Image, COMPRESSED: CompressedImage, INFO: CameraInfo}
LOOK_S = 0.5  # between looks for new topics
START_S = 5.0  # the most that publishers and this node may take to find one another on a busy machine
DEPTH = 50
# Best effort and volatile hears every publisher; a latched message comes to those alone who ask for it.
ANY = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def observe_live(seconds: float, tf: str, ros_arguments: Sequence[str]) -> Observation:
    """Listen for `seconds`, counted from the first message of a sensor, which is waited for START_S longer.

    tf: topic of transforms, /tf.
    """
    rclpy.init(args=list(ros_arguments), signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("doctor")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        return _listen(node, executor, seconds, tf)
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown()


def _listen(node: Node, executor: SingleThreadedExecutor, seconds: float, tf: str) -> Observation:
    seen = Observation("live topics", seconds, live=True)
    for topic, static, quality in ((tf, False, QoSProfile(depth=DEPTH)), (f"{tf}_static", True, LATCHED)):
        subscribe(node, TFMessage, topic, partial(seen.take_transforms, static=static), seen.refuse_transforms, quality)
    print(f"listening for {seconds:.0f} s", file=sys.stderr, flush=True)
    until, look, begun = time.monotonic() + seconds + START_S, 0.0, False
    while (now := time.monotonic()) < until:
        if now >= look:
            _subscribe_new(node, seen)
            look = now + LOOK_S
        executor.spin_once(timeout_sec=0.05)
        if not begun and any(heard.stamps for heard in seen.heard.values()):
            until, begun = now + seconds, True
    _subscribe_new(node, seen)  # who came last is at least known to be there
    for topic in (*seen.heard, tf, f"{tf}_static"):
        seen.offers[topic] = qos_offers(node, topic)
    return seen


def _hear(heard: Heard, data: bytes) -> None:
    heard.note(time.time(), data)


def _subscribe_new(node: Node, seen: Observation) -> None:
    """Subscribe to the sensors' topics that have appeared."""
    for topic, types in node.get_topic_names_and_types():
        published = {offer.msgtype for offer in qos_offers(node, topic)}
        msgtype = next((kind for kind in CLASSES if kind in published), None)
        if msgtype and topic not in seen.heard:
            # raw: a header is all that is read of most messages, and an image is large.
            heard = Heard(topic, msgtype, partial(deserialize_message, message_type=CLASSES[msgtype]))
            node.create_subscription(CLASSES[msgtype], topic, partial(_hear, heard), ANY, raw=True)
            seen.heard[topic] = heard
        if published:
            seen.types[topic] = msgtype or types[0]
