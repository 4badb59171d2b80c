"""`bag_player`: plays bags in real time over rclpy, for machines without rosbag2."""

import argparse
import importlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosbags.interfaces import Connection, QosDurability, QosReliability
from rosgraph_msgs.msg import Clock

from vexkd_model.command import make_parser, names, positive_number, run_command, seconds
from vexkd_model.errors import UserError
from vexkd_model.progress import progress
from vexkd_ros.bags.reading import Bag, bag_paths, open_bag, recorded_qos
from vexkd_ros.bags.typestore import bag_typestore, message_type
from vexkd_ros.bags.writing import LATCHED, STREAM
from vexkd_ros.dds import large_messages

TF = "tf2_msgs/msg/TFMessage"
LATE_S = 0.05  # a message later than this counts as behind real time
PAUSE_S = 0.5  # between bags, so that the last message of one is not overtaken by the first of the next
ACKNOWLEDGE_S = 5.0
REPORT_S = 5.0
DEFAULT_CLOCK_HZ = 40.0
HELP = """\
Play one or more bags, one after the other, with the recorded quality of service; message bytes stay as they are.

A bag is its folder, one of its files (.mcap, .db3), a folder without metadata.yaml, or a ROS 1 bag; of a recording that
was killed, what is whole is played. Static transforms are always latched, all of them in one message, whoever sent them
when. Topics whose types are not installed are left out and named."""
EXAMPLE = """\
examples:
  vexkd-bag-player bags/scene-0103 bags/scene-0916
  vexkd-bag-player bags/scene-0103 --rate 0.25 --loop --clock
  vexkd-bag-player drive.mcap --topics '/robot1/*' --ros-args -r /robot1/tf:=/tf -r /robot1/tf_static:=/tf_static
  vexkd-bag-player bags/scene-0103 --wait-for-subscribers /lidar/points   (lose no frame: start when one listens)"""


