"""Detections and markers: a frame's cost as rclpy's objects, and straight to CDR.

python benchmarks/serialisation.py
"""

import argparse
import time
from statistics import median

import numpy as np
from machine import machine
from rclpy.serialization import serialize_message
from std_msgs.msg import Header

from vexkd_model.types import DETECTION_CLASSES, Boxes, Prediction
from vexkd_ros.outputs.cdr import detections_cdr, is_message, markers_cdr
from vexkd_ros.outputs.detections import detections_message
from vexkd_ros.outputs.markers import markers_message

WANTED = 5.0  # times as fast


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boxes", type=int, default=300, help="detections of the frame (default: 300)")
    parser.add_argument("--repeats", type=int, default=50, help="of each, in turns (default: 50)")
    arguments = parser.parse_args()
    random, count = np.random.default_rng(1), arguments.boxes
    boxes = Boxes(random.normal(size=(count, 9)).astype(np.float32), random.integers(0, len(DETECTION_CLASSES), count))
    prediction = Prediction(boxes, random.random(count, np.float32), None, None, 0)
    header = Header(frame_id="base_link")
    print(f"{machine()}, {count} boxes, median of {arguments.repeats}\n")
    print("| message | bytes | rclpy [ms] | CDR [ms] | times as fast |\n| --- | ---: | ---: | ---: | ---: |")
    holds = True
    for message, serialise in ((detections_message, detections_cdr), (markers_message, markers_cdr)):
        slow, fast = [], []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            serialize_message(message(prediction, header))
            middle = time.perf_counter()
            serialise(prediction, header)
            slow.append((middle - start) * 1e3)
            fast.append((time.perf_counter() - middle) * 1e3)
        data, ratio = serialise(prediction, header), median(slow) / median(fast)
        holds &= ratio >= WANTED and is_message(data, message(prediction, header))
        print(f"| {message.__name__} | {len(data)} | {median(slow):.2f} | {median(fast):.2f} | {ratio:.1f} |")
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
