"""What every test runs under: DDS that stays on this machine, and a ROS domain for each process that runs tests.

Workers of one run, runs beside one another, and demos that tests start therefore do not see each other's nodes.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

from vexkd_ros.dds import held_domain, this_machine

DISTRO = os.environ.get("ROS_DISTRO")
DOMAIN, HOLDER = held_domain()  # held as long as this process lives, also while no test has a node
os.environ |= this_machine(DOMAIN)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needing_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needing_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def keyframe_dataroot() -> Path:
    """One real nuScenes keyframe, beside the checkout where its licence lets it be."""
    folder = Path(__file__).parents[2] / "shared" / "nuscenes_keyframe"
    if not folder.is_dir():
        pytest.skip(f"{folder}: no real keyframe on this machine")
    return folder


@pytest.fixture(scope="session")
def colcon(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The start of a colcon command that writes no logs into the current folder."""
    program = shutil.which("colcon", path=f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}")
    if program is None and DISTRO:
        pytest.skip(f"colcon is no part of ROS 2 {DISTRO}: apt install python3-colcon-common-extensions")
    assert program, "environment/setup.sh installs colcon where there is no ROS"
    return [program, "--log-base", str(tmp_path_factory.mktemp("colcon") / "log")]
