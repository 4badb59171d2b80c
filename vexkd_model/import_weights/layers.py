"""Changes from the tensors of a published layer to those of ours: other orders, other inputs, other norms.

Every change here is exact: the same input gives the same output, up to rounding, with the one exception that `rgb`
states.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vexkd_model.camera.backbone import RGB_MEAN, RGB_STD
from vexkd_model.lidar.pillars import POINT_SCALE

Change = Callable[[Tensor, torch.Size], Tensor]  # their weight, the shape of ours → our weight
POINT_EPS = 1e-3  # of published batch norms in LiDAR encoders and SECOND; elsewhere they have PyTorch's 1e-5


def same(weight: Tensor, shape: torch.Size) -> Tensor:
    return weight


class Made(NamedTuple):
    """Recipe of one tensor of ours: `make` of their tensors, in the order of `theirs`, and of the shape of ours."""

    ours: str
    theirs: tuple[str, ...]
    make: Callable[..., Tensor]


@dataclass(frozen=True)
class Layer:
    """A layer of theirs and the one of ours that it becomes.

    theirs, ours: what stands before "weight" and "bias" in a tensor's name, the dot included.
    norm: the same for the batch norm after it, theirs and ours; a bias before a norm, which ours never has, moves into
        the running mean. eps: of their norm.
    tensors: what the layer holds.
    weight: what the weight goes through. rows: what its output channels go through before that, in weight and bias.
    constant: of their weight and the tensors `constant_of`, (C,): what their layer gives to each channel beside what
        ours does; it moves into the running mean, too.
    """

    theirs: str
    ours: str
    norm: tuple[str, str] | None = None
    eps: float = 1e-5
    tensors: tuple[str, ...] = ("weight", "bias")
    weight: Change = same
    rows: Callable[[Tensor], Tensor] = lambda tensor: tensor
    constant: Callable[..., Tensor] | None = None
    constant_of: tuple[str, ...] = ()

    def made(self, published: Collection[str], eps_of: Callable[[str], float]) -> Iterator[Made]:
        """published: the names of their tensors. eps_of: that of a norm of ours, by the name of its module."""
        for name in self.tensors if self.norm is None else ("weight",):
            change = self.weight if name == "weight" else same
            yield Made(self.ours + name, (self.theirs + name,),
                       lambda tensor, shape, change=change: change(self.rows(tensor), shape))
        if self.norm is not None:
            yield from self._norm(published, eps_of(self.norm[1].removesuffix(".")))

    def _norm(self, published: Collection[str], eps: float) -> Iterator[Made]:
        theirs, ours = self.norm
        if eps == self.eps:
            yield Made(ours + "weight", (theirs + "weight",), same)
        else:  # the weight makes good for the other epsilon, so that the statistics stay what they are
            yield Made(ours + "weight", (theirs + "weight", theirs + "running_var"),
                       lambda weight, variance, shape: weight * ((variance + eps) / (variance + self.eps)).sqrt())
        yield Made(ours + "bias", (theirs + "bias",), same)
        yield Made(ours + "running_var", (theirs + "running_var",), same)
        yield self._running_mean(theirs, ours, self.theirs + "bias" in published)

    def _running_mean(self, theirs: str, ours: str, has_bias: bool) -> Made:
        sources = [theirs + "running_mean"]
        sources += [self.theirs + "bias"] if has_bias else []
        sources += [self.theirs + "weight", *self.constant_of] if self.constant else []

        def make(mean: Tensor, *others: Tensor) -> Tensor:
            *others, _ = others  # the shape
            if has_bias:
                mean = mean - others.pop(0)
            return mean - self.constant(*others) if self.constant else mean

        return Made(ours + "running_mean", tuple(sources), make)


Layers = Iterator[Layer]


def conv_norm(conv: str, norm: str, ours: str, eps: float = 1e-5, **changes) -> Layer:
    """A convolution and its batch norm; ours are the first two of an nn.Sequential."""
    return Layer(conv, f"{ours}0.", (norm, f"{ours}1."), eps, **changes)


def turned(weight: Tensor, shape: torch.Size) -> Tensor:
    """A 2D convolution on maps (B, C, X, Y), as BEVFusion's are, → on (B, C, Y, X). Exact for every stride."""
    return weight.transpose(-1, -2) if weight.dim() == 4 else weight


def squeezed(weight: Tensor, shape: torch.Size) -> Tensor:
    """A convolution of kernel 1 over a sequence (out, in, 1) → a linear layer (out, in)."""
    return weight.flatten(2).squeeze(-1) if weight.dim() == 3 else weight


def transposed_convolution(weight: Tensor, shape: torch.Size) -> Tensor:
    """A 1×1 convolution (out, in, 1, 1) → the 1×1 transposed convolution (in, out, 1, 1) that SECOND's FPN has here.

    Published FPNs have one or the other; where in and out are equal, it is taken as the convolution that CenterPoint
    and BEVFusion have. Larger kernels are transposed convolutions in both.
    """
    if weight.shape[-2:] != (1, 1) or (weight.shape == shape and shape[0] != shape[1]):
        return weight
    return weight.transpose(0, 1)


