"""What a benchmark's figures were measured on."""

import os

from vexkd_model.machine import processor, usable_cores


def machine() -> str:
    """Cores, processor, and how busy it is; ask before the measurement."""
    return f"{usable_cores()} cores, {processor()}, load {os.getloadavg()[0]:.2f} before the start"
