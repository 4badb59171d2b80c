"""The machine: processor, cores, memory and GPU, and what they are fast at."""

import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from vexkd_model.errors import UserError
from vexkd_model.types import Precision

GIBIBYTE = 2**30


def machine_kind() -> dict[str, str | int | None]:
    """Describe this kind of machine for JSON, without anything that names the machine itself. gpu: null without."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor(),
        "cores": usable_cores(),
        "memory_gib": round(memory / GIBIBYTE),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def processor() -> str:
    """Model name of the processor."""
    return next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def choose_device(name: str) -> torch.device:
    """Device of a name, cpu, cuda or cuda:N; for `auto`, the GPU where PyTorch can use it, else the CPU.

    UserError for one that cannot be used here.
    """
    if name == "auto":
        return torch.device("cuda" if _gpu_is_usable() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {name}: cannot be used here ({reason}); try auto or cpu, or see `vexkd env`") from None
    return device


def _gpu_is_usable() -> bool:
    if not torch.cuda.is_available():
        return False
    return has_code_for(torch.cuda.get_device_capability(), torch.cuda.get_arch_list())


def has_code_for(capability: tuple[int, int], kernels: Sequence[str]) -> bool:
    """True if there is code for a GPU: compiled for its major version, or PTX, "compute_…", which drivers compile.

    kernels: what PyTorch was built for, "sm_90" for example.
    """
    for kernel in kernels:
        kind, _, number = kernel.partition("_")
        built = divmod(int(re.sub(r"\D", "", number) or 0), 10)
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False


def device_text(device: torch.device) -> str:
    """Device in words, for logs."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def has_bfloat16(device: torch.device) -> bool:
    """True if the device multiplies bfloat16 matrices faster than float32 ones, by instructions of its own."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16"))


def in_bfloat16(precision: Precision, device: torch.device) -> bool:
    """True if a precision means bfloat16 on the device; for `auto`, if the device has instructions for it.

    Without them, it is many times slower than float32.
    """
    return has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
