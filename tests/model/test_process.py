"""What a process is told is what its libraries then do; asked in a process of its own."""

import json
import subprocess
import sys

import pytest

MEASURE = """
import json
import numpy as np
from threadpoolctl import threadpool_info
from vexkd_model.process import set_up_process
{limit}
print(json.dumps([pool["num_threads"] for pool in threadpool_info() if pool["internal_api"] == "openblas"]))
"""


def openblas_threads(limit: str) -> list[int]:
    output = subprocess.run([sys.executable, "-c", MEASURE.format(limit=limit)], capture_output=True, text=True,
                            check=True, env={"OPENBLAS_NUM_THREADS": "2", "PATH": ""}).stdout  # fmt: skip
    return json.loads(output)


def test_openblas_keeps_to_one_thread():
    without = openblas_threads("")
    if not without:
        pytest.skip("this NumPy does not use OpenBLAS")
    if set(without) == {1}:
        pytest.skip("this machine has one core")
    assert set(openblas_threads("set_up_process()")) == {1}
