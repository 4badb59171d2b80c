"""Entry points of this package's programs; setup.py gives them their names.

Nothing is imported here but the frame: whatever a program needs comes under `run_program`.
"""

import os

from vexkd_model.command import run_program


def student_node() -> int:
    """Run a student on live topics."""
    # Read when PyTorch is loaded. By default, OpenMP's threads wait for one another by spinning: where other programs
    # take a core in the middle of an operation, the one that is left spins for their whole turn.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run_program("vexkd_ros.student_node")


def comparison_node() -> int:
    """Show hits, false alarms and misses of a student."""
    return run_program("vexkd_ros.comparison_node")


def track_node() -> int:
    """Follow a student's detections over time."""
    return run_program("vexkd_ros.track_node")


def nuscenes_to_bag() -> int:
    """Convert a nuScenes folder to bags."""
    return run_program("vexkd_ros.bags.nuscenes_to_bag")


def bag_to_nuscenes() -> int:
    """Convert bags to a dataset in the nuScenes schema."""
    return run_program("vexkd_ros.bags.bag_to_nuscenes")


def bag_player() -> int:
    """Play bags in real time."""
    return run_program("vexkd_ros.bags.player")


def bag_recorder() -> int:
    """Record topics into a bag."""
    return run_program("vexkd_ros.bags.recorder")


def bag_evaluator() -> int:
    """Score a student on bags."""
    return run_program("vexkd_ros.bags.evaluator")


def bag_view() -> int:
    """Show bags in a browser."""
    return run_program("vexkd_ros.bags.view.command")


def ros() -> int:
    """Ask running nodes for parameters, states and topics."""
    return run_program("vexkd_ros.remote.command")


def doctor() -> int:
    """Say what would keep a student from seeing."""
    return run_program("vexkd_ros.doctor.command")
