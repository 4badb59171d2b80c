"""What publishers offer of a topic, and why a subscriber hears none of it. Needs no ROS: bags record offers, too."""

from collections.abc import Sequence
from typing import NamedTuple

LISTED = 3  # topics of the wanted type that are named


class Offer(NamedTuple):
    """node: who publishes. msgtype: "sensor_msgs/msg/PointCloud2". latched: durability transient_local."""

    node: str
    msgtype: str
    reliable: bool
    latched: bool


class Asked(NamedTuple):
    """What a subscriber wants of a topic."""

    msgtype: str
    reliable: bool
    latched: bool = False


def unheard(topic: str, offer: Offer, asked: Asked) -> str:
    """Why this publisher is not heard, and the cure; "" where it is."""
    if offer.msgtype != asked.msgtype:
        return f"{offer.node} publishes {topic} as {offer.msgtype}, not {asked.msgtype}: remap to another topic"
    if asked.reliable and not offer.reliable:
        return (f"{offer.node} offers {topic} best effort, the node asks for reliable: set "
                "input_reliability:=best_effort, or make the publisher reliable")
    if asked.latched and not offer.latched:
        return (f"{offer.node} offers {topic} volatile, the node asks for latched messages (transient_local): make the "
                "publisher transient_local, as every publisher of /tf_static must be")
    return ""


def why_silent(topic: str, offers: Sequence[Offer], asked: Asked, others: Sequence[str]) -> str:
    """Why nothing comes on a topic, and the cure, in one line. others: topics of the wanted type that are published."""
    if not offers:
        return f"nobody publishes {topic}{_instead(others, asked.msgtype)}"
    problems = [unheard(topic, offer, asked) for offer in offers]
    if all(problems):
        return "; ".join(dict.fromkeys(problems))
    names = ", ".join(dict.fromkeys(offer.node for offer in offers))
    return (f"{names} publishes {topic}, but nothing comes: is it running, and are its messages too large for the "
            "middleware (config/dds/fastdds.xml)?")


def _instead(others: Sequence[str], msgtype: str) -> str:
    if not others:
        return f", and nobody any {msgtype}: start the sensor's driver, or compare ROS_DOMAIN_ID"
    more = f" and {len(others) - LISTED} more" if len(others) > LISTED else ""
    return f": remap to one of {', '.join(others[:LISTED])}{more}"
