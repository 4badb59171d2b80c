"""Decoding does what its definition says, read cell by cell and pair by pair in plain Python."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon

from vexkd_model.geometry.boxes import corners_bev
from vexkd_model.heads.center import REGRESSION_CHANNELS, TaskMaps
from vexkd_model.heads.decode import CenterDecoder, CircleNms, RotatedNms, along_axis, near_grid
from vexkd_model.types import BevGrid

GRID = BevGrid(-6.0, 6.0, -4.0, 4.0, 0.8)  # 10 rows, 15 columns
TASKS = [[0], [8, 9]]


def random_maps(classes, seed):
    """Logits around 0, centres around their cells, boxes of 0.5 … 4 m; some reach far beyond the grid."""
    random = torch.Generator().manual_seed(seed)
    fields = {
        name: torch.randn(1, channels, *GRID.shape, generator=random) for name, channels in REGRESSION_CHANNELS.items()
    }
    fields["size"] *= 0.6
    fields["offset"] *= torch.where(torch.rand(1, 1, *GRID.shape, generator=random) < 0.1, 20.0, 1.0)
    fields["height"] *= 5
    return TaskMaps(torch.randn(1, classes, *GRID.shape, generator=random), **fields)


def boxes_of(maps, threshold):
    """[(score, channel, box)] of every cell and class above the threshold, best first."""
    found = []
    for channel, row, column in np.ndindex(maps.heatmap.shape[1], *GRID.shape):
        score = 1 / (1 + math.exp(-maps.heatmap[0, channel, row, column]))
        if score < threshold:
            continue
        offset, height, size, heading, velocity = (field[0, :, row, column].tolist() for field in maps[1:6])
        found.append(
            (
                score,
                channel,
                [
                    -6.0 + (column + offset[0]) * 0.8,
                    -4.0 + (row + offset[1]) * 0.8,
                    height[0],
                    *map(math.exp, size),
                    math.atan2(*heading),
                    *velocity,
                ],
            )
        )
    return sorted(found, key=lambda one: -one[0])


def footprint(box, factor=1.0):
    return Polygon(corners_bev(np.array([[*box[:3], box[3] * factor, box[4] * factor, *box[5:]]]))[0])


def iou(a, b):
    shared = a.intersection(b).area
    return shared / (a.area + b.area - shared)


def read_by_definition(maps, threshold, candidates, repeats, max_keep):
    """Candidates that no kept, better one `repeats`, after those far from the grid have gone."""
    kept = []
    for one in boxes_of(maps, threshold)[:candidates]:
        x, y, z = one[2][:3]
        near = -13.2 <= x <= 13.2 and -11.2 <= y <= 11.2 and -10 <= z <= 10
        if near and not any(repeats(better, one) for better in kept):
            kept.append(one)
    return kept[:max_keep]


def scaled_overlap(threshold, scale):
    def repeats(a, b):
        return iou(footprint(a[2], scale[a[1]]), footprint(b[2], scale[b[1]])) > threshold

    return repeats


def within(radius):
    return lambda a, b: math.dist(a[2][:2], b[2][:2]) <= radius


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("nms", "repeats"),
    [
        (RotatedNms(0.2), scaled_overlap(0.2, (1.0, 1.0))),
        (RotatedNms(0.2, (0.7, 0.4)), scaled_overlap(0.2, (0.7, 0.4))),
        (RotatedNms(0.5, (4.5, 9.0)), scaled_overlap(0.5, (4.5, 9.0))),
        (CircleNms(1.1), within(1.1)),
    ],
)
def test_a_task_keeps_what_the_definition_keeps(nms, repeats, seed):
    maps = random_maps(2, seed)
    expected = read_by_definition(maps, 0.4, 130, repeats, 25)
    boxes, scores, labels = CenterDecoder([[8, 9]], GRID, 0.4, 130, [nms], 500, max_per_task=25)([maps])
    assert 5 < len(expected) == len(boxes)
    np.testing.assert_allclose(scores, [score for score, _, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(boxes, [box for _, _, box in expected], rtol=1e-4, atol=1e-4)
    assert labels.tolist() == [8 + channel for _, channel, _ in expected]


def test_each_task_has_its_own_suppression_and_the_best_of_all_come_first():
    maps = [random_maps(1, 7), random_maps(2, 8)]
    decoder = CenterDecoder(TASKS, GRID, 0.3, 100, [CircleNms(2.0), RotatedNms(0.5)], 40, max_per_task=30)
    boxes, scores, labels = decoder(maps)
    alone = [
        CenterDecoder([ids], GRID, 0.3, 100, [nms], 30)([m])
        for m, ids, nms in zip(maps, TASKS, (CircleNms(2.0), RotatedNms(0.5)), strict=True)
    ]
    together = sorted(torch.cat([part[1] for part in alone]).tolist(), reverse=True)[:40]
    assert len(together) == 40 and scores.tolist() == together
    for own_boxes, _, own_labels in alone:
        ours = torch.isin(labels, own_labels)
        assert torch.equal(boxes[ours], own_boxes[: ours.sum()])


def two_pedestrians(apart):
    """Footprints of 0.5 m, `apart` metres between their centres along x, the left one surer."""
    heatmap = torch.full((1, 2, *GRID.shape), -20.0)
    fields = {name: torch.zeros(1, channels, *GRID.shape) for name, channels in REGRESSION_CHANNELS.items()}
    fields["size"] += math.log(0.5)
    fields["heading"][:, 1] = 1.0
    heatmap[0, 0, 5, 7], heatmap[0, 1, 5, 8] = 2.0, 1.0
    fields["offset"][0, 0, 5, 8] = apart / 0.8 - 1
    return TaskMaps(heatmap, **fields)


def test_small_objects_that_never_touch_are_repeats_only_once_they_are_enlarged():
    maps = two_pedestrians(apart=0.6)
    count = [
        len(CenterDecoder([[8, 9]], GRID, 0.1, 100, [nms], 300)([maps])[0])
        for nms in (RotatedNms(0.1), RotatedNms(0.1, (4.5, 4.5)))
    ]
    assert count == [2, 1]


def test_enlarging_is_for_the_comparison_and_not_for_the_answer():
    decoder = CenterDecoder([[8, 9]], GRID, 0.1, 100, [RotatedNms(0.1, (4.5, 9.0))], 300)
    boxes, *_ = decoder([two_pedestrians(apart=0.6)])
    np.testing.assert_allclose(boxes[:, 3:5], 0.5, rtol=1e-6)


def test_a_circle_of_a_task_holds_all_its_classes():
    maps = two_pedestrians(apart=0.6)
    count = [
        len(CenterDecoder([[8, 9]], GRID, 0.1, 100, [CircleNms(radius)], 300)([maps])[0]) for radius in (0.59, 0.61)
    ]
    assert count == [2, 1]


def test_on_the_published_grid_centres_are_kept_to_61_2_m_and_10_m_of_height():
    grid = BevGrid(-54.0, 54.0, -54.0, 54.0, 0.6)
    inside = torch.tensor([[61.1, 0, 0], [-61.1, 61.1, 0], [0, -61.1, 9.9], [0, 0, -9.9]])
    outside = torch.tensor(
        [[61.3, 0, 0], [-61.3, 0, 0], [0, 61.3, 0], [0, -61.3, 0], [0, 0, 10.1], [0, 0, -10.1], [float("nan"), 0, 0]]
    )
    assert near_grid(inside, grid).all() and not near_grid(outside, grid).any()


def test_bfloat16_maps_decode_to_float32_boxes_on_their_cells():
    maps = TaskMaps(*(field.bfloat16() for field in two_pedestrians(apart=0.8) if field is not None))
    boxes, scores, _ = CenterDecoder([[8, 9]], GRID, 0.1, 100, [RotatedNms(0.2)], 300)([maps])
    assert boxes.dtype == scores.dtype == torch.float32
    np.testing.assert_allclose(boxes[:, 0], [-6.0 + 7 * 0.8, -6.0 + 8 * 0.8], atol=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.floats(-math.pi, math.pi), st.floats(-1.4, 1.4), st.floats(0.1, 3.0))
def test_an_axis_corrects_a_heading_and_never_turns_it_round(yaw, error, length):
    """A heading that is off by less than a right angle becomes exact where the axis is."""
    exact = torch.tensor([[math.sin(2 * yaw), math.cos(2 * yaw)]], dtype=torch.float64) * length
    found = along_axis(torch.tensor([[yaw + error]], dtype=torch.float64), exact).item()
    assert math.cos(found - yaw) == pytest.approx(1.0, abs=1e-9)
    assert -math.pi <= found <= math.pi
