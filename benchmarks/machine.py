"""Machine on which a benchmark's figures are measured; apart because each benchmark is a script of its own."""

import os

from vexkd_model.machine import processor, usable_cores


def machine() -> str:
    """Describe cores, processor and load; call it before the measurement."""
    return f"{usable_cores()} cores, {processor()}, load {os.getloadavg()[0]:.2f} before the start"
