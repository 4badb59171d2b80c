"""Configuration of the frame in which a network works, where that is not base_link."""

from typing import Annotated

import numpy as np
from pydantic import Field, model_validator

from vexkd_model.config.section import Section
from vexkd_model.geometry.transforms import inverse, rotation_from_angles

MAX_TILT_DEG = 10.0

Finite = Annotated[float, Field(allow_inf_nan=False)]


class FrameConfig(Section):
    """Pose of the network's frame in base_link, where its BEV grid lies; the default is base_link itself.

    Published LiDAR networks know the frame of the LiDAR that they were trained with.
    """

    translation: tuple[Finite, Finite, Finite] = Field((0.0, 0.0, 0.0), description="x, y, z of its origin [m]")
    rotation: tuple[Finite, Finite, Finite] = Field(
        (0.0, 0.0, 0.0), description="roll, pitch, yaw [°]: about x, then y, then z of base_link, as in URDF"
    )

    @model_validator(mode="after")
    def _boxes_stand_upright(self) -> "FrameConfig":
        if max(map(abs, self.rotation[:2])) > MAX_TILT_DEG:
            raise ValueError(
                f"rotation: roll and pitch of more than {MAX_TILT_DEG:g}°, and boxes stand upright in both frames; "
                "write roll, pitch, yaw in degrees"
            )
        return self

    def network_from_base(self) -> np.ndarray:
        """Compute the rigid transform, float64 (4, 4), from base_link to the network's frame."""
        base_from_network = np.eye(4)
        base_from_network[:3, :3] = rotation_from_angles(*np.radians(self.rotation))
        base_from_network[:3, 3] = self.translation
        return inverse(base_from_network)
