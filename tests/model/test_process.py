"""Settings of a process reach its libraries; each is checked in a process of its own."""

import json
import os
import platform
import subprocess
import sys

import pytest

ASK = """
import json, os
import cv2
import numpy as np
from threadpoolctl import threadpool_info
from vexkd_model.process import set_up_process
set_up_process()
print(json.dumps([[pool["num_threads"] for pool in threadpool_info() if pool["internal_api"] == "openblas"],
                  cv2.getNumThreads(), os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"]]))
"""
FORK = """
import os, sys
import cv2
import numpy as np
from vexkd_model.process import set_up_process
image = np.zeros((900, 1600, 3), np.uint8)
cv2.setNumThreads(2)
cv2.GaussianBlur(image, (9, 9), 2)  # starts OpenCV's threads
child = os.fork()
if child == 0:
    set_up_process()
    cv2.GaussianBlur(image, (9, 9), 2)
    os._exit(7)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "2", **environment},
    )


@pytest.mark.parametrize(("given", "cached"), [({}, "32"), ({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "8"}, "8")])
def test_numpy_and_opencv_keep_to_one_thread_and_onednn_to_a_small_cache(given, cached):
    openblas, opencv, capacity = json.loads(python(ASK, **given).stdout)
    assert set(openblas) <= {1}
    assert opencv == 1
    assert capacity == cached


def test_a_worker_forked_from_a_process_with_threads_does_not_wait_for_them():
    assert python(FORK).returncode == 7


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep freed memory")
@pytest.mark.parametrize(
    ("function", "size"), [("keep_freed_memory", 2_000_000), ("keep_all_freed_memory", 50_000_000)]
)
def test_freed_memory_is_used_again_without_asking_the_kernel_for_pages(function: str, size: int) -> None:
    told = python(
        f"""
import json, resource
from vexkd_model.process import {function}

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        [bytearray({size}) for _ in range(10)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
{function}()
faults()
print(json.dumps([before, faults()]))
""",
        PYTHONPATH=os.pathsep.join(sys.path),
    )
    assert told.returncode == 0, told.stderr
    before, after = json.loads(told.stdout)
    assert before > 10_000 and after < 100
