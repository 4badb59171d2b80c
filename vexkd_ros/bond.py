"""Bond with a lifecycle manager such as Nav2's, which notices by it that a node has died. Needs bondpy."""

from typing import Any

from vexkd_ros.node_process import StatefulNode

try:
    from bondpy.bondpy import Bond  # pyright: ignore[reportMissingImports]
except ImportError:
    Bond = None

TOPIC = "bond"  # in the node's namespace, where Nav2's manager looks for it
HEARTBEAT_S, SILENCE_S = 0.1, 4.0  # those of Nav2's own nodes


def start_bond(node: StatefulNode) -> Any | None:
    """Begin to tell a manager that an active node lives; its `shutdown` says goodbye. None where there is no bondpy.

    A node that starts by itself has no manager, and no bond.
    """
    if Bond is None or node.get_parameter("autostart").value:
        return None
    bond = Bond(node, TOPIC, node.get_name())
    bond.heartbeat_period, bond.heartbeat_timeout = HEARTBEAT_S, SILENCE_S
    bond.start()
    return bond