def spconv(weight: Tensor, shape: torch.Size) -> Tensor:
    """spconv 1's and mmcv's (kz, ky, kx, in, out), or spconv 2's, → spconv 2's (out, kz, ky, kx, in).

    The shape tells them apart unless the channels are as many as the kernel is wide, 3; then it is taken as spconv 2's.
    """
    return weight if weight.shape == shape else weight.permute(4, 0, 1, 2, 3)


def spconv_x_first(weight: Tensor, shape: torch.Size) -> Tensor:
    """The same of BEVFusion, whose voxels are counted (x, y, z)."""
    out, kz, ky, kx, channels = shape
    return spconv(weight, torch.Size((out, kx, ky, kz, channels))).permute(0, 3, 2, 1, 4)


def of_scaled_points(change: Change) -> Change:
    """The first layer of a voxel encoder: theirs takes metres, 0 … 255 and seconds, ours takes them · POINT_SCALE."""
    def changed(weight: Tensor, shape: torch.Size) -> Tensor:
        weight = change(weight, shape)
        return weight / weight.new_tensor(POINT_SCALE) if weight.shape[-1] == len(POINT_SCALE) else weight

    return changed


PILLAR_Z_CENTRE = -1.0  # of the published pillars, −5 … 3 m


def pillar_features(pillar: float) -> tuple[Change, Callable[[Tensor], Tensor]]:
    """The first layer of a pillar encoder, and the constant of it; `pillar`: ours [m].

    Theirs: the point, its offset from the mean, and from the centre in x, y [m]; in mmdetection3d also in z. Ours: the
    same with the point · POINT_SCALE and the offset from the centre in pillars, without z.
    """
    def changed(weight: Tensor, shape: torch.Size) -> Tensor:
        if weight.shape[1] not in (10, 11):
            return weight
        points = weight[:, :5].clone()
        if weight.shape[1] == 11:
            points[:, 2] += weight[:, 10]
        return torch.cat([points / weight.new_tensor(POINT_SCALE), weight[:, 5:8], weight[:, 8:10] * pillar], dim=1)

    def constant(weight: Tensor) -> Tensor:
        return -PILLAR_Z_CENTRE * weight[:, 10] if weight.shape[1] == 11 else weight.new_zeros(len(weight))

    return changed, constant


def rgb(weight: Tensor, shape: torch.Size) -> Tensor:
    """The first convolution of images (B − mean_R) / std_R, G, (R − mean_B) / std_B → of properly normalised R, G, B.

    With `rgb_constant`, exact wherever the kernel sees no padding, which is not normalised: all but the outermost rows
    and columns.
    """
    red, blue = RGB_STD[0], RGB_STD[2]
    return torch.stack([weight[:, 2] * (red / blue), weight[:, 1], weight[:, 0] * (blue / red)], dim=1)


def rgb_constant(weight: Tensor) -> Tensor:
    """(C,): what the means that stand at the wrong colours add."""
    apart = RGB_MEAN[0] - RGB_MEAN[2]
    return weight[:, 2].sum((1, 2)) * (apart / RGB_STD[2]) - weight[:, 0].sum((1, 2)) * (apart / RGB_STD[0])


def patches_in_blocks(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Swin's patch merging: mmdetection's order of inputs, channel by channel → Microsoft's, patch by patch.

    The four patches are (row, column) (0, 0), (0, 1), (1, 0), (1, 1) in theirs and (0, 0), (1, 0), (0, 1), (1, 1) here.
    """
    return tensor.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]].transpose(-1, -2).flatten(-2)


def of_bias(weight: Tensor, bias: Tensor) -> Tensor:
    """(C,): what a layer of kernel 1 makes of a bias of its input."""
    return weight.flatten(1) @ bias


def third(i: int, tensor: Tensor) -> Tensor:
    """Queries, keys or values of (3 C, …)."""
    return tensor.chunk(3)[i]


def lidar_first(camera_channels: int) -> Change:
    """A convolution of camera and LiDAR maps, in BEVFusion's order, → of LiDAR and camera maps."""
    return lambda weight, shape: torch.cat([weight[:, camera_channels:], weight[:, :camera_channels]], dim=1)


# Boxes before mmdetection3d 1.0, in CenterPoint and BEVFusion: (width, length, height), and −yaw − π/2 for yaw, so that
# our sine is minus their cosine, and our cosine minus their sine.
def length_first(tensor: Tensor) -> Tensor:
    """(3, …) rows width, length, height → length, width, height."""
    return tensor[[1, 0, 2]]


def yaw_from_x(tensor: Tensor) -> Tensor:
    """(2, …) rows sin, cos of −yaw − π/2 → of yaw."""
    return -tensor[[1, 0]]
