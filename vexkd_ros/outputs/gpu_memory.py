"""How much of a GPU's memory this process holds."""

import torch


def gpu_memory(device: str) -> dict[str, str]:
    """Held by tensors now and at most so far, and free for anybody [MB]; nothing for the CPU."""
    if not device.startswith("cuda"):
        return {}
    held, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
    figures = {"held": held, "peak": peak, "free": torch.cuda.mem_get_info(device)[0]}
    return {f"GPU memory {name} [MB]": f"{count / 1e6:.0f}" for name, count in figures.items()}
