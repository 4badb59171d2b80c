"""Who publishes an input, whether this node can hear it, and what to change where it cannot."""

from collections.abc import Callable

from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
    qos_policy_name_from_kind,
)

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

LISTED = 3  # topics of the wanted type that are named


def why_silent(node: Node, topic: str, msgtype: str, asked: QoSProfile) -> str:
    """Why nothing comes on a topic (resolved: "/lidar/points") to a subscription of `msgtype`
    ("sensor_msgs/msg/PointCloud2") that asks for `asked`, and the cure, in one line."""
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        return f"nobody publishes {topic}{_others_of_type(node, msgtype)}"
    problems = [mismatch(topic, info, msgtype, asked) for info in publishers]
    if all(problems):
        return "; ".join(dict.fromkeys(problems))
    names = ", ".join(dict.fromkeys(map(_name, publishers)))
    return (f"{names} publishes {topic}, but nothing comes: is it running, and are its messages too large for the "
            "middleware (config/dds/fastdds.xml)?")


def mismatch(topic: str, publisher: "TopicEndpointInfo", msgtype: str, asked: QoSProfile) -> str:  # noqa: F821
    """Why this publisher (of Node.get_publishers_info_by_topic) is not heard, and the cure; "" where it is."""
    name, offered = _name(publisher), publisher.qos_profile
    if publisher.topic_type != msgtype:
        return f"{name} publishes {topic} as {publisher.topic_type}, not {msgtype}: remap to another topic"
    if offered.reliability == ReliabilityPolicy.BEST_EFFORT and asked.reliability == ReliabilityPolicy.RELIABLE:
        return (f"{name} offers {topic} best effort, this node asks for reliable: set input_reliability:=best_effort, "
                "or make the publisher reliable")
    if offered.durability == DurabilityPolicy.VOLATILE and asked.durability == DurabilityPolicy.TRANSIENT_LOCAL:
        return (f"{name} offers {topic} volatile, this node asks for latched messages (transient_local): make the "
                "publisher transient_local, as every publisher of /tf_static must be")
    compatibility, reason = qos_check_compatible(offered, asked)
    if compatibility == QoSCompatibility.ERROR:
        return f"{name} offers {topic} with another quality of service ({' '.join(reason.split())}): make it compatible"
    return ""


def subscription_events(topic: str, report: Callable[[str], None]) -> SubscriptionEventCallbacks:
    """For create_subscription(event_callbacks=…): reports a publisher that is not heard, as it is discovered."""
    return SubscriptionEventCallbacks(incompatible_qos=lambda event: report(
        f"a publisher of {topic} is not heard, its {_policy(event)} does not suffice: set "
        "input_reliability:=best_effort, or make the publisher reliable"
        + (" and latched" if topic == "/tf_static" else "")))


def publisher_events(topic: str, report: Callable[[str], None]) -> PublisherEventCallbacks:
    """For create_publisher(event_callbacks=…): reports a subscriber that cannot hear this node, as it is discovered."""
    return PublisherEventCallbacks(incompatible_qos=lambda event: report(
        f"a subscriber of {topic} does not hear this node, it asks for more {_policy(event)}: let it ask for best "
        "effort (in RViz: Reliability Policy), or make the output reliable"))


def _policy(event: object) -> str:
    """reliability, durability, … of an incompatible_qos event."""
    return qos_policy_name_from_kind(event.last_policy_kind).lower()


def _name(publisher: "TopicEndpointInfo") -> str:  # noqa: F821
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"


def _others_of_type(node: Node, msgtype: str) -> str:
    others = [topic for topic, types in node.get_topic_names_and_types()
              if msgtype in types and node.count_publishers(topic)]
    if not others:
        return f", and nobody any {msgtype}: start the sensor's driver, or compare ROS_DOMAIN_ID"
    more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
    return f": remap to one of {', '.join(others[:LISTED])}{more}"
