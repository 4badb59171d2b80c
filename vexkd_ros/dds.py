"""Environment variables for DDS: room for point clouds, and a demo or test that stays on this machine."""

import os
import random
import socket

from vexkd_model.errors import UserError
from vexkd_ros.share import share_path

DOMAINS = range(1, 102)  # 0 is everybody's; above 101 the ports reach into those that Linux hands out to anyone


def large_messages() -> dict[str, str]:
    """Return variables that give Fast DDS shared memory for more than one cloud; config/dds/fastdds.xml says why."""
    before_kilted = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")
    return {
        f"{'FASTRTPS' if before_kilted else 'FASTDDS'}_DEFAULT_PROFILES_FILE": str(share_path("config/dds/fastdds.xml"))
    }


def this_machine(domain: int) -> dict[str, str]:
    """Return variables of a DDS that neither disturbs nor sees a robot on the network, with room for point clouds."""
    names = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DOMAIN_ID": str(domain)} | large_messages()
    return names | ({"ROS_LOCALHOST_ONLY": "1"} if os.environ.get("ROS_DISTRO") == "humble" else {})


def held_domain() -> tuple[int, socket.socket]:
    """Take a domain whose first participant's port, 7410 + 250 · domain, nobody has bound.

    Returns the domain and the bound socket: until it is closed, neither this function nor free_domain gives the domain
    to anybody else. Participants of the domain take the next ports.
    """
    for domain in random.sample(DOMAINS, len(DOMAINS)):
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            holder.bind(("", 7410 + 250 * domain))
            return domain, holder
        except OSError:
            holder.close()
    raise UserError("ROS_DOMAIN_ID: all domains from 1 to 101 are in use on this machine")


def free_domain() -> int:
    """Find a domain that nobody uses or holds at the moment."""
    domain, holder = held_domain()
    holder.close()
    return domain
