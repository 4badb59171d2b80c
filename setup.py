"""What is installed: two Python packages, their commands, and the package's share folder."""

from collections import defaultdict
from pathlib import Path

from setuptools import find_packages, setup

NAME = "vexkd_ros"
ROOT = Path(__file__).parent


def share_files() -> list[tuple[str, list[str]]]:
    """(folder to install to, files) for launch/, config/ and models/, each at its own place below share/vexkd_ros."""
    folders = defaultdict(list)
    for pattern in ("launch/*.launch.py", "config/**/*", "models/**/*"):
        for path in sorted(ROOT.glob(pattern)):
            if path.is_file():
                relative = path.relative_to(ROOT)
                folders[f"share/{NAME}/{relative.parent}"].append(str(relative))
    return list(folders.items())


setup(
    name=NAME,
    version="0.1.0",
    description="3D detections and bird's-eye-view maps from LiDAR or cameras, as ROS 2 nodes",
    maintainer="VeXKD for ROS 2 maintainers",
    maintainer_email="maintainers@vexkd.org",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["vexkd_ros*", "vexkd_model*"]),
    package_data={"vexkd_ros": ["bags/view.html"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *share_files(),
    ],
    zip_safe=False,
    # For a GPU: the sparse convolution library that belongs to the machine's CUDA.
    extras_require={"cu120": ["spconv-cu120==2.3.6"], "cu126": ["spconv-cu126==2.3.8"]},
    entry_points={
        "console_scripts": [
            "vexkd = vexkd_model.cli:main",
            "student_node = vexkd_ros.student_node:main",
            "comparison_node = vexkd_ros.comparison_node:main",
            "nuscenes_to_bag = vexkd_ros.bags.nuscenes_to_bag:main",
            "bag_player = vexkd_ros.bags.player:main",
            "bag_recorder = vexkd_ros.bags.recorder:main",
            "bag_evaluator = vexkd_ros.bags.evaluator:main",
            "bag_view = vexkd_ros.bags.view:main",
            "doctor = vexkd_ros.doctor.command:main",
        ],
    },
)
