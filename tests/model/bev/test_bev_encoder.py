"""The BEV encoder keeps the grid, whatever its size."""

import pytest
import torch

from vexkd_model.bev.encoder import BevEncoder


@pytest.mark.parametrize("size", [(16, 16), (15, 18), (7, 5)])
def test_the_high_level_map_lies_on_the_grid_of_the_low_level_map(size):
    encoder = BevEncoder(4, [4, 6, 8], [1, 2, 1], 3).eval()
    assert encoder(torch.rand(2, 4, *size)).shape == (2, 9, *size)


def test_what_happens_in_one_corner_stays_near_that_corner():
    torch.manual_seed(0)
    encoder = BevEncoder(1, [4, 4], [1, 1], 4).eval()
    nothing, corner = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    corner[0, 0, 2, 3] = 1.0
    difference = (encoder(corner) - encoder(nothing)).abs().amax(dim=1)[0]
    assert difference[2, 3] > 0
    assert difference[12:].max() == 0 and difference[:, 12:].max() == 0


def test_a_batch_equals_its_samples_one_by_one():
    torch.manual_seed(0)
    encoder = BevEncoder(2, [4, 6], [1, 1], 3).eval()
    maps = torch.rand(3, 2, 10, 12)
    together = encoder(maps)
    for i in range(3):
        torch.testing.assert_close(together[i], encoder(maps[i : i + 1])[0])
