"""What every test runs under: DDS that stays on this machine, and a ROS domain for each process that runs tests.

Workers of one run, and runs beside one another, therefore do not see each other's nodes.
"""

import os
import shutil
import sys
import zlib
from pathlib import Path

import pytest

RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"process {os.getpid()}")
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
DOMAINS = range(1, 102)  # 0 is everybody's; above 101 the ports reach into those that Linux hands out to anyone

os.environ["ROS_DOMAIN_ID"] = str(DOMAINS[(zlib.crc32(RUN.encode()) + WORKER) % len(DOMAINS)])
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
DISTRO = os.environ.get("ROS_DISTRO")
if DISTRO == "humble":
    os.environ["ROS_LOCALHOST_ONLY"] = "1"

# A whole point cloud does not fit into the shared memory that Fast DDS takes by itself.
FAST_DDS = "FASTRTPS" if DISTRO in {"humble", "jazzy"} else "FASTDDS"
os.environ[f"{FAST_DDS}_DEFAULT_PROFILES_FILE"] = str(Path(__file__).resolve().parents[1] / "config/dds/fastdds.xml")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    needing_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not needing_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in needing_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def colcon(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The start of a colcon command that writes no logs into the current folder."""
    program = shutil.which("colcon", path=f"{Path(sys.prefix, 'bin')}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("colcon is not installed")
    return [program, "--log-base", str(tmp_path_factory.mktemp("colcon") / "log")]
