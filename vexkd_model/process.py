"""Settings of a process that trains or infers: threads and memory."""

import ctypes
import os
from collections.abc import Mapping

import cv2
import torch
from threadpoolctl import ThreadpoolController

CACHED_PRIMITIVES = "32"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -3, -4, -8  # of glibc's malloc.h
KEPT_BYTES, LARGEST_BYTES = 256 << 20, 32 << 20


def set_up_process() -> None:
    """Keep NumPy and OpenCV from taking cores, and oneDNN from taking memory. Call it before the first tensor.

    A call of NumPy or OpenCV computes in the thread that makes it: the matrices and images here are small, OpenBLAS
    keeps its threads spinning for milliseconds after each product, and OpenCV's wait for one another, on cores that
    decode the next image or run the network meanwhile; a frame took twice as long to load. OpenCV is told 0, which
    leaves its threads alone, not 1, which joins them: in a forked worker they do not exist, and it would wait for ever.

    oneDNN, which computes for PyTorch on CPUs, keeps what it compiled for the last 1024 shapes. No two clouds have as
    many points, so that a training in bfloat16 grew by 13 MB a step, to 11 GB; with 32 it held 1.6 GB after 370 steps
    and was no slower. A value in the environment stands.

    On a GPU, cuDNN would round the factors of a float32 convolution to 10 bits (TF32); bfloat16 is what is fast there.
    """
    torch.backends.cudnn.allow_tf32 = False
    ThreadpoolController().select(internal_api="openblas").limit(limits=1)
    cv2.setNumThreads(0)
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", CACHED_PRIMITIVES)


def keep_freed_memory() -> None:
    """Let the C library use freed memory again, up to 256 MB of it, instead of giving it back to the kernel.

    Code that makes and frees buffers of a megabyte for every message otherwise takes all of their pages anew from the
    kernel: half of the time that writing a bag took. All threads share one heap: with one each, what the receiving
    thread freed did not serve the working one, and a node grew in steps of 8 to 30 MB for minutes. Without glibc,
    nothing changes.
    """
    _mallopt({M_ARENA_MAX: 1, M_TRIM_THRESHOLD: KEPT_BYTES, M_MMAP_THRESHOLD: LARGEST_BYTES})


def keep_all_freed_memory() -> None:
    """Let the C library use all freed memory again, whatever its size: for a training, whose steps are alike.

    Every map of a step otherwise takes its pages anew from the kernel: 6 to 22 % of a step's time on a virtual machine.
    """
    _mallopt({M_TRIM_THRESHOLD: -1, M_MMAP_MAX: 0})


def _mallopt(settings: Mapping[int, int]) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for setting, value in settings.items():
            mallopt(setting, value)
