"""Description of the machine that figures come from: processor, cores, memory and GPU."""

import os
import platform
from pathlib import Path

import torch

GIBIBYTE = 2**30


def machine_kind() -> dict[str, str | int | None]:
    """Describe this kind of machine for JSON, without anything that names the machine itself. gpu: null without."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": processor(), "cores": usable_cores(), "memory_gib": round(memory / GIBIBYTE),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None}  # fmt: skip


def processor() -> str:
    """Model name of the processor."""
    return next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")), platform.processor())


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
