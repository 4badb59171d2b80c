"""The segmentation head samples where the map's cells are; its loss is the published formula."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vexkd_model.config.frame import FrameConfig
from vexkd_model.heads.segmentation import SegmentationHead, sampling_grid, segmentation_loss
from vexkd_model.types import SEGMENTATION_GRID, BevGrid

FEATURE_GRID = BevGrid(-54.0, 54.0, -54.0, 54.0, 0.9)


def sampler():
    """Make the head without its convolutions, to see their input."""
    head = SegmentationHead(2, 4, FEATURE_GRID, SEGMENTATION_GRID)
    head.layers = torch.nn.Identity()
    return head


def test_maps_of_x_and_y_are_read_at_the_centres_of_the_maps_cells():
    y, x = (torch.from_numpy(centre).float() for centre in FEATURE_GRID.centres())
    ramps = torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]
    sampled = sampler()(ramps)[0].numpy()
    expected = np.stack(np.meshgrid(*SEGMENTATION_GRID.centres(), indexing="ij"))
    np.testing.assert_allclose(sampled, expected, atol=1e-4)


def test_half_precision_training_reads_at_the_same_places():
    y, x = (torch.from_numpy(centre) for centre in FEATURE_GRID.centres())
    steps = torch.stack(torch.meshgrid(y > 31.0, x > 40.0, indexing="ij"))[None].float()  # 0 and 1: exact in bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        coarse = sampler()(steps.bfloat16())
    torch.testing.assert_close(coarse.float(), sampler()(steps), atol=0.005, rtol=0)


def test_cells_beyond_the_features_read_zero():
    grid = sampling_grid(BevGrid(-10, 10, -10, 10, 1.0), BevGrid(-20, 20, -20, 20, 1.0))
    sampled = torch.nn.functional.grid_sample(torch.ones(1, 1, 20, 20), grid, align_corners=False)[0, 0]
    assert sampled[:9].abs().max() == 0 and sampled[11:29, 11:29].min() == 1


def test_logits_have_one_plane_a_class_on_the_map_grid():
    assert SegmentationHead(8, 4, FEATURE_GRID, SEGMENTATION_GRID)(torch.rand(2, 8, 120, 120)).shape == (2, 6, 200, 200)


def test_the_loss_is_the_focal_formula_over_known_cells_summed_over_classes():
    random = np.random.default_rng(0)
    logits, target = random.normal(0, 3, (2, 6, 5, 7)), random.random((2, 6, 5, 7)) < 0.3
    known = random.random((2, 5, 7)) < 0.7
    probability = 1 / (1 + np.exp(-logits))
    of_truth = np.where(target, probability, 1 - probability)
    expected = (-((1 - of_truth) ** 2) * np.log(of_truth) * known[:, None]).sum(axis=(0, 2, 3)) / known.sum()
    loss = segmentation_loss(*(torch.from_numpy(a) for a in (logits, target.astype(np.float64), known)))
    assert loss.item() == pytest.approx(expected.sum(), rel=1e-5)


def test_unknown_cells_have_no_gradient_and_an_unknown_map_costs_nothing():
    logits = torch.randn(1, 6, 4, 4, requires_grad=True)
    known = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert segmentation_loss(logits, torch.ones(1, 6, 4, 4), known).item() == 0
    known[0, 1, 2] = True
    segmentation_loss(logits, torch.ones(1, 6, 4, 4), known).backward()
    touched = logits.grad.abs().sum(dim=1)[0] > 0
    assert touched.nonzero().tolist() == [[1, 2]]


def test_saturated_logits_give_a_finite_loss():
    logits = torch.tensor([1e4, -1e4]).repeat(6).reshape(1, 6, 1, 2).requires_grad_()
    target = torch.tensor([0.0, 1.0]).expand(1, 6, 1, 2)
    loss = segmentation_loss(logits, target, torch.ones(1, 1, 2, dtype=torch.bool))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_a_first_layer_on_the_features_sees_them_before_they_are_sampled():
    torch.manual_seed(0)
    late = SegmentationHead(3, 4, FEATURE_GRID, SEGMENTATION_GRID, sample_late=True).eval()
    high = torch.rand(1, 3, *FEATURE_GRID.shape)
    hidden = torch.nn.functional.grid_sample(
        late.layers[0](high), sampling_grid(FEATURE_GRID, SEGMENTATION_GRID), align_corners=False
    )
    torch.testing.assert_close(late(high), late.layers[2](late.layers[1](hidden)))
    published = SegmentationHead(3, 4, FEATURE_GRID, SEGMENTATION_GRID)
    assert late.state_dict().keys() == published.state_dict().keys()


def test_a_head_of_another_frame_is_read_where_base_links_cells_lie_in_it():
    frame = FrameConfig(translation=(0.94, -0.3, 1.84), rotation=(-1.4, 0.3, -90.0))
    head = SegmentationHead(2, 4, FEATURE_GRID, SEGMENTATION_GRID, network_from_base=frame.network_from_base())
    head.layers = torch.nn.Identity()
    y, x = (torch.from_numpy(centre).float() for centre in FEATURE_GRID.centres())
    ramps = torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]
    network_y, network_x = head(ramps)[0].numpy()
    cells_y, cells_x = np.meshgrid(*SEGMENTATION_GRID.centres(), indexing="ij")
    on_road = np.stack([cells_x, cells_y, np.zeros_like(cells_x)], axis=-1).reshape(-1, 3)
    turn = Rotation.from_euler("xyz", frame.rotation, degrees=True)
    expected = turn.inv().apply(on_road - frame.translation).reshape(200, 200, 3)
    np.testing.assert_allclose(network_x, expected[..., 0], atol=1e-3)
    np.testing.assert_allclose(network_y, expected[..., 1], atol=1e-3)
