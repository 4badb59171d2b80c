"""Device `pretend`, which PyTorch takes for one of its own and whose memory and arithmetic are the CPU's.

Importing this registers it, for good, as the backend that PyTorch leaves free for others. Autograd, inference mode,
modules, optimisers and Lightning treat its tensors as a GPU's: an operation on tensors of both devices raises, and so
does NumPy. Autocast casts as on CUDA. Not to be seen on it: speed, asynchrony, kernels that a GPU lacks, and what it
rounds.

A tensor crosses over by DLPack: the same memory, described as another device's.
"""

import ctypes
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from lightning.pytorch.accelerators import Accelerator
from torch import Tensor
from torch.library import Library
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from support.pretend_autocast import register_autocast

NAME = "pretend"
CPU, EXTENSION = 1, 12  # DLDeviceType of dlpack.h: kDLCPU, kDLExtDev
aten = torch.ops.aten
# CUDA takes indices, and numbers without a dimension, from the CPU, too.
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)
# Their answer's value, or shape, is known to the CPU only when the device has got so far.
WAIT = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.unique_dim,
    aten._unique2,
    aten.unique_consecutive,
    aten.equal,
    aten.bincount,
    aten.repeat_interleave,
}


class MixedDevices(RuntimeError):
    """An operation got tensors of both devices."""


