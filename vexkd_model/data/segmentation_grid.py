"""Where maps are told, predicted and scored."""

from vexkd_model.types import BevGrid

SEGMENTATION_GRID = BevGrid(-50.0, 50.0, -50.0, 50.0, 0.5)  # BEVFusion's protocol; also the paper's
