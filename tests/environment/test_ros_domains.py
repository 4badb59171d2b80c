"""Tests must neither see each other's nodes nor a robot's."""

import os
import subprocess
import sys

REPORT = """
import os
def test_report(tmp_path_factory):
    with open({report!r}, "a") as report:
        report.write(os.environ["PYTEST_XDIST_WORKER"] + " " + os.environ["ROS_DOMAIN_ID"] + " "
                     + os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] + "\\n")
    import time; time.sleep(1)
"""


def test_this_process_has_a_domain_of_its_own_and_stays_on_this_machine():
    assert 1 <= int(os.environ["ROS_DOMAIN_ID"]) <= 101
    assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def test_workers_beside_each_other_have_different_domains(tmp_path):
    conftest = os.path.join(os.path.dirname(__file__), "..", "conftest.py")
    os.symlink(os.path.abspath(conftest), tmp_path / "conftest.py")
    report = tmp_path / "report"
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text(REPORT.format(report=str(report)))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "ROS_"))}
    # A folder of its own: in the common one, pytest first deletes those of earlier runs, which takes a minute.
    words = [
        "--disable-plugin-autoload",
        "-p",
        "xdist",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--basetemp",
        tmp_path / "base",
    ]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words],
        cwd=tmp_path,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    lines = [line.split() for line in report.read_text().splitlines()]
    assert sorted(worker for worker, _, _ in lines) == ["gw0", "gw1"]
    assert len({domain for _, domain, _ in lines}) == 2
    assert {reach for _, _, reach in lines} == {"LOCALHOST"}