class _DlTensor(ctypes.Structure):
    """First fields of DLManagedTensor."""

    _fields_ = [("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32)]


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _described_as(kind: int, tensor: Tensor) -> Tensor:
    """Describe the same memory as one device's or the other's."""
    capsule = torch._C._to_dlpack(tensor.detach().resolve_conj().resolve_neg())
    description = ctypes.cast(_pointer(capsule, b"dltensor"), ctypes.POINTER(_DlTensor)).contents
    description.device_type, description.device_id = kind, 0
    return torch._C._from_dlpack(capsule)


class _Backend(_DummyBackendModule):
    """Module of a device, as far as PyTorch and Lightning ask it."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def set_device(self, device: torch.device) -> None:
        pass

    def synchronize(self) -> None:
        pass


class PretendAccelerator(Accelerator):
    """The device for Lightning, beside SingleDeviceStrategy(DEVICE)."""

    def setup_device(self, device: torch.device) -> None:
        pass

    def teardown(self) -> None:
        pass

    @staticmethod
    def parse_devices(devices: int) -> int:
        return devices

    @staticmethod
    def get_parallel_devices(devices: int) -> list[torch.device]:
        return [DEVICE]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return NAME


def _compute(operation, *args, **kwargs):
    """Compute one operation of the device. What exists for inference mode alone cannot be a view's base: do without."""
    with torch.inference_mode(False):
        return _compute_on_cpu(operation, args, kwargs)


def _compute_on_cpu(operation, args, kwargs):
    if _heard is not None and _waits(operation, args):
        _heard.append((operation.overloadpacket.__name__, _our_line()))
    ours: dict[int, tuple[Tensor, Tensor]] = {}  # (tensor of the CPU, of the device) by the id of the first
    left: list[Tensor] = []

    def there(value):
        if isinstance(value, Tensor):
            if value.device.type == NAME:
                described = _described_as(CPU, value)
                ours[id(described)] = described, value
                return described
            if value.dim():
                left.append(value)
        elif isinstance(value, list | tuple):
            return [there(item) for item in value]
        return value

    def back(made):
        if isinstance(made, Tensor):
            return ours[id(made)][1] if id(made) in ours else _described_as(EXTENSION, made)
        return type(made)(map(back, made)) if isinstance(made, list | tuple) else made

    device = kwargs.pop("device", None)
    cpu_args, cpu_kwargs = [there(value) for value in args], {name: there(value) for name, value in kwargs.items()}
    if operation is aten._copy_from.default:
        cpu_args[1].copy_(cpu_args[0])
        return args[1]
    if left and ours and operation.overloadpacket not in INDEXED:
        raise MixedDevices(f"{operation}: tensors {[tuple(tensor.shape) for tensor in left]} lie on the CPU")
    if operation is aten.resize_.default:
        return _resized(args[0], cpu_args)
    outputs, takes_tensor = _schema(operation)
    if any(tensor and isinstance(value, int | float) for tensor, value in zip(takes_tensor, args, strict=False)):
        operation = operation.overloadpacket  # a number in a tensor's place: PyTorch finds the one that takes it
    if outputs:
        return _into_outputs(operation, outputs, cpu_args, kwargs, cpu_kwargs)
    result = operation(*cpu_args, **cpu_kwargs)
    return result if device is not None and device.type == "cpu" else back(result)


@cache
def _schema(operation) -> tuple[list[str], list[bool]]:
    """Names of the outputs that are given, and whether each argument is a tensor."""
    arguments = operation._schema.arguments
    return [one.name for one in arguments if one.is_out], [isinstance(one.type, torch.TensorType) for one in arguments]


def _waits(operation, args) -> bool:
    packet = operation.overloadpacket
    by_mask = packet in INDEXED and any(index is not None and index.dtype == torch.bool for index in args[1])
    copies = packet is aten._copy_from and not _fetched_alone(*args[:3])
    return by_mask or copies or packet in WAIT


def _fetched_alone(source: Tensor, target: Tensor, non_blocking: bool = False) -> bool:
    """True for a copy that a GPU makes by itself, while the CPU goes on: from pinned memory, or within the GPU."""
    on_device = source.device.type == target.device.type == NAME
    return on_device or (source.is_pinned() and non_blocking)


def _resized(tensor, cpu_args):
    """Memory that came by DLPack cannot grow: give the tensor another."""
    made = torch.empty(cpu_args[1], dtype=tensor.dtype)
    kept = min(made.numel(), tensor.numel())
    made.view(-1)[:kept] = cpu_args[0].reshape(-1)[:kept]
    tensor.data = _described_as(EXTENSION, made)
    return tensor


def _into_outputs(operation, outputs, cpu_args, kwargs, cpu_kwargs):
    made = {name: torch.empty(0, dtype=kwargs[name].dtype) for name in outputs}
    operation(*cpu_args, **{**cpu_kwargs, **made})
    for name in outputs:
        if kwargs[name].shape == made[name].shape:
            cpu_kwargs[name].copy_(made[name])
        else:
            kwargs[name].data = _described_as(EXTENSION, made[name])
    results = tuple(kwargs[name] for name in outputs)
    return results[0] if len(results) == 1 else results


def _convolution(*args):
    return _compute(aten.convolution.default, *args)


def _convolution_backward(gradient, x, weight, stride, padding, dilation, transposed, output_padding, groups, mask):
    geometry = (stride, padding, dilation, transposed, output_padding, groups)
    return _compute(aten.convolution_backward.default, gradient, x, weight, [gradient.shape[1]], *geometry, mask)


_heard: list[tuple[str, str]] | None = None


def _our_line() -> str:
    """Innermost line of vexkd_model that is being run, `file:number`."""
    for frame, number in traceback.walk_stack(sys._getframe()):
        if "/vexkd_model/" in frame.f_code.co_filename:
            return f"{frame.f_code.co_filename.partition('/vexkd_model/')[2]}:{number}"
    return "elsewhere"


@contextmanager
def synchronisations() -> Iterator[list[tuple[str, str]]]:
    """Collect (operation, line of vexkd_model) wherever the CPU would wait for a GPU."""
    global _heard
    _heard = []
    try:
        yield _heard
    finally:
        _heard = None


def _deepcopy(tensor: Tensor, memo: dict) -> Tensor:
    """PyTorch's own allocates memory of the device, which has no allocator, and crashes."""
    if tensor.device.type != NAME:
        return _real_deepcopy(tensor, memo)
    return memo.setdefault(id(tensor), tensor.detach().clone())


def _storage_to_cpu(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """For checkpoints. PyTorch's own sets a CPU tensor to the storage, which it refuses."""
    if storage.device.type != NAME:
        return _real_storage_to_cpu(storage)
    content = bytearray(ctypes.string_at(storage.data_ptr(), storage.nbytes()))
    return torch.frombuffer(content, dtype=torch.uint8).untyped_storage() if content else torch.UntypedStorage(0)


def _pin(tensor: Tensor) -> Tensor:
    """Only remembered: there is no device that would care where in memory a tensor lies."""
    pinned = tensor.clone()
    _pinned.add(pinned.untyped_storage().data_ptr())
    return pinned


_pinned: set[int] = set()
_real_deepcopy = Tensor.__deepcopy__
Tensor.__deepcopy__ = _deepcopy
_real_storage_to_cpu = torch.UntypedStorage.cpu
torch.UntypedStorage.cpu = _storage_to_cpu
Tensor.pin_memory = _pin
Tensor.is_pinned = lambda tensor: tensor.device.type == "cpu" and tensor.untyped_storage().data_ptr() in _pinned
_setup_privateuseone_for_python_backend(NAME, _Backend())
_libraries = Library("_", "IMPL"), Library("aten", "IMPL")  # registered as long as they live
_libraries[0].fallback(_compute, "PrivateUse1")
_libraries[1].impl("convolution_overrideable", _convolution, "PrivateUse1")
_libraries[1].impl("convolution_backward_overrideable", _convolution_backward, "PrivateUse1")
register_autocast(*_libraries)
DEVICE = torch.device(NAME)
