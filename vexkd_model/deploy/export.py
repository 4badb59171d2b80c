"""Export of a model with torch.export, as one graph of tensor operations for other runtimes."""

import torch
from torch.export import Dim, ExportedProgram, ShapesCollection

from vexkd_model.data.batch import CameraBatch, PastCameras, SensorBatch
from vexkd_model.model import BevModel

for _kind in (CameraBatch, PastCameras, SensorBatch):
    torch.export.register_dataclass(_kind, serialized_type_name=_kind.__name__)


def export_program(model: BevModel, sensors: SensorBatch) -> ExportedProgram:
    """Export `model` in eval mode, for any number of points and the batch size and images of `sensors`.

    The result's `.module()(sensors)` computes the same as `model(sensors)`.
    """
    shapes = ShapesCollection()
    if sensors.points.shape[0] > 1:  # a camera student has no points
        shapes[sensors.points] = {0: Dim.DYNAMIC}
        shapes[sensors.sample] = {0: Dim.DYNAMIC}
    with torch.no_grad():
        return torch.export.export(
            model.eval(), (sensors,), strict=False, dynamic_shapes=shapes.dynamic_shapes(model, (sensors,))
        )
