"""Masks on a grid coarser than the maps: of every size, and straight between the queries."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from vexkd_model.distill.learned_masks import LearnedMasks
from vexkd_model.types import BevGrid


def masks_of(cells, stride, random=False):
    torch.manual_seed(2)
    half = cells / 2
    grid = BevGrid(x_min=-half, x_max=half, y_min=-half, y_max=half, cell=1.0)
    return LearnedMasks(grid, {"low": 6}, 8, blocks=1, heads=2, points=2, feedforward=8, stride=stride, random=random)


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize(("cells", "stride"), [(12, 1), (12, 4), (10, 4), (7, 3), (5, 9)])
def test_a_mask_covers_the_map_at_every_stride(cells, stride, random):
    masks = masks_of(cells, stride, random)
    mask = masks("low", torch.randn(8, cells, cells), torch.randn(3, 6, cells, cells), [])
    assert mask.shape == (3, 1, cells, cells) and mask.min() > 0 and mask.max() < 1
    assert (masks.queries["low"].shape == (8, *masks.shape)) if random else not masks.queries


def test_between_the_queries_the_logit_is_bilinear():
    masks, logits = masks_of(12, 4), []
    masks.generators["low"].output.register_forward_hook(lambda _, given, made: logits.append(made.detach()))
    mask = masks("low", torch.randn(8, 12, 12), torch.randn(1, 6, 12, 12), [])
    centres = (np.arange(12) + 0.5) / 4 - 0.5
    expected = map_coordinates(
        logits[0][0, 0].double().numpy(), np.meshgrid(centres, centres, indexing="ij"), order=1, mode="nearest"
    )
    np.testing.assert_allclose(mask.logit()[0, 0].detach().numpy(), expected, atol=1e-4)


def test_a_coarse_query_is_the_mean_of_its_cells():
    masks, given = masks_of(12, 4), []
    masks.generators["low"].register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    query = torch.randn(8, 12, 12)
    masks("low", query, torch.randn(1, 6, 12, 12), [])
    torch.testing.assert_close(given[0], query.unflatten(2, (3, 4)).unflatten(1, (3, 4)).mean(dim=(2, 4)))
