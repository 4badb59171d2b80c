"""Inherited weights: parts of a student begin with its teacher's, narrowed where the student is narrower.

Source: SparseKD (Yang et al., NeurIPS 2022): equal layers are copied; a narrower layer takes the channels of largest
batch-norm scale |γ|, and the layer after it reads these. Which pairs can do so is checked in inherit_check.py.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.heads.center import CenterHead
from vexkd_model.heads.segmentation import SegmentationHead
from vexkd_model.model import BevModel


@torch.no_grad()
def inherit_weights(student: BevModel, teacher: BevModel, parts: Iterable[str]) -> None:
    """Overwrite the named parts of the student, attributes of BevModel, with the teacher's weights; the rest stays."""
    for part in parts:
        ours, theirs = getattr(student, part), getattr(teacher, part)
        match theirs:
            case BevEncoder():
                narrow_bev_encoder(ours, theirs, low_channels(ours, theirs))
            case CenterHead():
                narrow_center_head(ours, theirs, high_channels(student.bev, teacher.bev))
            case SegmentationHead():
                narrow_chain(ours.layers, theirs.layers, high_channels(student.bev, teacher.bev))
            case _:  # sensors' encoders and other modules: of equal shapes
                ours.load_state_dict(theirs.state_dict())


def low_channels(student: BevEncoder, teacher: BevEncoder) -> Tensor:
    """Channels of the teacher's low-level map that stand for the student's, int64 (C_low of the student,).

    What makes the map is not narrowed, and may end without a batch norm: channels are ranked by the length of the
    weights with which the teacher's BEV encoder reads them.
    """
    ours, theirs = _layers(student.stages[0])[0], _layers(teacher.stages[0])[0]
    assert isinstance(ours, nn.Conv2d), "a stage begins with a convolution"
    return strongest(theirs.weight.flatten(2).norm(dim=(0, 2)), ours.in_channels)


def high_channels(student: nn.Module, teacher: nn.Module) -> Tensor:
    """Channels of the teacher's high-level map that stand for the student's, int64 (C_high of the student,).

    A narrowed BEV encoder keeps the strongest ones of each lateral.
    """
    if student.channels == teacher.channels:
        return torch.arange(cast(int, teacher.channels))
    assert isinstance(student, BevEncoder) and isinstance(teacher, BevEncoder), "check_inherit refuses other encoders"
    kept, first = [], 0
    for ours, theirs in zip(student.laterals, teacher.laterals, strict=True):
        (own, _), (_, norm) = _layers(ours), _layers(theirs)
        assert not isinstance(own, nn.BatchNorm2d) and isinstance(norm, nn.BatchNorm2d)
        kept.append(first + strongest(norm.weight, own.out_channels))
        first += norm.num_features
    return torch.cat(kept)


def narrow_bev_encoder(student: BevEncoder, teacher: BevEncoder, reads: Tensor) -> None:
    """Copy a BEV encoder into one with as many stages and layers, but perhaps fewer channels.

    reads: channels of the teacher's low-level map that correspond to the student's.
    """
    for i, stage in enumerate(student.stages):
        reads = narrow_chain(stage, teacher.stages[i], reads)
        narrow_chain(student.laterals[i], teacher.laterals[i], reads)


def narrow_center_head(student: CenterHead, teacher: CenterHead, reads: Tensor) -> None:
    """Copy a CenterHead into one with the same tasks and kind of branches, but perhaps fewer channels.

    reads: channels of the teacher's high-level map that correspond to the student's.
    """
    shared = narrow_chain(student.shared, teacher.shared, reads)
    for ours, theirs in zip(student.tasks, teacher.tasks, strict=True):
        for own, its in zip(_branches(ours), _branches(theirs), strict=True):
            narrow_chain(own, its, shared)


def narrow_chain(student: nn.Module, teacher: nn.Module, reads: Tensor) -> Tensor:
    """Copy a sequence of convolutions and batch norms; return the teacher's output channels, int64, that are kept.

    A convolution without batch norm keeps all. reads: channels of the teacher's input that correspond to the
    student's.
    """
    theirs = _layers(teacher)
    writes = reads
    for own, its, after in zip(_layers(student), theirs, [*theirs[1:], None], strict=True):
        if isinstance(its, nn.BatchNorm2d):
            own.load_state_dict(
                {
                    name: value[writes] if value.ndim else value  # but for the count of batches
                    for name, value in its.state_dict().items()
                }
            )
            continue
        assert not isinstance(own, nn.BatchNorm2d), "both have the same layers"
        reads = writes
        writes = (
            strongest(after.weight, own.out_channels)
            if isinstance(after, nn.BatchNorm2d)
            else torch.arange(its.out_channels, device=its.weight.device)
        )
        rows, columns = (reads, writes) if isinstance(its, nn.ConvTranspose2d) else (writes, reads)
        weights = {"weight": its.weight[rows][:, columns]}
        own.load_state_dict(weights if its.bias is None else weights | {"bias": its.bias[writes]})
    return writes


def strongest(scale: Tensor, count: int) -> Tensor:
    """Indices int64 (count,) of the largest |scale| (C,), in ascending order, so that keeping all changes nothing."""
    return scale.abs().argsort(descending=True, stable=True)[:count].sort().values


def _layers(chain: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d]:
    return [layer for layer in chain.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d)]


def _branches(task: nn.Module) -> Sequence[nn.Module]:
    """List the parallel branches of a task head; a head without branches is its own."""
    branches = dict(task.named_children()).get("branches")
    return list(branches.values()) if isinstance(branches, nn.ModuleDict) else [task]
