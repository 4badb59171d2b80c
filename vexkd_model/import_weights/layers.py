"""Conversion of a published layer's tensors to ours: other orders, other inputs, other norms.

Every change here is exact: the same input gives the same output, up to rounding, with the one exception that
`rgb_from_bgr` states.
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


def unchanged(weight: Tensor, shape: torch.Size) -> Tensor:
    return weight


def unchanged_rows(tensor: Tensor) -> Tensor:
    return tensor


class TensorRecipe(NamedTuple):
    """Recipe of one tensor of ours: `make` takes the published ones, in the order of `theirs`, and our shape."""

    ours: str
    theirs: tuple[str, ...]
    make: Callable[..., Tensor]


@dataclass(frozen=True)
class Layer:
    """Pair of a published layer and the layer of ours that takes its tensors.

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
    weight: Change = unchanged
    rows: Callable[[Tensor], Tensor] = unchanged_rows
    constant: Callable[..., Tensor] | None = None
    constant_of: tuple[str, ...] = ()

    def recipes(self, published: Collection[str], eps_of: Callable[[str], float]) -> Iterator[TensorRecipe]:
        """Yield the recipe of each tensor of ours.

        published: names of the published tensors. eps_of: epsilon of a norm of ours, by the name of its module.
        """
        for name in self.tensors if self.norm is None else ("weight",):
            change = self.weight if name == "weight" else unchanged
            yield TensorRecipe(
                self.ours + name,
                (self.theirs + name,),
                lambda tensor, shape, change=change: change(self.rows(tensor), shape),
            )
        if self.norm is not None:
            yield from self._norm(*self.norm, published, eps_of(self.norm[1].removesuffix(".")))

    def _norm(self, theirs: str, ours: str, published: Collection[str], eps: float) -> Iterator[TensorRecipe]:
        if eps == self.eps:
            yield TensorRecipe(ours + "weight", (theirs + "weight",), unchanged)
        else:  # the weight makes good for the other epsilon, so that the statistics stay what they are
            yield TensorRecipe(
                ours + "weight",
                (theirs + "weight", theirs + "running_var"),
                lambda weight, variance, shape: weight * ((variance + eps) / (variance + self.eps)).sqrt(),
            )
        yield TensorRecipe(ours + "bias", (theirs + "bias",), unchanged)
        yield TensorRecipe(ours + "running_var", (theirs + "running_var",), unchanged)
        yield self._running_mean(theirs, ours, self.theirs + "bias" in published)

    def _running_mean(self, theirs: str, ours: str, has_bias: bool) -> TensorRecipe:
        sources = [theirs + "running_mean"]
        sources += [self.theirs + "bias"] if has_bias else []
        sources += [self.theirs + "weight", *self.constant_of] if self.constant else []

        def make(mean: Tensor, *others: Tensor) -> Tensor:
            *rest, _ = others  # the shape
            if has_bias:
                mean = mean - rest.pop(0)
            return mean - self.constant(*rest) if self.constant else mean

        return TensorRecipe(ours + "running_mean", tuple(sources), make)


Layers = Iterator[Layer]


def conv_norm(conv: str, norm: str, ours: str, eps: float = 1e-5, **changes) -> Layer:
    """Pair a convolution and its batch norm; ours are the first two of an nn.Sequential."""
    return Layer(conv, f"{ours}0.", (norm, f"{ours}1."), eps, **changes)


def transpose_xy(weight: Tensor, shape: torch.Size) -> Tensor:
    """Convert a 2D convolution on maps (B, C, X, Y), such as BEVFusion's, to (B, C, Y, X); exact for every stride."""
    return weight.transpose(-1, -2) if weight.dim() == 4 else weight


def linear_from_sequence(weight: Tensor, shape: torch.Size) -> Tensor:
    """Convert a convolution of kernel 1 over a sequence (out, in, 1) to a linear layer (out, in)."""
    return weight.flatten(2).squeeze(-1) if weight.dim() == 3 else weight


def transposed_from_convolution(weight: Tensor, shape: torch.Size) -> Tensor:
    """Convert a 1×1 convolution (out, in, 1, 1) to the transposed one (in, out, 1, 1) of our SECOND FPN.

    Published FPNs have one or the other; where in and out are equal, it is taken as the convolution that CenterPoint
    and BEVFusion have. Larger kernels are transposed convolutions in both.
    """
    if weight.shape[-2:] != (1, 1) or (weight.shape == shape and shape[0] != shape[1]):
        return weight
    return weight.transpose(0, 1)


