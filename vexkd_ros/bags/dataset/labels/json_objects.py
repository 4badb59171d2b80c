"""JSON of annotation tools: Euler angles, and objects with the keys that are read, whatever others there are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict
from scipy.spatial.transform import Rotation

from vexkd_model.config.section import Section
from vexkd_model.errors import UserError


class JsonObject(Section):
    """Object of another tool's JSON, which may have keys of no interest here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def read_json(file: Path) -> Any:
    """Read a file; UserError where it is not JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not JSON ({error}); export it again") from None


def euler_pose(position: tuple[float, float, float], rotation: tuple[float, float, float]) -> np.ndarray:
    """Pose as float64 (4, 4) of a position [m] and three.js' Euler angles [rad]: about x, then the new y, the new z."""
    pose = np.eye(4)
    finite = np.isfinite(rotation).all()
    pose[:3, :3] = Rotation.from_euler("XYZ", rotation).as_matrix() if finite else np.nan
    pose[:3, 3] = position
    return pose