class BagPlayer:
    """Publishes the messages of bags at the distances of their log times, divided by `rate`.

    topics: patterns of names; of all others, nothing is published.
    """

    def __init__(
        self,
        node: Node,
        rate: float = 1.0,
        clock_hz: float = 0.0,
        start_offset_s: float = 0.0,
        topics: Sequence[str] = ("*",),
    ) -> None:
        self._node = node
        self._rate = rate
        self._start_offset_ns = round(start_offset_s * 1e9)
        self._topics = topics
        self._publishers: dict[str, Publisher] = {}
        self._static: dict[str, StaticTransforms] = {}
        self._clock = _SimulatedClock(node, clock_hz) if clock_hz > 0 else None
        self.published = 0
        self.late = 0
        self.worst_delay_s = 0.0

    def advertise(self, bag: Path) -> None:
        """Create the publishers of a bag's topics, so that subscribers can find them before the first message."""
        with open_bag(bag) as reader:
            chosen = self._chosen(reader)
            if not chosen:
                names = ", ".join(sorted(connection.topic for connection in reader.connections)) or "no topic"
                raise UserError(f"--topics {','.join(self._topics)}: matches none of {bag}, which has {names}")
            for connection in chosen:
                topic, kind = connection.topic, message_class(connection.msgtype)
                if kind is None:
                    print(f"{topic}: not played, its type {connection.msgtype} is not installed", file=sys.stderr)
                elif topic not in self._publishers:
                    self._publishers[topic] = self._node.create_publisher(kind, topic, playback_qos(connection))
                    if is_static(connection):
                        self._static[topic] = StaticTransforms()
            if not any(connection.topic in self._publishers for connection in chosen):
                raise UserError(f"{bag}: no type of its topics is installed; install the packages that are named above")

    def play(self, bag: Path) -> None:
        """Publish one bag to its end; of what comes before the start offset only the latched messages, at once."""
        with open_bag(bag) as reader:
            print(f"start of {bag}", file=sys.stderr, flush=True)
            wall_start, before, elapsed = time.monotonic(), self.published, 0
            chosen = [connection for connection in self._chosen(reader) if connection.topic in self._publishers]
            messages = progress(
                reader.paced(chosen),
                f"play {Path(bag).name}",
                sum(connection.msgcount for connection in chosen),
                "messages",
            )
            for elapsed, connection, stamp, data in messages:
                publisher = self._publishers[connection.topic]
                if connection.topic in self._static:
                    data = self._static[connection.topic].merge(data)
                if elapsed < self._start_offset_ns:
                    if publisher.qos_profile.durability is DurabilityPolicy.TRANSIENT_LOCAL:
                        publisher.publish(bytes(data))
                    continue
                due = wall_start + (elapsed - self._start_offset_ns) * 1e-9 / self._rate
                self._wait_until(due, stamp)
                publisher.publish(bytes(data))
                self._note_delay(time.monotonic() - due)
            if self.published == before and self._start_offset_ns:
                raise UserError(f"{bag}: lasts {elapsed * 1e-9:.1f} s; start nearer to its beginning")

    def _chosen(self, reader: Bag) -> list[Connection]:
        return [
            connection
            for connection in reader.connections
            if any(fnmatchcase(connection.topic, pattern) for pattern in self._topics)
        ]

    def wait_for_subscribers(self, topics: Sequence[str]) -> None:
        """Return when each topic has a subscriber, ours or anybody's."""
        next_report = time.monotonic()
        while missing := [topic for topic in topics if not self._has_subscriber(topic)]:
            if time.monotonic() >= next_report:
                others = f" and {len(missing) - 1} other topics" if len(missing) > 1 else ""
                print(f"waiting for a subscriber of {missing[0]}{others}", file=sys.stderr, flush=True)
                next_report += REPORT_S
            time.sleep(0.05)
        if topics:
            time.sleep(PAUSE_S)  # that a subscriber is in our graph does not yet mean that its publisher has met it

    def wait_until_received(self) -> None:
        """Give reliable subscribers the time to acknowledge what was published."""
        for publisher in self._publishers.values():
            publisher.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S))

    def summary(self) -> str:
        """Say in one line how many messages went out and whether they were in time."""
        line = f"published {self.published} messages"
        if self.late:
            line += (
                f"; fell behind real time by up to {self.worst_delay_s:.2f} s, {self.late} messages more than "
                f"{LATE_S * 1000:.0f} ms late: play slower with --rate"
            )
        return line

    def _has_subscriber(self, topic: str) -> bool:
        publisher = self._publishers.get(topic)
        # A matched endpoint is further on than an entry in the graph: only it surely receives the next message.
        return bool(publisher.get_subscription_count() if publisher else self._node.count_subscribers(topic))

    def _wait_until(self, due: float, stamp: int) -> None:
        while self._clock is not None and self._clock.next_tick < due:
            time.sleep(max(self._clock.next_tick - time.monotonic(), 0.0))
            self._clock.tick(max(stamp - round((due - time.monotonic()) * self._rate * 1e9), 0), limit=stamp)
        time.sleep(max(due - time.monotonic(), 0.0))
        if self._clock is not None:
            self._clock.publish(stamp)

    def _note_delay(self, delay_s: float) -> None:
        self.published += 1
        self.late += delay_s > LATE_S
        self.worst_delay_s = max(self.worst_delay_s, delay_s)


@dataclass
class _SimulatedClock:
    """Publisher of /clock: before every message, so that time is never behind stamps, and at `hz` in between."""

    node: Node
    hz: float
    next_tick: float = 0.0

    def __post_init__(self) -> None:
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=10,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.VOLATILE,
        )
        self._publisher = self.node.create_publisher(Clock, "/clock", profile)
        self.next_tick = time.monotonic()

    def tick(self, stamp: int, limit: int) -> None:
        self.publish(min(stamp, limit))
        self.next_tick = max(self.next_tick + 1 / self.hz, time.monotonic())

    def publish(self, stamp: int) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(stamp, 10**9)
        self._publisher.publish(message)


class StaticTransforms:
    """Everything said on one /tf_static so far, as one message.

    Each broadcaster sends its own transforms once; to who comes later, a publisher repeats its last messages alone.
    """

    def __init__(self) -> None:
        self._transforms: dict[str, object] = {}  # by child frame
        # rosbags compiles a type when it first meets it, for a second or more: not when the bag has begun to play.
        self.merge(bytes(bag_typestore().serialize_cdr(message_type(TF)([]), TF)))

    def merge(self, data: bytes) -> bytes:
        """Add a serialised tf2_msgs/TFMessage; return the message of all."""
        store = bag_typestore()
        message: Any = store.deserialize_cdr(data, TF)
        alone = not self._transforms.keys() - {transform.child_frame_id for transform in message.transforms}
        self._transforms |= {transform.child_frame_id: transform for transform in message.transforms}
        if alone:
            return data
        return bytes(store.serialize_cdr(message_type(TF)(list(self._transforms.values())), TF))


