"""Reading of a PointCloud2 beside a copy of its bytes, of the usual layout and of one that is read number by number.

python benchmarks/read_cloud.py
"""

import argparse
import time
from array import array
from statistics import median

import numpy as np
from machine import machine
from sensor_msgs.msg import PointCloud2, PointField

from vexkd_model.process import keep_freed_memory, set_up_process
from vexkd_ros.inputs.pointcloud import read_cloud

WANTED = 1.3  # times a copy


def cloud(points: int, first: int) -> PointCloud2:
    """x, y, z and intensity in float32, z first where `first` is 2, then a ring number: 18 bytes a point."""
    names = ["x", "y", "z", "intensity"]
    names.insert(0, names.pop(first))
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate(names)]
    data = np.zeros((points, 18), np.uint8)
    data[:, :16] = np.random.default_rng(0).uniform(1, 50, (points, 4)).astype(np.float32).view(np.uint8)
    layout = {"height": 1, "width": points, "point_step": 18, "row_step": 18 * points}
    return PointCloud2(fields=fields, data=array("B", data.tobytes()), **layout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=34_000, help="of the cloud (default: 34000)")
    parser.add_argument("--repeats", type=int, default=200, help="of each, in turns (default: 200)")
    arguments = parser.parse_args()
    keep_freed_memory()
    set_up_process()
    print(f"{machine()}, {arguments.points} points, processor time, median of {arguments.repeats}\n")
    print("| layout | copy [ms] | read [ms] | times a copy |\n| --- | ---: | ---: | ---: |")
    ratios = []
    for layout, first in (("x, y, z, intensity", 0), ("z, x, y, intensity", 2)):
        message, copies, reads = cloud(arguments.points, first), [], []
        for _ in range(arguments.repeats):
            start = time.thread_time()
            np.frombuffer(message.data, np.uint8).copy()
            middle = time.thread_time()
            read_cloud(message)
            copies.append((middle - start) * 1e3)
            reads.append((time.thread_time() - middle) * 1e3)
        ratios.append(median(reads) / median(copies))
        print(f"| {layout} | {median(copies):.3f} | {median(reads):.3f} | {ratios[-1]:.1f} |")
    return 0 if ratios[0] <= WANTED else 1


if __name__ == "__main__":
    raise SystemExit(main())
