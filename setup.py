"""Share folder and Python version of the package: what pyproject.toml cannot say, or colcon cannot read there."""

import sys
from collections import defaultdict
from pathlib import Path

import setuptools

NAME = "vexkd_ros"
ROOT = Path(__file__).parent

# That of Ubuntu 22.04 is older, and would install a package UNKNOWN without programs.
if int(setuptools.__version__.partition(".")[0]) < 61:
    sys.exit(f"{NAME}: setuptools {setuptools.__version__} does not read pyproject.toml; run colcon with the Python of "
             'environment/setup.sh: .venv/bin/python "$(type -P colcon)" build')


def share_files() -> list[tuple[str, list[str]]]:
    """(folder to install to, files) for launch/, config/ and models/, each at its own place below share/vexkd_ros."""
    folders = defaultdict(list)
    for pattern in ("launch/*.launch.py", "config/**/*", "models/**/*"):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                relative = path.relative_to(ROOT)
                folders[f"share/{NAME}/{relative.parent}"].append(str(relative))
    return list(folders.items())


setuptools.setup(python_requires=">=3.10", data_files=[
    ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
    # `colcon build --symlink-install` runs setup.py beside links to nothing but the packages and these files.
    (f"share/{NAME}", ["package.xml", "pyproject.toml"]),
    *share_files(),
])
