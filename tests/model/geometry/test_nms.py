"""Rotated IoU against Shapely, suppression against a plain Python loop over Shapely's polygons."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon

from vexkd_model.geometry.boxes import corners_bev
from vexkd_model.geometry.nms import circle_nms, iou_3d, rotated_iou_bev, rotated_nms


def box(x=0.0, y=0.0, length=4.0, width=2.0, yaw=0.0):
    return [x, y, 0.0, length, width, 1.5, yaw]


def tensor(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def shapely_iou(a, b):
    a, b = (Polygon(corners_bev(np.array([row], dtype=np.float64))[0]) for row in (a, b))
    shared = a.intersection(b).area
    union = a.area + b.area - shared
    return shared / union if union > 0 else 0.0


def random_boxes(count, seed, extent=30.0):
    random = np.random.default_rng(seed)
    return np.stack(
        [
            random.uniform(-extent, extent, count),
            random.uniform(-extent, extent, count),
            np.zeros(count),
            random.uniform(0.3, 12.0, count),
            random.uniform(0.3, 3.0, count),
            np.full(count, 1.5),
            random.uniform(-np.pi, np.pi, count),
        ],
        axis=1,
    )


def brute_force_nms(overlap, scores, threshold, max_keep):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(overlap(i, j) <= threshold for j in kept):
            kept.append(i)
    return kept[:max_keep]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (box(), box(), 1.0),
        (box(), box(yaw=np.pi), 1.0),
        (box(), box(x=2.0), 1 / 3),
        (box(), box(x=4.0), 0.0),  # touching along an edge
        (box(), box(x=4.0, y=2.0), 0.0),  # touching in a corner
        (box(), box(length=2.0, width=1.0, yaw=0.3), 0.25),  # contained
        (box(), box(yaw=np.pi / 2), 4 / 12),  # a cross
        (
            box(length=2.0),
            box(length=2.0, yaw=np.pi / 4),
            (8 * (np.sqrt(2) - 1)) / (8 - 8 * (np.sqrt(2) - 1)),
        ),  # octagon
        (box(length=0.0), box(), 0.0),
        (box(length=0.0, width=0.0), box(length=0.0, width=0.0), 0.0),
        (box(), box(x=0.5, width=0.0), 0.0),
    ],
)
def test_iou_equals_the_hand_computed_value_in_both_orders(a, b, expected):
    assert rotated_iou_bev(tensor(a), tensor(b)).item() == pytest.approx(expected, abs=1e-12)
    assert rotated_iou_bev(tensor(b), tensor(a)).item() == pytest.approx(expected, abs=1e-12)


coordinate = st.floats(-6, 6) | st.sampled_from([-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0])
side = st.floats(0.05, 12) | st.sampled_from([1.0, 2.0, 4.0])
angle = st.floats(-7, 7) | st.sampled_from([k * np.pi / 4 for k in range(-4, 5)])
any_box = st.builds(box, coordinate, coordinate, side, side, angle)


@settings(max_examples=400, deadline=None)
@given(any_box, any_box)
def test_iou_agrees_with_shapely(a, b):
    assert rotated_iou_bev(tensor(a), tensor(b)).item() == pytest.approx(shapely_iou(a, b), abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(any_box, st.floats(-100, 100), st.floats(-100, 100), st.floats(-1e-7, 1e-7))
def test_nearly_coincident_boxes_overlap_fully(a, x, y, nudge):
    a = [a[0] + x, a[1] + y, *a[2:]]
    moved = [a[0] + nudge, a[1], *a[2:6], a[6] + nudge]
    assert rotated_iou_bev(tensor(a), tensor(moved)).item() == pytest.approx(1.0, abs=1e-4)


@settings(max_examples=100, deadline=None)
@given(any_box, any_box, st.floats(-np.pi, np.pi))
def test_iou_does_not_depend_on_where_the_pair_stands_nor_how_it_is_turned(a, b, turn):
    cos, sin = np.cos(turn), np.sin(turn)
    assume(a[3] * a[4] > 0.1 and b[3] * b[4] > 0.1)
    turned = [[cos * r[0] - sin * r[1] + 50, sin * r[0] + cos * r[1] - 30, *r[2:6], r[6] + turn] for r in (a, b)]
    expected = rotated_iou_bev(tensor(a), tensor(b)).item()
    assert rotated_iou_bev(tensor(turned[0]), tensor(turned[1])).item() == pytest.approx(expected, abs=1e-9)


def test_iou_table_has_one_row_a_box_and_keeps_the_dtype():
    a, b = random_boxes(40, 0, 8.0), random_boxes(30, 1, 8.0)
    iou = rotated_iou_bev(torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32))
    expected = [[shapely_iou(x, y) for y in b] for x in a]
    assert iou.dtype == torch.float32
    np.testing.assert_allclose(iou.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_iou_of_no_boxes_is_an_empty_table(shape):
    a, b = (torch.tensor(random_boxes(count, 0)) for count in shape)
    assert rotated_iou_bev(a, b).shape == shape


def solid(footprint, z, height):
    return [*footprint[:2], z, *footprint[3:5], height, footprint[6]]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (solid(box(), 0, 2), solid(box(), 0, 2), 1.0),
        (solid(box(), 0, 2), solid(box(), 1, 2), 1 / 3),  # half a height up
        (solid(box(), 0, 2), solid(box(x=2.0), 1, 2), 4 / 28),  # half a length and half a height
        (solid(box(), 0, 4), solid(box(), 1, 1), 1 / 4),  # contained
        (solid(box(), 0, 2), solid(box(), 2, 2), 0.0),  # stacked, touching
        (solid(box(), 0, 2), solid(box(), 9, 2), 0.0),
        (solid(box(), 0, 0), solid(box(), 0, 0), 0.0),  # flat
    ],
)
def test_iou_of_volumes_equals_the_hand_computed_value_in_both_orders(a, b, expected):
    assert iou_3d(tensor(a), tensor(b)).item() == pytest.approx(expected, abs=1e-12)
    assert iou_3d(tensor(b), tensor(a)).item() == pytest.approx(expected, abs=1e-12)


def shapely_iou_3d(a, b):
    one, other = (Polygon(corners_bev(np.array([row], dtype=np.float64))[0]) for row in (a, b))
    height = max(0.0, min(a[2] + a[5] / 2, b[2] + b[5] / 2) - max(a[2] - a[5] / 2, b[2] - b[5] / 2))
    shared = one.intersection(other).area * height
    return shared / (one.area * a[5] + other.area * b[5] - shared)


any_solid = st.builds(solid, any_box, st.floats(-2, 2) | st.sampled_from([0.0, 1.0]), side)


@settings(max_examples=300, deadline=None)
@given(any_solid, any_solid)
def test_iou_of_volumes_agrees_with_shapely_times_height(a, b):
    assert iou_3d(tensor(a), tensor(b)).item() == pytest.approx(shapely_iou_3d(a, b), abs=1e-9)


def test_iou_of_volumes_has_one_row_a_box_and_keeps_the_dtype():
    a, b = random_boxes(40, 0, 8.0), random_boxes(30, 1, 8.0)
    a[:, 2], b[:, 2] = np.linspace(-1, 1, 40), np.linspace(1, -1, 30)
    iou = iou_3d(torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32))
    assert iou.dtype == torch.float32
    np.testing.assert_allclose(iou.numpy(), [[shapely_iou_3d(x, y) for y in b] for x in a], atol=1e-5)
    assert iou_3d(torch.tensor(a), torch.tensor(b[:0])).shape == (40, 0)


@pytest.mark.parametrize("extent", [5.0, 40.0])
def test_a_thousand_boxes_are_suppressed_as_by_a_plain_loop(extent):
    boxes, scores = random_boxes(1000, 3, extent), np.random.default_rng(3).random(1000)
    table = rotated_iou_bev(torch.tensor(boxes), torch.tensor(boxes)).numpy()
    expected = brute_force_nms(lambda i, j: table[i, j], scores, 0.2, 150)
    assert rotated_nms(torch.tensor(boxes), torch.tensor(scores), 0.2, 150).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.7])
def test_rotated_nms_keeps_what_a_plain_loop_over_polygons_keeps(seed, threshold):
    boxes, scores = random_boxes(60, seed, 10.0), np.random.default_rng(seed).random(60)
    expected = brute_force_nms(lambda i, j: shapely_iou(boxes[i], boxes[j]), scores, threshold, 25)
    assert rotated_nms(torch.tensor(boxes), torch.tensor(scores), threshold, 25).tolist() == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("radius", [0.2, 3.0])
def test_circle_nms_keeps_what_a_plain_loop_keeps(seed, radius):
    random = np.random.default_rng(seed)
    centres, scores = random.uniform(-10, 10, (80, 2)), random.random(80)
    expected = brute_force_nms(lambda i, j: -np.hypot(*(centres[i] - centres[j])), scores, -radius - 1e-12, 83)
    assert circle_nms(torch.tensor(centres), torch.tensor(scores), radius, 83).tolist() == expected


def test_a_suppressed_box_suppresses_nothing():
    chain = tensor(box(x=0.0), box(x=2.0), box(x=4.0))
    assert rotated_nms(chain, torch.tensor([0.9, 0.8, 0.7]), 0.2, 10).tolist() == [0, 2]
    assert circle_nms(chain, torch.tensor([0.9, 0.8, 0.7]), 2.0, 10).tolist() == [0, 2]


def test_equal_scores_keep_their_order_and_max_keep_cuts_the_worst():
    apart = tensor(*(box(x=10.0 * i) for i in range(5)))
    scores = torch.tensor([0.5, 0.9, 0.5, 0.9, 0.1])
    assert rotated_nms(apart, scores, 0.2, 4).tolist() == [1, 3, 0, 2]
    assert circle_nms(apart, scores, 1.0, 4).tolist() == [1, 3, 0, 2]


def test_nothing_in_nothing_kept():
    nothing = torch.zeros(0, 9)
    assert rotated_nms(nothing, nothing[:, 0], 0.2, 10).shape == (0,)
    assert circle_nms(nothing[:, :2], nothing[:, 0], 1.0, 10).shape == (0,)


@pytest.mark.gpu
def test_a_gpu_keeps_the_same_boxes():
    boxes, scores = torch.tensor(random_boxes(300, 0)), torch.tensor(np.random.default_rng(0).random(300))
    on_gpu = rotated_nms(boxes.cuda(), scores.cuda(), 0.2, 83)
    assert on_gpu.is_cuda
    assert on_gpu.tolist() == rotated_nms(boxes, scores, 0.2, 83).tolist()
