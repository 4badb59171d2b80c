"""Fusion by concatenation."""

import torch

from vexkd_model.fusion.concat import ConcatFusion


def test_a_missing_sensor_is_a_map_of_zeros():
    torch.manual_seed(0)
    fusion = ConcatFusion({"lidar": 3, "camera": 2}, 4).eval()
    maps = {"lidar": torch.randn(2, 3, 5, 6), "camera": torch.randn(2, 2, 5, 6)}
    there = {"lidar": torch.tensor([True, True]), "camera": torch.tensor([True, False])}
    zeros = {**maps, "camera": maps["camera"] * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)}
    with torch.no_grad():
        by_hand = fusion.merge(torch.cat([zeros["lidar"], zeros["camera"]], dim=1))
        torch.testing.assert_close(fusion(maps, there), by_hand)
        alone = fusion({"lidar": maps["lidar"]}, {"lidar": there["lidar"]})
    torch.testing.assert_close(alone[1], by_hand[1])


def test_the_order_of_the_sensors_does_not_matter():
    fusion = ConcatFusion({"lidar": 3, "camera": 2}, 4).eval()
    maps = {"lidar": torch.randn(1, 3, 5, 6), "camera": torch.randn(1, 2, 5, 6)}
    present = {sensor: torch.tensor([True]) for sensor in maps}
    assert torch.equal(fusion(maps, present), fusion(dict(reversed(maps.items())), present))
