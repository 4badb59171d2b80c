"""Settings of a process that trains or infers: threads and memory."""

import ctypes
import os

import cv2
import torch
from threadpoolctl import ThreadpoolController

CACHED_PRIMITIVES = "32"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
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
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
