"""The machine: processor, cores, memory and GPU, and what they are fast at."""

import os
import platform
from pathlib import Path

import torch

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
