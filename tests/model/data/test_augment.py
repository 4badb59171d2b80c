"""One transform moves points, boxes, velocities and the map together."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vexkd_model.data.augment import BevAugmentation
from vexkd_model.geometry.boxes import points_in_boxes
from vexkd_model.types import SEGMENTATION_GRID, Boxes, PastFrame

GRID = SEGMENTATION_GRID
metres = st.floats(-3, 3)
augmentation = st.builds(
    BevAugmentation,
    st.floats(-3.2, 3.2),
    st.floats(0.8, 1.25),
    st.booleans(),
    st.booleans(),
    st.tuples(metres, metres, metres),
)


def some_boxes(seed=0, count=6):
    random = np.random.default_rng(seed)
    values = np.column_stack(
        [
            random.uniform(-20, 20, (count, 2)),
            random.uniform(-1, 1, count),
            random.uniform(1, 8, (count, 3)),
            random.uniform(-3, 3, count),
            random.uniform(-9, 9, (count, 2)),
        ]
    )
    return Boxes(values.astype(np.float32), random.integers(0, 10, count))


@settings(max_examples=80, deadline=None)
@given(augmentation, st.integers(0, 1000))
def test_points_stay_in_the_boxes_that_held_them(moves, seed):
    boxes, random = some_boxes(seed), np.random.default_rng(seed)
    points = random.uniform([-22, -22, -2, 0, 0], [22, 22, 2, 255, 0.5], (3000, 5)).astype(np.float32)
    smaller, larger = (
        np.hstack([boxes.values[:, :3], boxes.values[:, 3:6] * factor, boxes.values[:, 6:]])
        for factor in (0.999, 1.001)
    )
    after = points_in_boxes(moves.points(points), moves.boxes(boxes).values)
    assert (after >= points_in_boxes(points, smaller)).all() and (after <= points_in_boxes(points, larger)).all()


@settings(max_examples=80, deadline=None)
@given(augmentation)
def test_a_velocity_leads_to_the_moved_next_position(moves):
    boxes = some_boxes()
    later = boxes.values.copy()
    later[:, :2] += 0.5 * later[:, 7:9]
    now, then = moves.boxes(boxes).values, moves.boxes(Boxes(later, boxes.labels)).values
    np.testing.assert_allclose(then[:, :2] - now[:, :2], 0.5 * now[:, 7:9], atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(augmentation, st.integers(0, 1000))
def test_the_map_at_a_moved_place_is_what_it_was_there_before(moves, seed):
    random = np.random.default_rng(seed)
    blobs = cv2.GaussianBlur(random.random(GRID.shape), (0, 0), 8)
    mask = blobs > np.median(blobs)
    moved, covered = moves.masks(mask[None], GRID)
    # Two cells from every edge of the blobs, nearest-neighbour rounding cannot matter.
    kernel = np.ones((5, 5), np.uint8)
    sure = (cv2.erode(mask.astype(np.uint8), kernel) + cv2.erode((~mask).astype(np.uint8), kernel)).astype(bool)
    y, x = GRID.centres()
    rows, columns = np.nonzero(sure)
    old = np.column_stack([x[columns], y[rows], np.zeros(len(rows))]).astype(np.float32)
    new = moves.points(old)
    new_columns, new_rows = (np.floor((new[:, :2] - [GRID.x_min, GRID.y_min]) / GRID.cell).astype(int)).T
    inside = (new_columns > 0) & (new_columns < 199) & (new_rows > 0) & (new_rows < 199)
    inside &= (np.abs(old[:, :2]) < 49).all(axis=1)  # the old map's own border
    assert inside.sum() > 1000
    at = new_rows[inside], new_columns[inside]
    assert covered[at].all()
    np.testing.assert_array_equal(moved[0][at], mask[rows[inside], columns[inside]])


def test_what_the_old_map_did_not_cover_is_unknown_and_empty():
    moved, covered = BevAugmentation(translation=(20.0, 0.0, 0.0)).masks(np.ones((2, *GRID.shape), bool), GRID)
    np.testing.assert_array_equal(covered, np.broadcast_to(np.arange(200) >= 40, (200, 200)))
    np.testing.assert_array_equal(moved, np.broadcast_to(covered, moved.shape))


def test_a_quarter_turn_and_a_flip_by_hand():
    car = Boxes(np.array([[10, 2, 1, 4, 2, 1.5, 0, 5, 0]], np.float32), np.array([0]))
    turned = BevAugmentation(rotation=np.pi / 2).boxes(car).values[0]
    np.testing.assert_allclose(turned, [-2, 10, 1, 4, 2, 1.5, np.pi / 2, 0, 5], atol=1e-6)
    mirrored = BevAugmentation(flip_y=True).boxes(car).values[0]
    np.testing.assert_allclose(mirrored, [10, -2, 1, 4, 2, 1.5, 0, 5, 0], atol=1e-6)
    grown = BevAugmentation(scale=2.0, translation=(1, 2, 3)).boxes(car).values[0]
    np.testing.assert_allclose(grown, [21, 6, 5, 8, 4, 3, 0, 10, 0], atol=1e-6)


def test_the_identity_changes_nothing():
    boxes, points = some_boxes(), np.random.default_rng(0).random((50, 5), np.float32)
    np.testing.assert_allclose(BevAugmentation().boxes(boxes).values, boxes.values, atol=1e-6)
    np.testing.assert_array_equal(BevAugmentation().points(points), points)
    masks = np.random.default_rng(0).random((6, *GRID.shape)) < 0.5
    moved, covered = BevAugmentation().masks(masks, GRID)
    np.testing.assert_array_equal(moved, masks)
    assert covered.all()


def test_an_unknown_velocity_stays_unknown():
    values = some_boxes().values
    values[:, 7:] = np.nan
    moved = BevAugmentation(rotation=1.0).boxes(Boxes(values, np.zeros(6, np.int64))).values
    assert np.isnan(moved[:, 7:]).all() and np.isfinite(moved[:, :7]).all()


def test_draws_stay_in_their_ranges_and_use_them():
    rng = np.random.default_rng(0)
    draws = [BevAugmentation.draw(rng, 0.7, 0.1, 0.5, True) for _ in range(400)]
    rotations, scales = np.array([d.rotation for d in draws]), np.array([d.scale for d in draws])
    assert np.abs(rotations).max() <= 0.7 and np.ptp(rotations) > 1.3
    assert scales.min() >= 0.9 and scales.max() <= 1.1 and np.ptp(scales) > 0.18
    assert np.std([d.translation for d in draws]) == pytest.approx(0.5, rel=0.1)
    assert {(d.flip_x, d.flip_y) for d in draws} == {(a, b) for a in (False, True) for b in (False, True)}
    assert not any(BevAugmentation.draw(rng, 0.7, 0.1, 0.5, False).flip_x for _ in range(20))


def test_the_vehicle_moves_alike_in_both_worlds():
    """Where a thing stood in the moved past, brought to the present, is where it stands in the moved present."""
    augmentation = BevAugmentation(rotation=0.7, scale=1.1, flip_x=True, translation=(1.0, -2.0, 0.5))
    now_from_then = np.array([[0.8, -0.6, 0, 4.0], [0.6, 0.8, 0, -1.0], [0, 0, 1, 0.2], [0, 0, 0, 1]])
    moved = augmentation.past(PastFrame((), now_from_then))
    thing = np.array([10.0, 5.0, 1.0, 1.0])  # in the past base_link
    np.testing.assert_allclose(
        moved.now_from_then @ augmentation.matrix @ thing, augmentation.matrix @ now_from_then @ thing
    )
