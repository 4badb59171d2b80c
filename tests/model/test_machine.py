"""The device that is taken: what was asked for, or what this machine can use."""

import pytest
import torch

from vexkd_model.errors import UserError
from vexkd_model.machine import choose_device, device_text, has_code_for
from vexkd_model.process import set_up_process
from vexkd_model.training.processes import trainer_arguments

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")


@WITHOUT_GPU
def test_auto_is_the_cpu_without_a_gpu():
    assert choose_device("auto") == torch.device("cpu") and device_text(choose_device("auto")) == "cpu"
    assert trainer_arguments(1, 1, idle_parameters=False)["accelerator"] == "cpu"


@pytest.mark.gpu
def test_auto_is_the_gpu_that_is_there():
    assert choose_device("auto").type == "cuda" and device_text(choose_device("auto")).startswith("cuda (")
    assert trainer_arguments(1, 1, idle_parameters=False)["accelerator"] == "gpu"
    assert trainer_arguments(1, 1, idle_parameters=False, device="cpu")["accelerator"] == "cpu"


@pytest.mark.parametrize("name", [pytest.param("cuda", marks=WITHOUT_GPU), "gpu"])
def test_a_device_that_cannot_be_used_is_named_with_the_cure(name):
    with pytest.raises(UserError, match=rf"^device {name}: cannot be used here \(.+\); try auto or cpu"):
        choose_device(name)


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((8, 6), ["sm_80", "sm_90"], True),  # an older GPU's code of the same major version
        ((8, 0), ["sm_86"], False),
        ((7, 5), ["sm_80", "sm_90", "compute_90"], False),
        ((12, 0), ["sm_90", "compute_90"], True),  # compiled by the driver
        ((12, 0), ["sm_90", "sm_120a"], True),
        ((12, 0), [], False),
    ],
)
def test_a_gpu_runs_code_of_its_major_version_and_ptx_of_older_ones(capability, kernels, runs):
    assert has_code_for(capability, kernels) is runs


def test_float32_is_not_rounded_on_a_gpu():
    set_up_process()
    assert torch.backends.cudnn.allow_tf32 is False and torch.backends.cuda.matmul.allow_tf32 is False
