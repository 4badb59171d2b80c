"""NVIDIA's driver, asked by its own library: neither PyTorch nor a tool need be there, nor be able to use it."""

import ctypes
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libcuda.so.1"
NVIDIA, DISPLAY_CLASS = "0x10de", "0x03"  # of PCI; VGA and 3D controllers
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_… of cuda.h
NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """name: as the driver gives it. capability: compute capability, (9, 0) for example."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class Driver:
    """cuda: newest CUDA that the driver runs, (12, 4) for example. gpus: those that this process may use."""

    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...] = ()


def read_driver() -> Driver | None:
    """Ask the driver; None where there is none."""
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        return None
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) or not version.value:  # a toolkit's stub gives an error
        return None
    return Driver((version.value // 1000, version.value % 1000 // 10), _gpus(library))


def _gpus(library: ctypes.CDLL) -> tuple[Gpu, ...]:
    count = ctypes.c_int()
    if library.cuInit(0) or library.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    gpus = []
    for number in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        name = ctypes.create_string_buffer(NAME_BYTES)
        library.cuDeviceGet(ctypes.byref(device), number)
        library.cuDeviceGetName(name, NAME_BYTES, device)
        library.cuDeviceGetAttribute(ctypes.byref(major), CAPABILITY_MAJOR, device)
        library.cuDeviceGetAttribute(ctypes.byref(minor), CAPABILITY_MINOR, device)
        gpus.append(Gpu(name.value.decode(errors="replace"), (major.value, minor.value)))
    return tuple(gpus)


def nvidia_on_pci(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    """True if the machine has an NVIDIA GPU, with or without a driver."""
    return any(
        vendor.read_text().strip() == NVIDIA and (vendor.parent / "class").read_text().startswith(DISPLAY_CLASS)
        for vendor in devices.glob("*/vendor")
    )
