"""Topics with their rates."""

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

from rclpy.qos import QoSProfile, ReliabilityPolicy

from vexkd_ros.bags.player import message_class
from vexkd_ros.remote.session import Session


@dataclass(frozen=True)
class Topic:
    """Topic and what came on it: rate [Hz] is None where its type is not installed."""

    name: str
    kind: str
    publishers: int
    subscribers: int
    rate: float | None


def watch_topics(session: Session, seconds: float, pattern: str = "") -> list[Topic]:
    """Listen for so long to all topics that have `pattern` in their names and a publisher."""
    session.settle(lambda: _topics(session, pattern))
    topics, counts = _topics(session, pattern), Counter[str]()
    subscriptions = {}
    for name, kind in topics.items():
        found = message_class(kind)
        if found is not None:
            quality = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)  # meets every publisher
            subscriptions[name] = session.node.create_subscription(
                found, name, partial(_count, counts, name), quality, raw=True
            )
    start = time.monotonic()
    session.spin(seconds)
    took = time.monotonic() - start
    return [
        Topic(
            name,
            kind,
            session.node.count_publishers(name),
            session.node.count_subscribers(name) - (name in subscriptions),
            counts[name] / took if name in subscriptions else None,
        )
        for name, kind in sorted(topics.items())
    ]


def _count(counts: Counter[str], name: str, _: bytes) -> None:
    counts[name] += 1


def _topics(session: Session, pattern: str) -> dict[str, str]:
    found = session.node.get_topic_names_and_types()
    return {name: kinds[0] for name, kinds in found if pattern in name and session.node.count_publishers(name)}
