"""Modality-general fusion: no sensor is special."""

import copy

import pytest
import torch

from vexkd_model.fusion.modality_general import ModalityGeneralFusion
from vexkd_model.types import BevGrid

GRID = BevGrid(-6.0, 6.0, -4.0, 4.0, 1.0)
ROWS, COLUMNS = GRID.shape
CHANNELS = {"lidar": 5, "camera": 3}


def randomised(module):
    """Draw the weights of attention, which start at zero: it would not depend on its query yet."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


@pytest.fixture
def fusion():
    torch.manual_seed(0)
    return randomised(ModalityGeneralFusion(GRID, CHANNELS, 8, blocks=2, heads=2, points=3, feedforward=16)).eval()


@pytest.fixture
def maps():
    torch.manual_seed(1)
    return {sensor: torch.randn(2, channels, ROWS, COLUMNS) for sensor, channels in CHANNELS.items()}


def everywhere(batch=2, **absent):
    return {sensor: torch.tensor([i not in absent.get(sensor, ()) for i in range(batch)]) for sensor in CHANNELS}


def swapped(fusion):
    """Copy a fusion with the parameters of LiDAR and camera exchanged."""
    other = copy.deepcopy(fusion)
    for block in other.blocks:
        block.across["lidar"], block.across["camera"] = block.across["camera"], block.across["lidar"]
    return other


def test_swapping_the_sensors_maps_and_parameters_leaves_the_fused_map_as_it_is(fusion, maps):
    exchanged = {"lidar": maps["camera"], "camera": maps["lidar"]}
    with torch.no_grad():
        expected, found = fusion(maps, everywhere()), swapped(fusion)(exchanged, everywhere())
        unlike = fusion({"lidar": maps["lidar"].flip(0), "camera": maps["camera"]}, everywhere())
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(unlike, expected, atol=1e-3)


def test_the_order_of_the_sensors_does_not_matter(fusion, maps):
    turned = dict(reversed(maps.items()))
    with torch.no_grad():
        torch.testing.assert_close(fusion(turned, everywhere()), fusion(maps, everywhere()))


@pytest.mark.parametrize("missing", CHANNELS)
def test_a_map_that_is_not_there_counts_as_a_sensor_that_saw_nothing(fusion, maps, missing):
    some = {sensor: x for sensor, x in maps.items() if sensor != missing}
    with torch.no_grad():
        without, blind = fusion(some, everywhere()), fusion(maps, everywhere(**{missing: (0, 1)}))
        whole = fusion(maps, everywhere())
    torch.testing.assert_close(without, blind)
    assert not torch.allclose(without, whole, atol=1e-3)


def test_a_sensor_may_be_missing_in_one_sample_of_a_batch(fusion, maps):
    with torch.no_grad():
        mixed = fusion(maps, everywhere(camera=(1,)))
        whole, without = fusion(maps, everywhere()), fusion({"lidar": maps["lidar"]}, everywhere())
    torch.testing.assert_close(mixed[0], whole[0])
    torch.testing.assert_close(mixed[1], without[1])


def test_each_block_is_the_papers_arrangement_of_equation_1(fusion, maps):
    """Written out: the sum over sensors of attention from [Q ; F], norm, feed-forward; then among the queries."""
    block = fusion.blocks[0]
    bev = torch.randn(2, 8, ROWS, COLUMNS)

    def tokens(x):
        return x.permute(0, 2, 3, 1).reshape(len(x), ROWS * COLUMNS, -1)

    def feed(i, x):
        half = block.feed_forwards[i]
        return half.norm(x + half.layers(x))

    with torch.no_grad():
        query = tokens(bev)
        across = sum(
            block.across[s](torch.cat([query, tokens(maps[s])], 2), fusion.centres, [maps[s]]) for s in CHANNELS
        )
        query = feed(0, block.norms[0](query + across))
        as_map = query.reshape(2, ROWS, COLUMNS, 8).permute(0, 3, 1, 2)
        query = feed(1, block.norms[1](query + block.among(query, fusion.centres, [as_map])))
        found = block(bev, fusion.centres, maps, everywhere())
    torch.testing.assert_close(tokens(found), query)


def test_every_cell_has_a_query_of_its_own(fusion):
    assert fusion.query.shape == (8, ROWS, COLUMNS) and fusion.query.requires_grad


def test_computing_activations_again_changes_no_gradient(maps):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        fusion = randomised(ModalityGeneralFusion(GRID, CHANNELS, 8, 2, 2, 3, 16, dropout=0.0, recompute=recompute))
        fusion.train()(maps, everywhere()).square().sum().backward()
        gradients.append({name: p.grad for name, p in fusion.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
        assert gradient.any(), name
