"""BEV grid of the ground truth and the evaluation of map segmentation."""

from vexkd_model.types import BevGrid

SEGMENTATION_GRID = BevGrid(-50.0, 50.0, -50.0, 50.0, 0.5)  # BEVFusion's protocol; also the paper's
