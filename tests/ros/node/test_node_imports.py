"""What the node needs to start, and nothing that only training needs: seconds of every start on a vehicle."""

import subprocess
import sys

ONLY_FOR_TRAINING = {"nuscenes", "pyarrow", "lightning", "transformers", "matplotlib", "shapely", "tensorboard",
                     "torchmetrics", "rosbags"}  # fmt: skip


def test_the_node_imports_nothing_that_only_training_needs():
    done = subprocess.run([sys.executable, "-c", "import sys, vexkd_ros.student_node; print(*sys.modules)"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert {"torch", "rclpy"} <= loaded
    assert not loaded & ONLY_FOR_TRAINING
