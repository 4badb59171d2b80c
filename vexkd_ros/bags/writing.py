"""Format of the bags that are written here: quality of service, storage, and the ROS distribution that reads them."""

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer

from vexkd_ros.bags.typestore import DISTRIBUTIONS, OLDEST, bag_typestore, learn_type

UNLIMITED = QosTime(9223372036, 854775807)  # RMW_DURATION_INFINITE: no deadline, infinite lifespan


def _profile(depth: int, durability: QosDurability) -> Qos:
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        durability,
        UNLIMITED,
        UNLIMITED,
        QosLiveliness.AUTOMATIC,
        UNLIMITED,
        False,
    )


# Reliable offers match best-effort subscribers too, and RViz's displays, which ask for reliable by default.
STREAM = _profile(10, QosDurability.VOLATILE)
TRANSFORMS = _profile(100, QosDurability.VOLATILE)
LATCHED = _profile(1, QosDurability.TRANSIENT_LOCAL)
STATIC_TRANSFORMS = _profile(100, QosDurability.TRANSIENT_LOCAL)  # a message of every broadcaster

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


@dataclass(frozen=True)
class BagFormat:
    """Format of a bag. storage: a key of STORAGES. distro: the oldest ROS distribution that is to read it."""

    storage: str = "mcap"
    distro: str = OLDEST

    def writer(self, folder: Path) -> Writer:
        """Open a bag that does not exist yet; WriterError where it does."""
        return Writer(folder, version=DISTRIBUTIONS[self.distro][1], storage_plugin=STORAGES[self.storage])

    def knows(self, msgtype: str) -> bool:
        """Tell whether a topic of that type can be added."""
        return learn_type(msgtype, bag_typestore(self.distro))

    def add_topic(self, writer: Writer, name: str, msgtype: str, qos: Qos) -> Connection:
        """Add a topic with its type's definition and hash in that distribution."""
        definition, type_hash = _described(self.distro, msgtype)
        return writer.add_connection(name, msgtype, msgdef=definition, rihs01=type_hash, offered_qos_profiles=[qos])


@cache
def _described(distro: str, msgtype: str) -> tuple[str, str]:
    """Return a type's definition, with those of its fields, and its hash: the work of writing a hundred messages."""
    store = bag_typestore(distro)
    return store.generate_msgdef(msgtype, ros_version=2)[0], store.hash_rihs01(msgtype)


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --storage and --distro, for `chosen_format`."""
    parser.add_argument(
        "--storage", choices=STORAGES, default=BagFormat.storage, help=f"bag storage (default: {BagFormat.storage})"
    )
    parser.add_argument(
        "--distro",
        choices=DISTRIBUTIONS,
        default=BagFormat.distro,
        help=f"the oldest ROS 2 to read the bag (default: {BagFormat.distro}, then all do)",
    )


def chosen_format(arguments: argparse.Namespace) -> BagFormat:
    """Return the format that the user chose."""
    return BagFormat(arguments.storage, arguments.distro)
