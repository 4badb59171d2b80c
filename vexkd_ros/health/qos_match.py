"""Match of the quality of service that publishers offer with what a subscriber requests. Bags record offers, too."""

from collections.abc import Sequence
from typing import NamedTuple

LISTED = 3  # topics of the wanted type that are named
TF_TOPICS = ("/tf", "/tf_static")  # of which no parameter of a node says the reliability


class QosOffer(NamedTuple):
    """Offer of a publisher. msgtype: "sensor_msgs/msg/PointCloud2". latched: durability transient_local."""

    node: str
    msgtype: str
    reliable: bool
    latched: bool


class QosRequest(NamedTuple):
    """Request of a subscriber."""

    msgtype: str
    reliable: bool
    latched: bool = False


def qos_mismatch(topic: str, offer: QosOffer, request: QosRequest) -> str:
    """Return why this publisher is not heard, and the cure; '' where it is."""
    if offer.msgtype != request.msgtype:
        return f"{offer.node} publishes {topic} as {offer.msgtype}, not {request.msgtype}: remap to another topic"
    if request.reliable and not offer.reliable:
        return f"{offer.node} offers {topic} best effort, the node asks for reliable: {reliability_cure(topic)}"
    if request.latched and not offer.latched:
        return (
            f"{offer.node} offers {topic} volatile, the node asks for latched messages (transient_local): make the "
            "publisher transient_local, as every publisher of /tf_static must be"
        )
    return ""


def reliability_cure(topic: str) -> str:
    """Return what to change where a publisher is less reliable than requested."""
    if topic in TF_TOPICS:
        return "make the publisher reliable, as tf2's broadcasters are"
    return "set input_reliability:=best_effort, or make the publisher reliable"


def why_silent(topic: str, offers: Sequence[QosOffer], request: QosRequest, others: Sequence[str]) -> str:
    """Return why nothing comes on a topic, and the cure. others: topics of the wanted type that are published."""
    if not offers:
        return f"nobody publishes {topic}{_instead(others, request.msgtype)}"
    problems = [qos_mismatch(topic, offer, request) for offer in offers]
    if all(problems):
        return "; ".join(dict.fromkeys(problems))
    names = ", ".join(dict.fromkeys(offer.node for offer in offers))
    return (
        f"{names} publishes {topic}, but nothing comes: is it running, and are its messages too large for the "
        "middleware (config/dds/fastdds.xml)?"
    )


def _instead(others: Sequence[str], msgtype: str) -> str:
    if not others:
        return f", and nobody any {msgtype}: start the sensor's driver, or compare ROS_DOMAIN_ID"
    more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
    return f": remap to one of {', '.join(others[:LISTED])}{more}"
