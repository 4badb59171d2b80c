"""Publishers and subscribers at the other end: whether this node hears them, and what to change where it does not.

rclpy looks at every event of every publisher and subscription whenever any message comes in. Left as they are, two of
each, they were a quarter of what an idle node cost; so there are only those that are reported here.
"""

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy, qos_policy_name_from_kind

from vexkd_ros.health.qos_match import QosOffer, QosRequest, reliability_cure, why_silent

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks


TF = "tf2_msgs/msg/TFMessage"


def qos_offers(node: Node, topic: str) -> list[QosOffer]:
    """List the present publishers of a topic (resolved: "/lidar/points")."""
    return [
        QosOffer(
            _name(info),
            info.topic_type,
            info.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT,
            info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
        )
        for info in node.get_publishers_info_by_topic(topic)
    ]


def why_nothing_comes(node: Node, topic: str, request: QosRequest) -> str:
    """Return why nothing comes on a topic, and the cure, in one line."""
    others = [
        name
        for name, types in node.get_topic_names_and_types()
        if request.msgtype in types and node.count_publishers(name)
    ]
    return why_silent(topic, qos_offers(node, topic), request, others)


def tf_elsewhere(node: Node) -> str:
    """Return how to listen to TF in a namespace, where nobody publishes what this node listens to; else ''."""
    if node.count_publishers(node.resolve_topic_name("/tf")):
        return ""
    others = [
        name
        for name, types in node.get_topic_names_and_types()
        if TF in types and name.endswith("/tf") and node.count_publishers(name)
    ]
    return "".join(f"; or listen to {name}: -r /tf:={name} -r /tf_static:={name}_static" for name in others[:1])


def subscription_events(topic: str, report: Callable[[str], None]) -> SubscriptionEventCallbacks:
    """Make create_subscription's event_callbacks: they report a publisher that is not heard, as it is discovered."""
    cure = reliability_cure(topic) + (" and latched" if topic == "/tf_static" else "")
    return SubscriptionEventCallbacks(
        use_default_callbacks=False,
        incompatible_qos=lambda event: report(
            f"a publisher of {topic} is not heard, its {_policy(event)} does not suffice: {cure}"
        ),
    )


def publisher_events(topic: str, report: Callable[[str], None]) -> PublisherEventCallbacks:
    """Make create_publisher's event_callbacks: they report a subscriber that cannot hear this node."""
    return PublisherEventCallbacks(
        use_default_callbacks=False,
        incompatible_qos=lambda event: report(
            f"a subscriber of {topic} does not hear this node, it asks for more {_policy(event)}: let it ask for best "
            "effort (in RViz: Reliability Policy), or make the output reliable"
        ),
    )


def no_publisher_events() -> PublisherEventCallbacks:
    """Make create_publisher's event_callbacks for an output that any subscriber of its type can hear."""
    return PublisherEventCallbacks(use_default_callbacks=False)


def _name(publisher: Any) -> str:
    """Name a publisher; an endpoint that is discovered before its node, or of a program without ROS, has no name."""
    if "UNKNOWN" in publisher.node_name:
        return "a publisher"
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"


def _policy(event: Any) -> str:
    """Name the policy of an incompatible_qos event: reliability, durability, …"""
    return qos_policy_name_from_kind(event.last_policy_kind).lower()
