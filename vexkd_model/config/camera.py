"""Configuration of the camera input and the camera encoder: images → low-level BEV map."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vexkd_model.config.section import Count, Positive, Section
from vexkd_model.types import CAMERAS


class ImageAugmentConfig(Section):
    """Image augmentation, drawn anew for every image; the crop's place is drawn where the image is wider than it."""

    zoom: tuple[Positive, Positive] = Field(description="least and most, as ImageConfig.zoom")
    rotation: Annotated[float, Field(ge=0, description="± [rad]")]
    flip: bool

    @model_validator(mode="after")
    def _ordered(self) -> "ImageAugmentConfig":
        if self.zoom[0] > self.zoom[1]:
            raise ValueError(f"zoom is written as [least, most], not {list(self.zoom)}")
        return self


class ImageConfig(Section):
    """Image input: each image is resized, then cropped at its bottom to width × height.

    BEVDet's and BEVFusion's for nuScenes' 1600×900: 704×256, zoom 0.48/0.44 = 1.09; in training a zoom of
    0.38/0.44 = 0.864 to 0.55/0.44 = 1.25, a rotation of ±5.4° = 0.0942, and flips.
    """

    width: Count
    height: Count
    zoom: Positive = Field(description="1 shows the whole width of the image, 2 half of it")
    cameras: tuple[Literal[CAMERAS], ...] = Field(CAMERAS, min_length=1)  # type: ignore[valid-type]
    augment: ImageAugmentConfig

    @model_validator(mode="after")
    def _each_camera_once(self) -> "ImageConfig":
        if list(self.cameras) != [name for name in CAMERAS if name in self.cameras]:
            raise ValueError(f"cameras must be some of {', '.join(CAMERAS)}, each once, in this order")
        return self


class BackboneConfig(Section):
    """Image backbone, from the transformers library."""

    name: Literal["resnet18", "resnet50", "resnet101", "swin_tiny"]
    weights: str = Field(
        description="random, a file in torchvision's or transformers' naming, or a name on the "
        "Hugging Face hub such as microsoft/resnet-50"
    )
    stages: Literal[3, 4] = Field(
        4, description="of the network; 3 where a cell of the fourth, 32 pixels wide, would be larger than most objects"
    )
    frozen_norms: bool = Field(False, description="batch norms keep their statistics and weights, as BEVFormer trains")
    recompute: bool = Field(False, description="activations are computed again in the backward pass: less memory")


class DepthBinsConfig(Section):
    """Depth bins: bin i holds depths from start + i · step on [m]; a pixel is lifted to their middles."""

    start: Positive
    stop: Positive
    step: Positive

    @model_validator(mode="after")
    def _holds_bins(self) -> "DepthBinsConfig":
        bins = (self.stop - self.start) / self.step
        if bins < 2 or abs(bins - round(bins)) > 1e-6:
            raise ValueError(f"{self.start} … {self.stop} m do not divide into two or more bins of {self.step} m")
        return self


class LiftSplatConfig(Section):
    """Lift-splat: each pixel's features at each depth, weighted by its probability, summed in BEV cells."""

    kind: Literal["lift_splat"]
    stride: Literal[8, 16] = Field(description="pixels of the image a feature")
    neck_channels: Count
    bins: DepthBinsConfig
    channels: Count = Field(description="channels of the low-level map")
    z_min: float
    z_max: float
    depth: Literal["plain", "camera_aware", "lidar"] = Field(
        description="plain: one convolution (BEVDet); camera_aware: knows the calibration (BEVDepth); lidar: reads the "
        "LiDAR's depths beside the image (BEVFusion)"
    )
    depth_channels: Count = Field(description="width of the camera_aware network; the others have the neck's")
    depth_loss_weight: Annotated[float, Field(ge=0, description="of supervision by the LiDAR; 0: none")]
    finer: Literal[1, 2] = Field(description="2: cells of half the size are filled, then merged by convolutions")


class BevFormerConfig(Section):
    """BEVFormer-S: BEV queries read the images where the points of their pillar project; without history."""

    kind: Literal["bevformer"]
    levels: Annotated[int, Field(ge=1, le=4, description="image feature maps, from stride 8 on, each half the last")]
    channels: Count
    layers: Count
    heads: Count
    points_z: Annotated[tuple[float, ...], Field(description="heights of a pillar's 1, 2, 4 or 8 points [m]")]
    feedforward: Count
    dropout: Annotated[float, Field(ge=0, lt=1)]
    recompute: bool = Field(False, description="activations are computed again in the backward pass: less memory")

    @model_validator(mode="after")
    def _shares_out(self) -> "BevFormerConfig":
        if self.channels % self.heads:
            raise ValueError(f"channels {self.channels} do not divide by heads {self.heads}")
        if len(self.points_z) not in (1, 2, 4, 8):
            raise ValueError(f"points_z holds {len(self.points_z)} heights; 1, 2, 4 or 8 share eight sampling points")
        return self


class CameraConfig(Section):
    """Camera input and camera encoder."""

    images: ImageConfig
    backbone: BackboneConfig
    view: Annotated[LiftSplatConfig | BevFormerConfig, Field(discriminator="kind")]
    past_frames: Annotated[int, Field(ge=0, le=8, description="keyframes before this one, aligned by ego motion")]

    @model_validator(mode="after")
    def _parts_fit(self) -> "CameraConfig":
        view = self.view
        if isinstance(view, BevFormerConfig) and self.past_frames:
            raise ValueError("past_frames: bevformer is without history here; write 0")
        if isinstance(view, LiftSplatConfig) and view.depth == "lidar" and self.past_frames:
            raise ValueError("past_frames: only the present frame has a LiDAR's depths; write 0, or another view.depth")
        if isinstance(view, LiftSplatConfig) and (self.images.width % view.stride or self.images.height % view.stride):
            raise ValueError(f"images: width and height must be multiples of view.stride, {view.stride}")
        return self
