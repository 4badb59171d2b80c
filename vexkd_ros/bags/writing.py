"""Opening bags to write, as the rosbag2 of a named ROS distribution reads them."""

import argparse
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer

from vexkd_ros.bags.typestore import DISTRIBUTIONS, OLDEST, bag_typestore, learn_type

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


@dataclass(frozen=True)
class BagFormat:
    """storage: a key of STORAGES. distro: the oldest ROS distribution that is to read the bag."""

    storage: str = "mcap"
    distro: str = OLDEST

    def writer(self, folder: Path) -> Writer:
        """A bag that does not exist yet; WriterError where it does."""
        return Writer(folder, version=DISTRIBUTIONS[self.distro][1], storage_plugin=STORAGES[self.storage])

    def knows(self, msgtype: str) -> bool:
        """Whether a topic of that type can be added."""
        return learn_type(msgtype, bag_typestore(self.distro))

    def add_topic(self, writer: Writer, name: str, msgtype: str, qos: Qos) -> Connection:
        """A topic with its type's definition and hash in that distribution."""
        definition, type_hash = _described(self.distro, msgtype)
        return writer.add_connection(name, msgtype, msgdef=definition, rihs01=type_hash, offered_qos_profiles=[qos])


@cache
def _described(distro: str, msgtype: str) -> tuple[str, str]:
    """A type's definition, with those of its fields, and its hash: as much work as to write a hundred messages."""
    store = bag_typestore(distro)
    return store.generate_msgdef(msgtype, ros_version=2)[0], store.hash_rihs01(msgtype)


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """--storage and --distro, for `format_of`."""
    parser.add_argument("--storage", choices=STORAGES, default=BagFormat.storage,
                        help=f"bag storage (default: {BagFormat.storage})")
    parser.add_argument("--distro", choices=DISTRIBUTIONS, default=BagFormat.distro,
                        help=f"the oldest ROS 2 to read the bag (default: {BagFormat.distro}, then all do)")


def format_of(arguments: argparse.Namespace) -> BagFormat:
    """What the user chose."""
    return BagFormat(arguments.storage, arguments.distro)
