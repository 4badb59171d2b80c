"""Who publishes an input, whether this node can hear it, and what to change where it cannot.

rclpy looks at every event of every publisher and subscription whenever any message comes in. Left as they are, two of
each, they were a quarter of what an idle node cost; so there are only those that are reported here.
"""

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy, qos_policy_name_from_kind

from vexkd_ros.health.offers import Asked, Offer, why_silent

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks


def offers_of(node: Node, topic: str) -> list[Offer]:
    """What is published of a topic (resolved: "/lidar/points") just now."""
    return [Offer(_name(info), info.topic_type,
                  info.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT,
                  info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL)
            for info in node.get_publishers_info_by_topic(topic)]


def why_nothing_comes(node: Node, topic: str, asked: Asked) -> str:
    """Why nothing comes on a topic, and the cure, in one line."""
    others = [name for name, types in node.get_topic_names_and_types()
              if asked.msgtype in types and node.count_publishers(name)]
    return why_silent(topic, offers_of(node, topic), asked, others)


def subscription_events(topic: str, report: Callable[[str], None]) -> SubscriptionEventCallbacks:
    """For create_subscription(event_callbacks=…): reports a publisher that is not heard, as it is discovered."""
    return SubscriptionEventCallbacks(use_default_callbacks=False, incompatible_qos=lambda event: report(
        f"a publisher of {topic} is not heard, its {_policy(event)} does not suffice: set "
        "input_reliability:=best_effort, or make the publisher reliable"
        + (" and latched" if topic == "/tf_static" else "")))


def publisher_events(topic: str, report: Callable[[str], None]) -> PublisherEventCallbacks:
    """For create_publisher(event_callbacks=…): reports a subscriber that cannot hear this node, as it is discovered."""
    return PublisherEventCallbacks(use_default_callbacks=False, incompatible_qos=lambda event: report(
        f"a subscriber of {topic} does not hear this node, it asks for more {_policy(event)}: let it ask for best "
        "effort (in RViz: Reliability Policy), or make the output reliable"))


def no_publisher_events() -> PublisherEventCallbacks:
    """For create_publisher(event_callbacks=…) of an output that any subscriber of its type can hear."""
    return PublisherEventCallbacks(use_default_callbacks=False)


def _name(publisher: "TopicEndpointInfo") -> str:  # noqa: F821
    """An endpoint may be discovered before its node is; then, and of programs without ROS, there is no name."""
    if "UNKNOWN" in publisher.node_name:
        return "a publisher"
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"


def _policy(event: object) -> str:
    """reliability, durability, … of an incompatible_qos event."""
    return qos_policy_name_from_kind(event.last_policy_kind).lower()
