"""Whoever installs this repository, by setup.sh or by rosdep, gets all that it imports, in one version."""

import ast
import re
import sys
from importlib import import_module
from importlib.metadata import EntryPoint
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"vexkd_model", "vexkd_ros", "tests", "support"}

# Where the name to import is not the name to install.
REQUIREMENT_OF = {"cv2": "opencv-python-headless", "yaml": "pyyaml", "nuscenes": "nuscenes-devkit", "PIL": "pillow"}
ROSDEP_KEY_OF = {"numpy": "python3-numpy", "yaml": "python3-yaml"}

# For use without an import: tools, and what a ROS installation needs for launch files, the node's lifecycle services,
# and the checks and tools around its topics.
REQUIRED_AS_TOOLS = {"pytest-timeout", "pytest-xdist", "ruff", "basedpyright"}
REQUIRED_BY_TORCH = {"onnxscript"}  # for its ONNX exporter
REQUIRED_BY_LIGHTNING = {"tensorboard"}  # for its TensorBoardLogger
REQUIRED_BY_DEVKIT = {"pandas", "motmetrics"}  # for its tracking metrics
REPLACEABLE = {"spconv"}  # its CUDA builds have other names, and plain PyTorch does its work without any
DEPENDED_ON_WITHOUT_IMPORT = {"cv_bridge", "sensor_msgs_py", "launch", "launch_ros", "lifecycle_msgs"}


def imports(*folders: str) -> set[str]:
    """Top-level names that the Python files of the folders import, without Python's own, ours and their neighbours."""
    names = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    names.add(node.module.partition(".")[0])
    neighbours = {path.stem for folder in folders for path in (ROOT / folder).rglob("*.py")}
    return names - set(sys.stdlib_module_names) - OURS - neighbours


def pip_name(line: str) -> str:
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line).group()).lower()


def listed(name: str) -> list[str]:
    lines = (ROOT / "environment" / name).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def read_project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has none")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def depends(*tags: str) -> set[str]:
    package = ElementTree.parse(ROOT / "package.xml").getroot()
    return {element.text for tag in tags for element in package.findall(tag)}


def is_ros(module: str) -> bool:
    return module.endswith(("_msgs", "_interfaces")) or module in {
        "rclpy",
        "launch",
        "launch_ros",
        "ament_index_python",
        "cv_bridge",
        "sensor_msgs_py",
        "tf2_py",
        "bondpy",
    }


# Whose tests are skipped without it: an extra of 180 MB, and what no extra can name, for its metadata ask for NumPy 2.
NOT_INSTALLED_HERE = {"openvino", "rerun"}


def test_every_import_is_either_a_requirement_or_a_ros_package_that_package_xml_names():
    requirements = {pip_name(line) for line in listed("requirements.txt")}
    named = depends("exec_depend", "depend", "test_depend")
    for module in sorted(imports("vexkd_model", "vexkd_ros", "launch", "benchmarks", "tests") - NOT_INSTALLED_HERE):
        if is_ros(module):
            assert module in named, f"package.xml lacks {module}"
        else:
            assert pip_name(REQUIREMENT_OF.get(module, module)) in requirements, f"requirements.txt lacks {module}"


def test_what_the_vehicle_imports_from_ros_is_an_exec_depend():
    assert {module for module in imports("vexkd_ros", "launch") if is_ros(module)} <= depends("exec_depend", "depend")


def test_nothing_is_required_that_nobody_uses():
    used = {
        pip_name(REQUIREMENT_OF.get(module, module))
        for module in imports("vexkd_model", "vexkd_ros", "benchmarks", "tests")
    }
    assert {pip_name(line) for line in listed("requirements.txt")} - used == (
        REQUIRED_AS_TOOLS | REQUIRED_BY_TORCH | REQUIRED_BY_DEVKIT
    )
    imported = imports("vexkd_model", "vexkd_ros", "launch")
    keys = imported | {ROSDEP_KEY_OF[module] for module in imported & ROSDEP_KEY_OF.keys()}
    assert depends("exec_depend", "depend") - keys <= DEPENDED_ON_WITHOUT_IMPORT


