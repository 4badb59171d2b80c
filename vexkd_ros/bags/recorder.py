"""`bag_recorder`: records topics as raw bytes into a bag, for machines without rosbag2."""

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosbags.interfaces import Connection, Qos, QosReliability
from rosbags.rosbag2 import Writer, WriterError

from vexkd_model.command import make_parser, positive_number, run_command
from vexkd_model.errors import UserError
from vexkd_ros.bags.player import TF, message_class
from vexkd_ros.bags.writing import LATCHED, STATIC_TRANSFORMS, STREAM, BagFormat, add_format_arguments, chosen_format

DISCOVERY_PERIOD_S = 0.1
DRAIN_S = 0.3  # after a stop: what is already on its way is still written
QUEUE_DEPTH = 1000  # messages of one topic that may wait while another is written
HELP = """\
Record topics until Ctrl-C, SIGTERM, --duration or --idle-timeout. Topics may appear later; log time is the time of
receipt. A bag without metadata.yaml was killed before it was complete."""
EXAMPLE = """\
examples:
  vexkd-bag-recorder --out published /diagnostics --namespace /student_node
  vexkd-bag-recorder --out published /student_node/detections --idle-timeout 10"""


class BagRecorder:
    """Subscribes to the wanted topics as they appear and writes what comes."""

    def __init__(
        self, node: Node, writer: Writer, bag_format: BagFormat, topics: Sequence[str], namespace: str | None
    ) -> None:
        self._node = node
        self._writer = writer
        self._format = bag_format
        self._topics = set(topics)
        self._prefix = namespace.rstrip("/") + "/" if namespace else None
        self._connections: dict[str, Connection] = {}
        self._unknown: set[str] = set()
        self.counts: dict[str, int] = {}
        self.last_receipt: float | None = None
        node.create_timer(DISCOVERY_PERIOD_S, self._discover)
        self._discover()

    def _discover(self) -> None:
        for topic, types in self._node.get_topic_names_and_types():
            if topic in self._connections or topic in self._unknown or not self._wanted(topic):
                continue
            offers = self._node.get_publishers_info_by_topic(topic)
            if offers:
                self._subscribe(topic, types[0], [offer.qos_profile for offer in offers])

    def _wanted(self, topic: str) -> bool:
        return topic in self._topics or (self._prefix is not None and topic.startswith(self._prefix))

    def _subscribe(self, topic: str, msgtype: str, offers: list[QoSProfile]) -> None:
        kind = message_class(msgtype)
        if kind is None or not self._format.knows(msgtype):
            self._unknown.add(topic)
            print(
                f"warning: {topic}: type {msgtype} is not defined in any installed package, not recorded",
                file=sys.stderr,
                flush=True,
            )
            return
        latched = all(offer.durability is DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
        reliable = all(offer.reliability is ReliabilityPolicy.RELIABLE for offer in offers)
        qos = _recorded_qos(msgtype, latched, reliable, len(offers))
        connection = self._format.add_topic(self._writer, topic, msgtype, qos)
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=QUEUE_DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        self._connections[topic] = connection
        self.counts[topic] = 0
        self._node.create_subscription(kind, topic, lambda data: self._write(connection, data), profile, raw=True)
        print(f"recording {topic}", file=sys.stderr, flush=True)

    def _write(self, connection: Connection, data: bytes) -> None:
        self._writer.write(connection, time.time_ns(), data)
        self.counts[connection.topic] += 1
        self.last_receipt = time.monotonic()


def _recorded_qos(msgtype: str, latched: bool, reliable: bool, publishers: int) -> Qos:
    """Return what whoever plays the bag has to offer.

    Of latched messages a replay has one publisher for all recorded ones, whose history must hold a message of each;
    broadcasters of /tf_static may come later, too.
    """
    latched_qos = STATIC_TRANSFORMS if msgtype == TF else LATCHED._replace(depth=publishers)
    qos = latched_qos if latched else STREAM
    return qos._replace(reliability=QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT)


def record(
    out: Path,
    topics: Sequence[str],
    namespace: str | None,
    duration_s: float | None,
    idle_timeout_s: float | None,
    bag_format: BagFormat,
) -> dict[str, int]:
    """Record until a signal, the duration or the idle time (counted from the first message); messages by topic."""
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only a flag: an exception between two bytes of a message would spoil the bag.
        signal.signal(number, lambda received, _: stopped.append(received))
    try:
        writer = bag_format.writer(out)
    except WriterError:
        raise UserError(f"{out}: exists already; remove it or choose another --out") from None
    node = rclpy.create_node("bag_recorder")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        with writer:
            recorder = BagRecorder(node, writer, bag_format, topics, namespace)
            start = time.monotonic()
            while not stopped and not _over(start, duration_s) and not _over(recorder.last_receipt, idle_timeout_s):
                executor.spin_once(timeout_sec=0.1)
            drained = time.monotonic() + DRAIN_S
            while time.monotonic() < drained:
                executor.spin_once(timeout_sec=0.05)
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}; what was recorded until then is lost") from None
    finally:
        node.destroy_node()
    return recorder.counts


def _over(since: float | None, limit_s: float | None) -> bool:
    return since is not None and limit_s is not None and time.monotonic() - since > limit_s


def main(argv: Sequence[str] | None = None) -> int:
    parser = make_parser("vexkd-bag-recorder", HELP, EXAMPLE)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="full name, /student_node/detections")
    parser.add_argument("--out", required=True, type=Path, help="bag folder to write; must not exist")
    parser.add_argument("--namespace", help="also every topic below this name, /student_node")
    parser.add_argument("--duration", type=positive_number, metavar="S", help="stop after so many seconds")
    parser.add_argument(
        "--idle-timeout",
        type=positive_number,
        metavar="S",
        help="stop when nothing came for so many seconds after the first message",
    )
    add_format_arguments(parser)

    def command(arguments: argparse.Namespace) -> None:
        if not arguments.topics and not arguments.namespace:
            parser.error("name a TOPIC or a --namespace")
        rclpy.init(
            args=sys.argv if argv is None else ["bag_recorder", *argv], signal_handler_options=SignalHandlerOptions.NO
        )
        try:
            counts = record(
                arguments.out,
                arguments.topics,
                arguments.namespace,
                arguments.duration,
                arguments.idle_timeout,
                chosen_format(arguments),
            )
        finally:
            rclpy.shutdown()
        for topic, count in sorted(counts.items()):
            print(f"{count:7d}  {topic}")
        if not sum(counts.values()):
            wanted = ", ".join([*arguments.topics, *([f"{arguments.namespace}/…"] if arguments.namespace else [])])
            shutil.rmtree(arguments.out)  # it would stand in the way of the next attempt
            raise UserError(f"{arguments.out}: recorded nothing; no message came on {wanted}")

    return run_command(parser, command, argv)


if __name__ == "__main__":
    sys.exit(main())