def spconv(weight: Tensor, shape: torch.Size) -> Tensor:
    """Convert weights of spconv 1 and mmcv (kz, ky, kx, in, out), or of spconv 2, to spconv 2's (out, kz, ky, kx, in).

    The shape tells them apart unless the channels are as many as the kernel is wide, 3; then it is taken as spconv 2's.
    """
    return weight if weight.shape == shape else weight.permute(4, 0, 1, 2, 3)


def spconv_x_first(weight: Tensor, shape: torch.Size) -> Tensor:
    """Convert weights of BEVFusion, whose voxels are counted (x, y, z), to spconv 2's (out, kz, ky, kx, in)."""
    out, kz, ky, kx, channels = shape
    return spconv(weight, torch.Size((out, kx, ky, kz, channels))).permute(0, 3, 2, 1, 4)


def scale_points(change: Change) -> Change:
    """Convert a voxel encoder's first layer by `change` and from metres, 0 … 255 and seconds to those · POINT_SCALE."""

    def changed(weight: Tensor, shape: torch.Size) -> Tensor:
        weight = change(weight, shape)
        return weight / weight.new_tensor(POINT_SCALE) if weight.shape[-1] == len(POINT_SCALE) else weight

    return changed


PILLAR_Z_CENTRE = -1.0  # of the published pillars, −5 … 3 m


def pillar_features(pillar: float) -> tuple[Change, Callable[[Tensor], Tensor]]:
    """Return the change of a pillar encoder's first layer, and its constant; `pillar`: size of ours [m].

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


def rgb_from_bgr(weight: Tensor, shape: torch.Size) -> Tensor:
    """Convert a first convolution from images (B − mean_R) / std_R, G, (R − mean_B) / std_B to normalised R, G, B.

    With `rgb_from_bgr_constant`, exact wherever the kernel sees no padding, which is not normalised: all but the
    outermost rows and columns.
    """
    red, blue = RGB_STD[0], RGB_STD[2]
    return torch.stack([weight[:, 2] * (red / blue), weight[:, 1], weight[:, 0] * (blue / red)], dim=1)


def rgb_from_bgr_constant(weight: Tensor) -> Tensor:
    """Constant (C,) that the means add by standing at the wrong colours."""
    apart = RGB_MEAN[0] - RGB_MEAN[2]
    return weight[:, 2].sum((1, 2)) * (apart / RGB_STD[2]) - weight[:, 0].sum((1, 2)) * (apart / RGB_STD[0])


def merge_patch_by_patch(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Reorder the inputs of Swin's patch merging from channel by channel, as mmdetection's, to patch by patch.

    The patches are (row, column) (0, 0), (0, 1), (1, 0), (1, 1) in theirs and (0, 0), (1, 0), (0, 1), (1, 1) here.
    """
    return tensor.unflatten(-1, (-1, 4))[..., [0, 2, 1, 3]].transpose(-1, -2).flatten(-2)


def output_of_bias(weight: Tensor, bias: Tensor) -> Tensor:
    """Output (C,) of a layer of kernel 1 for a bias of its input."""
    return weight.flatten(1) @ bias


def qkv_part(i: int, tensor: Tensor) -> Tensor:
    """Slice the queries, keys or values (i = 0, 1, 2) out of (3 C, …)."""
    return tensor.chunk(3)[i]


def lidar_first(camera_channels: int) -> Change:
    """Reorder a convolution's inputs from camera and LiDAR maps, BEVFusion's order, to LiDAR and camera maps."""
    return lambda weight, shape: torch.cat([weight[:, camera_channels:], weight[:, :camera_channels]], dim=1)


# Boxes before mmdetection3d 1.0, in CenterPoint and BEVFusion: (width, length, height), and −yaw − π/2 for yaw, so that
# our sine is minus their cosine, and our cosine minus their sine.
def length_width_height(tensor: Tensor) -> Tensor:
    """Reorder rows (3, …) from width, length, height to length, width, height."""
    return tensor[[1, 0, 2]]


def sin_cos_of_yaw(tensor: Tensor) -> Tensor:
    """Convert rows (2, …) from sin, cos of −yaw − π/2 to those of yaw."""
    return -tensor[[1, 0]]
