"""What a benchmark's figures were measured on."""

import os
import platform
from pathlib import Path


def machine() -> str:
    """Cores, processor, and how busy it is; ask before the measurement."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())
    return f"{len(os.sched_getaffinity(0))} cores, {model}, load {os.getloadavg()[0]:.2f} before the start"