def test_package_xml_is_valid_and_agrees_with_what_pip_installs():
    catkin_pkg = pytest.importorskip("catkin_pkg.package")
    warnings: list[str] = []
    package = catkin_pkg.parse_package(str(ROOT / "package.xml"), warnings=warnings)
    package.validate(warnings=warnings)
    assert warnings == []
    assert f'NAME = "{package.name}"' in (ROOT / "setup.py").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nname = "{package.name}"' in project and f'\nversion = "{package.version}"' in project
    assert f'\nlicense = {{text = "{package.licenses[0]}"}}' in project


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (
            "install",
            {
                "vexkd",
                "student_node",
                "comparison_node",
                "track_node",
                "ros",
                "doctor",
                "nuscenes_to_bag",
                "bag_to_nuscenes",
                "bag_player",
                "bag_recorder",
                "bag_evaluator",
                "bag_view",
            },
        ),
        (
            "bdist_wheel",
            {
                "vexkd",
                "vexkd-student-node",
                "vexkd-comparison-node",
                "vexkd-track-node",
                "vexkd-ros",
                "vexkd-doctor",
                "vexkd-nuscenes-to-bag",
                "vexkd-bag-to-nuscenes",
                "vexkd-bag-player",
                "vexkd-bag-recorder",
                "vexkd-bag-evaluator",
                "vexkd-bag-view",
            },
        ),
    ],
)
def test_every_command_of_colcon_and_of_a_wheel_leads_to_a_program(command, names, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr("setuptools.setup", lambda **keywords: told.extend(keywords["entry_points"]["console_scripts"]))
    monkeypatch.setattr(sys, "argv", ["setup.py", command])
    run_path(str(ROOT / "setup.py"))
    entries = [EntryPoint(*script.split(" = "), "console_scripts") for script in told]
    assert {entry.name for entry in entries} == names
    monkeypatch.setattr("vexkd_ros.programs.run_program", lambda module: import_module(module).main)
    assert all(callable(entry.load()() if entry.module == "vexkd_ros.programs" else entry.load()) for entry in entries)


def test_a_wheel_brings_every_configuration_that_goes_by_a_bare_name(monkeypatch):
    told = {}
    monkeypatch.setattr("setuptools.setup", lambda **keywords: told.update(keywords["data_files"]))
    monkeypatch.setattr(sys, "argv", ["setup.py", "bdist_wheel"])
    run_path(str(ROOT / "setup.py"))
    for folder in ("config/model", "config/ablation"):
        shipped = sorted(str(path.relative_to(ROOT)) for path in (ROOT / folder).iterdir())
        assert shipped and told[f"share/vexkd_ros/{folder}"] == shipped


def test_a_wheel_requires_what_its_modules_import():
    project = read_project()
    required = {pip_name(line) for line in project["dependencies"]}
    by_bags = {pip_name(line) for line in project["optional-dependencies"]["bags"]}
    optional = {
        pip_name(line) for extra in ("slurm", "onnx", "openvino") for line in project["optional-dependencies"][extra]
    }
    training = {pip_name(REQUIREMENT_OF.get(module, module)) for module in imports("vexkd_model")} - optional
    vehicle = {pip_name(REQUIREMENT_OF.get(module, module)) for module in imports("vexkd_ros") if not is_ros(module)}
    assert required == training - REPLACEABLE | REQUIRED_BY_LIGHTNING
    assert by_bags == vehicle - required - {"rerun"}


def test_a_wheel_with_its_extras_requires_what_setup_sh_installs():
    project = read_project()
    extras = project["optional-dependencies"]
    chosen = [extras[name] for name in ("bags", "onnx", "slurm", "tracking", "dev")]
    required = {pip_name(line) for lines in (project["dependencies"], *chosen) for line in lines}
    assert required | {"setuptools"} == {pip_name(line) for line in listed("requirements.txt")}


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_pinned_version_is_one_that_a_wheel_accepts(python):
    requirements = pytest.importorskip("packaging.requirements")
    project = read_project()
    pinned = {pip_name(line): line.partition("==")[2] for line in listed(f"constraints-{python}.txt")}
    every = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    assert {pip_name(line) for line in every} - pinned.keys() == ({"spconv-cu120"} if python == "3.12" else set())
    assert [
        line
        for line in every
        if pip_name(line) in pinned and not requirements.Requirement(line).specifier.contains(pinned[pip_name(line)])
    ] == []


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_every_requirement_has_one_exact_version(python):
    lines = listed(f"constraints-{python}.txt")
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    pinned = [pip_name(line) for line in lines]
    assert len(set(pinned)) == len(pinned)
    files = ["requirements.txt"]
    if python == "3.11":
        files += ["requirements-ros.txt", "requirements-no-deps.txt"]
    assert [name for file in files for name in listed(file) if pip_name(name) not in pinned] == []


@pytest.mark.skipif(
    find_spec("torch") is None or sys.version_info[:2] not in {(3, 10), (3, 11), (3, 12)},
    reason="not an environment of setup.sh",
)
def test_what_is_installed_here_is_what_is_pinned():
    from importlib.metadata import PackageNotFoundError, version

    pins = dict(line.split("==") for line in listed(f"constraints-{sys.version_info[0]}.{sys.version_info[1]}.txt"))
    for name, wanted in pins.items():
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
        assert installed == wanted, name
