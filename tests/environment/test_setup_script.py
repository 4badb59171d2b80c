"""environment/setup.sh, from outside: what it says where something is missing, and when it makes .venv anew.

What an installation of ROS 2 brings is played by a folder of empty modules, so that a whole run takes seconds and no
network; everything else is real: the script, Python's venv, pip and what says how this repository is installed.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import setuptools
from support.clock import wait_for

ROOT = Path(__file__).parents[2]
SCRIPT = "environment/setup.sh"
TOOLS = ("bash", "dirname", "env", "find", "flock", "rm", "sed", "sha256sum", "sort", "uname", "xargs")
ROS_MODULES = ("rclpy", "tf2_msgs/msg", "vision_msgs/msg", "cv_bridge", "sensor_msgs_py/point_cloud2", "tf2_py")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy with everything that setup.sh reads, but nothing to install: no packages, and no constraints."""
    copy = tmp_path / "the repository"
    for name in ("environment", "interfaces", "resource"):
        shutil.copytree(ROOT / name, copy / name)
    for name in ("pyproject.toml", "setup.py", "setup.cfg", "package.xml"):
        shutil.copy(ROOT / name, copy)
    for requirements in copy.glob("environment/requirements*.txt"):
        requirements.write_text("setuptools\n")
    for minor in range(10, 20):
        (copy / f"environment/constraints-3.{minor}.txt").write_text("")
    return copy


@pytest.fixture
def bare_machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with a shell, the usual tools, a compiler and make, and no Python 3.11."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        (folder / tool).symlink_to(shutil.which(tool))
    for tool in ("c++", "make"):
        (folder / tool).symlink_to(shutil.which("true"))
    return {"PATH": str(folder)}


@pytest.fixture
def ros_machine(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that has sourced a ROS 2: its modules on PYTHONPATH, and setuptools beside them."""
    modules = tmp_path / "ros"
    for module in ROS_MODULES:
        path = modules / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    site = Path(setuptools.__file__).parents[1]
    for found in (*site.glob("setuptools*"), *site.glob("_distutils_hack"), *site.glob("pkg_resources")):
        (modules / found.name).symlink_to(found)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "ROS_DISTRO": "jazzy",
        "PYTHONPATH": str(modules),
        "PIP_NO_INDEX": "1",
    }


def start(repository: Path, environment: dict[str, str]) -> subprocess.Popen:
    return subprocess.Popen(
        [shutil.which("bash"), SCRIPT],
        cwd=repository,
        env=environment,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def setup(repository: Path, environment: dict[str, str]) -> tuple[int, str]:
    process = start(repository, environment)
    messages = process.communicate(timeout=120)[1]
    return process.returncode, messages


def assert_one_line(result: tuple[int, str], *parts: str) -> None:
    code, messages = result
    assert code == 1
    assert len(messages.splitlines()) == 1, messages
    assert all(part in messages for part in ("setup: ", *parts)), messages


def test_the_scripts_parse():
    for script in (SCRIPT, "environment/lock.sh", ".ci/run"):
        subprocess.run(["bash", "-n", script], cwd=ROOT, check=True)


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    subprocess.run(["shellcheck", SCRIPT, "environment/lock.sh", ".ci/run"], cwd=ROOT, check=True)


def test_a_missing_python_is_one_line_that_says_how_to_get_it(repository, bare_machine):
    assert_one_line(setup(repository, bare_machine), "Python 3.11 is missing", "apt install python3.11-venv")
    assert not (repository / ".venv").exists()


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="needs Python 3.11 to take something away from it")
@pytest.mark.parametrize(
    ("loss", "cure"),
    [
        ("import sys; sys.modules['ensurepip'] = None", "apt install python3.11-venv"),
        ("import sysconfig; sysconfig.get_path = lambda name: '/nowhere'", "apt install python3.11-dev"),
    ],
)
def test_a_python_without_venv_or_headers_is_one_line_with_the_cure(repository, bare_machine, tmp_path, loss, cure):
    (tmp_path / "sitecustomize.py").write_text(loss)
    Path(bare_machine["PATH"], "python3.11").symlink_to(Path(sys.base_prefix, "bin/python3.11"))
    assert_one_line(setup(repository, bare_machine | {"PYTHONPATH": str(tmp_path)}), "python3.11 lacks its", cure)
    assert not (repository / ".venv").exists()


@pytest.mark.parametrize(("tool", "cure"), [("c++", "apt install g++"), ("make", "apt install make")])
def test_a_missing_build_tool_is_one_line(repository, bare_machine, tool, cure):
    Path(bare_machine["PATH"], tool).unlink()
    assert_one_line(setup(repository, bare_machine), cure)


def test_a_ros_distro_without_its_installation_is_one_line(repository, bare_machine):
    assert_one_line(setup(repository, bare_machine | {"ROS_DISTRO": "jazzy"}), "source /opt/ros/jazzy/setup.bash")


def test_a_package_that_the_ros_installation_lacks_is_named_with_its_apt_package(repository, ros_machine):
    Path(ros_machine["PYTHONPATH"], "vision_msgs/msg.py").unlink()
    assert_one_line(setup(repository, ros_machine), "lacks vision_msgs", "apt install ros-jazzy-vision-msgs")


@pytest.mark.slow
def test_a_second_run_changes_nothing_and_is_quick(repository, ros_machine):
    assert setup(repository, ros_machine)[0] == 0
    venv = repository / ".venv"
    assert (venv / "bin/vexkd-student-node").exists() and (venv / "bin/vexkd").exists()
    before = {path: path.lstat().st_mtime_ns for path in venv.rglob("*")}

    began = time.monotonic()
    assert setup(repository, ros_machine) == (0, "")
    assert time.monotonic() - began < 2.0
    assert {path: path.lstat().st_mtime_ns for path in venv.rglob("*")} == before


@pytest.mark.slow
def test_a_changed_pin_makes_all_anew_and_a_changed_project_only_its_own_step(repository, ros_machine):
    setup(repository, ros_machine)
    marker = repository / ".venv/left from the first time"
    marker.touch()

    project = repository / "setup.py"
    project.write_text(project.read_text().replace('"vexkd = ', '"renamed = '))
    assert setup(repository, ros_machine)[0] == 0
    assert marker.exists()
    assert (repository / ".venv/bin/renamed").exists() and not (repository / ".venv/bin/vexkd").exists()

    for constraints in repository.glob("environment/constraints-*.txt"):
        constraints.write_text("numpy==1.26.4\n")
    assert setup(repository, ros_machine)[0] == 0
    assert not marker.exists()


@pytest.mark.slow
def test_a_run_killed_half_way_is_made_good_by_the_next(repository, ros_machine):
    killed = start(repository, ros_machine)
    wait_for(lambda: killed.poll() is not None or (repository / ".venv/bin/python").exists(), "a new Python")
    assert killed.poll() is None
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert not (repository / ".venv/packages").exists()

    assert setup(repository, ros_machine)[0] == 0
    assert (repository / ".venv/bin/vexkd-student-node").exists()


@pytest.mark.slow
def test_of_two_runs_at_once_one_works_and_the_other_waits(repository, ros_machine):
    runs = [start(repository, ros_machine) for _ in range(2)]
    messages = [run.communicate(timeout=120)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sum("making .venv" in text for text in messages) == 1
    assert sum("waiting for it" in text for text in messages) == 1