def is_static(connection: Connection) -> bool:
    """Tell whether a topic is /tf_static, of whatever robot."""
    return connection.msgtype == TF and connection.topic.endswith("tf_static")


def message_class(msgtype: str) -> type | None:
    """Import the class of a type, "package/msg/Name"; None where it is not installed."""
    package, _, name = msgtype.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError):
        return None


def playback_qos(connection: Connection) -> QoSProfile:
    """Return the quality of service to offer: what all recorded publishers offered, STREAM where none is known.

    Values that rclpy has no name for (unknown, system default) become reliable and volatile. A shallow history, and
    Humble's 0 for an unknown one, is deepened to ten, so that a burst on replay is not lost.
    """
    offered = [LATCHED] if is_static(connection) else recorded_qos(connection) or [STREAM]
    latched = all(qos.durability is QosDurability.TRANSIENT_LOCAL for qos in offered)
    best_effort = any(qos.reliability is QosReliability.BEST_EFFORT for qos in offered)
    depth = max(qos.depth for qos in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=max(depth, 1 if latched and depth else STREAM.depth),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def play(
    bags: Sequence[Path],
    rate: float,
    loop: bool,
    clock_hz: float,
    wait_for: Sequence[str],
    start_offset_s: float = 0.0,
    topics: Sequence[str] = ("*",),
) -> None:
    """Play `bags` in their order until their end, or until interrupted with `loop`."""
    node = rclpy.create_node("bag_player")
    player = BagPlayer(node, rate, clock_hz, start_offset_s, topics)
    try:
        for bag in bags:
            player.advertise(bag)
        player.wait_for_subscribers(wait_for)
        while True:
            for bag in bags:
                player.play(bag)
                time.sleep(PAUSE_S)
            if not loop:
                break
        player.wait_until_received()
    finally:
        print(player.summary(), file=sys.stderr, flush=True)
        node.destroy_node()


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("vexkd-bag-player", HELP, EXAMPLE)
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="folder of a bag, or its file")
    parser.add_argument(
        "--topics",
        type=names,
        default=("*",),
        metavar="PATTERNS",
        help="only these, '/lidar/points,/tf*' (default: all)",
    )
    parser.add_argument(
        "--rate", type=positive_number, default=1.0, help="speed; 0.25 is four times slower (default: 1)"
    )
    parser.add_argument("--loop", action="store_true", help="start again after the last bag, until Ctrl-C")
    parser.add_argument(
        "--clock",
        nargs="?",
        type=positive_number,
        const=DEFAULT_CLOCK_HZ,
        default=0.0,
        metavar="HZ",
        help=f"publish /clock, at {DEFAULT_CLOCK_HZ:.0f} Hz where HZ is not given",
    )
    parser.add_argument(
        "--start-offset",
        type=seconds,
        default=0.0,
        metavar="S",
        help="leave out the first seconds of each bag, all but what is latched (/tf_static)",
    )
    parser.add_argument(
        "--wait-for-subscribers",
        nargs="+",
        default=[],
        metavar="TOPIC",
        help="start only when each of these topics has a subscriber",
    )

    def command(arguments: argparse.Namespace) -> None:
        os.environ |= large_messages() | os.environ  # whoever has settings of their own keeps them
        # Python's own handlers, so that Ctrl-C ends the loop above and not the DDS context under it.
        rclpy.init(
            args=sys.argv if argv is None else ["bag_player", *argv], signal_handler_options=SignalHandlerOptions.NO
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        try:
            play(
                bag_paths(arguments.bags),
                arguments.rate,
                arguments.loop,
                arguments.clock,
                arguments.wait_for_subscribers,
                arguments.start_offset,
                arguments.topics,
            )
        finally:
            rclpy.shutdown()

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
