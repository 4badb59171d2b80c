"""Share folder, programs and Python version of the package: what pyproject.toml cannot say, or colcon read there."""

import sys
from collections import defaultdict
from pathlib import Path

import setuptools

NAME = "vexkd_ros"
ROOT = Path(__file__).parent
PROGRAMS = (
    "student_node",
    "comparison_node",
    "track_node",
    "nuscenes_to_bag",
    "bag_to_nuscenes",
    "bag_player",
    "bag_recorder",
    "bag_evaluator",
    "bag_view",
    "ros",
    "doctor",
)  # functions of vexkd_ros/programs.py

# That of Ubuntu 22.04 is older, and would install a package UNKNOWN without programs.
if int(setuptools.__version__.partition(".")[0]) < 61:
    sys.exit(
        f"{NAME}: setuptools {setuptools.__version__} does not read pyproject.toml; run colcon with the Python of "
        'environment/setup.sh: .venv/bin/python "$(type -P colcon)" build'
    )


def share_files() -> list[tuple[str, list[str]]]:
    """(folder to install to, files) for launch/, config/ and models/, each at its own place below share/vexkd_ros."""
    folders = defaultdict(list)
    for pattern in ("launch/*.launch.py", "config/**/*", "models/**/*"):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                relative = path.relative_to(ROOT)
                folders[f"share/{NAME}/{relative.parent}"].append(str(relative))
    return list(folders.items())


def programs() -> list[str]:
    """Name the console scripts: bag_player for `ros2 run vexkd_ros bag_player`, vexkd-bag-player on the PATH of a pip
    environment, where a short name would be everybody's."""
    by_colcon = not {"install", "develop"}.isdisjoint(sys.argv)  # pip calls the build backend instead
    return [
        "vexkd = vexkd_model.cli:main",
        *(
            f"{name if by_colcon else 'vexkd-' + name.replace('_', '-')} = vexkd_ros.programs:{name}"
            for name in PROGRAMS
        ),
    ]


setuptools.setup(
    python_requires=">=3.10",
    entry_points={"console_scripts": programs()},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        # `colcon build --symlink-install` runs setup.py beside links to nothing but the packages and these files.
        (f"share/{NAME}", ["package.xml", "pyproject.toml"]),
        *share_files(),
    ],
)
