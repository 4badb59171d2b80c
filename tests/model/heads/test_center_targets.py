"""CenterHead: targets decode back to the boxes they were made from, and the losses are the published formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.heads.center import REGRESSION_CHANNELS, CenterHead, TaskMaps
from vexkd_model.heads.center_loss import (
    FIELD_WEIGHTS,
    REGRESSION_WEIGHT,
    center_loss,
    center_targets,
    draw_gaussians,
    gaussian_focal_loss,
    gaussian_radius,
)
from vexkd_model.heads.decode import CenterDecoder, RotatedNms, best_cells
from vexkd_model.types import DETECTION_CLASSES, BevGrid

GRID = BevGrid(-18.0, 18.0, -9.0, 9.0, 0.9)  # 20 rows, 40 columns
TASKS = [[0], [1, 2], [3, 4], [5], [6, 7], [8, 9]]
PEAK = 20.0  # the logit of a centre

coordinate_x, coordinate_y = st.floats(-17.5, 17.5, width=32), st.floats(-8.5, 8.5, width=32)
size = st.floats(0.25, 14.0, width=32)
speed = st.floats(-20, 20, width=32) | st.just(float("nan"))
box = st.tuples(
    coordinate_x,
    coordinate_y,
    st.floats(-3, 3, width=32),
    size,
    size,
    size,
    st.floats(-3.125, 3.125, width=32),
    speed,
    speed,
)
scene = st.lists(st.tuples(box, st.integers(0, len(DETECTION_CLASSES) - 1)), max_size=8)


def tensors(pairs):
    boxes = torch.tensor([row for row, _ in pairs], dtype=torch.float32).reshape(-1, 9)
    return boxes, torch.tensor([label for _, label in pairs], dtype=torch.long)


def ideal_maps(targets, sample=0, grid=GRID):
    """Make a perfect head's output for one sample: certain at the centres, silent elsewhere."""
    heatmap = torch.where(targets.heatmap == 1, PEAK, -PEAK)[sample : sample + 1]
    own = targets.sample == sample
    fields = {}
    for name, channels in REGRESSION_CHANNELS.items():
        flat = torch.zeros(channels, grid.shape[0] * grid.shape[1])
        flat[:, targets.cell[own]] = targets.fields[name][own].T
        fields[name] = flat.reshape(1, channels, *grid.shape)
    return TaskMaps(heatmap, **fields)


def one_a_cell(pairs):
    """Drop boxes of one task that share a cell: a head predicts one box per cell."""
    seen, kept = set(), []
    for row, label in pairs:
        task = next(i for i, ids in enumerate(TASKS) if label in ids)
        x, y = np.float32(row[0]) + np.float32(18.0), np.float32(row[1]) + np.float32(9.0)
        cell = (task, int(x / np.float32(0.9)), int(y / np.float32(0.9)))
        if cell not in seen:
            seen.add(cell)
            kept.append((row, label))
    return kept


@settings(max_examples=150, deadline=None)
@given(scene)
def test_targets_decode_back_to_the_boxes_they_were_made_from(pairs):
    pairs = one_a_cell(pairs)
    boxes, labels = tensors(pairs)
    found, found_labels = [], []
    for ids in TASKS:
        maps = ideal_maps(center_targets([boxes], [labels], ids, GRID))
        decoded, scores, channel = best_cells([maps], GRID, 0.5, 100)[0]
        assert (scores > 0.999).all()
        found.append(decoded)
        found_labels.append(torch.tensor(ids)[channel])
    found, found_labels = torch.cat(found).numpy(), torch.cat(found_labels).numpy()
    assert len(found) == len(pairs)
    for row, label in pairs:
        row = np.array(row)
        distance = np.hypot(*(found[:, :2] - row[:2]).T) + 1e3 * (found_labels != label)
        match = found[distance.argmin()]
        np.testing.assert_allclose(match[:3], row[:3], atol=1e-4)
        np.testing.assert_allclose(match[3:6], row[3:6], rtol=1e-5)
        assert np.cos(match[6] - row[6]) == pytest.approx(1.0, abs=1e-6)
        np.testing.assert_allclose(match[7:], row[7:], atol=1e-5)  # NaN, unknown, stays NaN


def test_targets_of_a_real_keyframe_decode_back_to_its_68_boxes(keyframe_dataroot, tmp_path):
    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    truth = FrameIndex.open(tmp_path, "mini_train")[0].boxes
    boxes, labels = torch.from_numpy(truth.values), torch.from_numpy(truth.labels)
    grid = BevGrid(-81.0, 81.0, -45.0, 45.0, 0.5)  # all of them, and no two of a task in one cell
    maps = [ideal_maps(center_targets([boxes], [labels], ids, grid), grid=grid) for ids in TASKS]
    found, scores, found_labels = CenterDecoder(TASKS, grid, 0.5, 200, [RotatedNms(0.99)] * 6, 500)(maps)
    assert len(found) == 68 and (scores > 0.999).all()
    nearest = (torch.cdist(boxes[:, :3], found[:, :3]) + 1e3 * (labels[:, None] != found_labels)).argmin(dim=1)
    assert len(set(nearest.tolist())) == 68
    torch.testing.assert_close(found[nearest][:, :6], boxes[:, :6], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((found[nearest][:, 6] - boxes[:, 6]).cos(), torch.ones(68))
    assert torch.equal(found_labels[nearest], labels)


@settings(max_examples=60, deadline=None)
@given(st.floats(-60, 60, width=32), st.floats(-60, 60, width=32))
def test_a_box_is_a_target_exactly_when_its_centre_lies_on_the_grid(x, y):
    boxes = torch.tensor([[x, y, 0, 4, 2, 1.5, 0, 0, 0]])
    targets = center_targets([boxes], [torch.tensor([0])], [0], GRID)
    inside = -18 <= x < 18 and -9 <= y < 9
    if min(abs(x - 18), abs(y - 9)) > 1e-5:  # float32 rounds the border's own neighbours
        assert len(targets.cell) == inside == int((targets.heatmap == 1).sum())


def test_a_task_sees_only_its_own_classes_each_in_its_channel():
    boxes = torch.zeros(3, 9)
    boxes[:, 0], boxes[:, 3:6] = torch.tensor([-9.0, 0.0, 9.0]), 2.0
    targets = center_targets([boxes], [torch.tensor([1, 2, 0])], [1, 2], GRID)
    peaks = (targets.heatmap == 1).nonzero().tolist()
    assert [channel for _, channel, _, _ in peaks] == [0, 1] and len(targets.cell) == 2


def test_samples_of_a_batch_do_not_mix_and_may_be_empty():
    one = torch.tensor([[3.0, 1.0, 0, 4, 2, 1.5, 0, 0, 0]])
    none, no_label = torch.zeros(0, 9), torch.zeros(0, dtype=torch.long)
    targets = center_targets([none, one, none], [no_label, torch.tensor([0]), no_label], [0], GRID)
    assert targets.sample.tolist() == [1]
    assert targets.heatmap.amax(dim=(1, 2, 3)).tolist() == [0, 1, 0]
    alone = center_targets([one], [torch.tensor([0])], [0], GRID)
    torch.testing.assert_close(targets.heatmap[1], alone.heatmap[0])


def test_a_gaussian_is_the_formula_inside_its_window_and_zero_outside():
    heatmap = torch.zeros(1, 1, 20, 40)
    draw_gaussians(heatmap, *(torch.tensor([value]) for value in (0, 0, 1, 38, 3)))
    y, x = np.mgrid[:20, :40]
    expected = np.exp(-((x - 38) ** 2 + (y - 1) ** 2) / (2 * (7 / 6) ** 2))
    expected[(abs(x - 38) > 3) | (abs(y - 1) > 3)] = 0
    np.testing.assert_allclose(heatmap[0, 0].numpy(), expected, atol=1e-6)


def test_where_objects_meet_the_greater_value_stays():
    both, first, second = (torch.zeros(1, 1, 9, 9) for _ in range(3))
    zero, row = torch.zeros(1, dtype=torch.long), torch.tensor([4])
    draw_gaussians(
        both,
        torch.zeros(2, dtype=torch.long),
        torch.zeros(2, dtype=torch.long),
        row.repeat(2),
        torch.tensor([3, 6]),
        torch.tensor([2, 4]),
    )
    draw_gaussians(first, zero, zero, row, torch.tensor([3]), torch.tensor([2]))
    draw_gaussians(second, zero, zero, row, torch.tensor([6]), torch.tensor([4]))
    torch.testing.assert_close(both, torch.maximum(first, second))


def test_the_radius_is_centerpoints():
    # Computed by hand from CenterPoint's gaussian_radius(det_size, min_overlap=0.1) in float64.
    def centerpoint(height, width, overlap=0.1):
        b1, c1 = height + width, width * height * (1 - overlap) / (1 + overlap)
        r1 = (b1 + np.sqrt(b1**2 - 4 * c1)) / 2
        b2, c2 = 2 * (height + width), (1 - overlap) * width * height
        r2 = (b2 + np.sqrt(b2**2 - 16 * c2)) / 2
        b3, c3 = -2 * overlap * (height + width), (overlap - 1) * width * height
        r3 = (b3 + np.sqrt(b3**2 - 16 * overlap * c3)) / 2
        return min(r1, r2, r3)

    for length, width in ((5.0, 2.2), (13.3, 3.2), (0.8, 0.8), (2.8, 0.6)):
        radius = gaussian_radius(torch.tensor([length]), torch.tensor([width])).item()
        assert radius == pytest.approx(centerpoint(length, width), rel=1e-5)


def test_the_heatmap_loss_is_cornernets_formula():
    random = np.random.default_rng(0)
    logits, target = random.normal(0, 3, (2, 3, 6, 7)), random.random((2, 3, 6, 7)) * 0.99
    target[0, 1, 2, 3] = target[1, 2, 5, 6] = 1.0
    p = 1 / (1 + np.exp(-logits))
    at_centre = (1 - p) ** 2 * np.log(p)
    elsewhere = (1 - target) ** 4 * p**2 * np.log(1 - p)
    expected = -np.where(target == 1, at_centre, elsewhere).sum() / 2
    loss = gaussian_focal_loss(torch.from_numpy(logits), torch.from_numpy(target))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_heatmap_loss_is_finite_at_saturation_and_without_objects():
    logits = torch.tensor([[[[1e4, -1e4]]]], requires_grad=True)
    for target in (torch.tensor([[[[0.0, 1.0]]]]), torch.zeros(1, 1, 1, 2)):
        loss = gaussian_focal_loss(logits, target)
        loss.backward()
        assert loss.isfinite() and logits.grad.isfinite().all()


def test_ideal_maps_cost_nothing():
    boxes, labels = tensors([((3.0, 1.0, 0.5, 4.0, 2.0, 1.5, 0.3, 2.0, -1.0), 0)])
    targets = center_targets([boxes], [labels], [0], GRID)
    losses = center_loss(ideal_maps(targets), targets)
    assert sum(losses.values()).item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", list(REGRESSION_CHANNELS))
def test_each_field_costs_its_weighted_absolute_error_a_box(name):
    boxes, labels = tensors(
        [((3.0, 1.0, 0.5, 4.0, 2.0, 1.5, 0.3, 2.0, -1.0), 0), ((-9.0, -4.0, 0.5, 4.0, 2.0, 1.5, 0.3, 2.0, -1.0), 0)]
    )
    targets = center_targets([boxes], [labels], [0], GRID)
    maps = ideal_maps(targets)
    getattr(maps, name)[0, 0].view(-1)[targets.cell[0]] += 0.4
    losses = center_loss(maps, targets)
    assert losses[name].item() == pytest.approx(REGRESSION_WEIGHT * FIELD_WEIGHTS[name] * 0.4 / 2, rel=1e-4)


def test_an_unknown_velocity_teaches_nothing():
    boxes, labels = tensors([((3.0, 1.0, 0.5, 4.0, 2.0, 1.5, 0.3, float("nan"), float("nan")), 0)])
    targets = center_targets([boxes], [labels], [0], GRID)
    maps = ideal_maps(targets)._replace(velocity=torch.ones(1, 2, *GRID.shape, requires_grad=True))
    loss = center_loss(maps, targets)["velocity"]
    loss.backward()
    assert loss.item() == 0.0 and maps.velocity.grad.abs().max() == 0.0


def test_a_batch_without_any_box_gives_finite_losses():
    none, no_label = torch.zeros(0, 9), torch.zeros(0, dtype=torch.long)
    targets = center_targets([none, none], [no_label, no_label], [0], GRID)
    head = CenterHead(4, 4, 4, [1])
    maps = head(torch.rand(2, 4, *GRID.shape))[0]
    total = sum(center_loss(maps, targets).values())
    total.backward()
    assert total.isfinite()


def test_duplicates_go_within_a_task_but_not_across_tasks():
    car = (3.0, 1.0, 0.5, 4.0, 2.0, 1.5, 0.3, 0.0, 0.0)
    double = (3.95, 1.0, *car[2:])
    boxes, labels = tensors([(car, 0), (double, 0), (car, 1)])
    maps = [ideal_maps(center_targets([boxes], [labels], ids, GRID)) for ids in TASKS]
    maps[0].heatmap[0, 0].view(-1)[maps[0].heatmap[0, 0].argmax()] -= 1.0  # one of the two cars is less certain
    kept, scores, kept_labels = CenterDecoder(TASKS, GRID, 0.1, 50, [RotatedNms(0.2)] * 6, 300)(maps)
    assert sorted(kept_labels.tolist()) == [0, 1]
    assert (scores[:-1] >= scores[1:]).all()
    torch.testing.assert_close(kept[kept_labels == 1], boxes[2:], atol=1e-4, rtol=1e-4)


def test_decoding_keeps_the_best_candidates_best_first_and_nothing_below_the_threshold():
    logits = torch.full((1, 1, *GRID.shape), -PEAK)
    wanted = {5: 2.0, 100: 1.0, 317: 0.5, 640: -1.0}
    for cell, logit in wanted.items():
        logits.view(-1)[cell] = logit
    fields = {name: torch.zeros(1, channels, *GRID.shape) for name, channels in REGRESSION_CHANNELS.items()}
    maps = TaskMaps(logits, **fields)
    _, scores, _ = best_cells([maps], GRID, 0.5, 100)[0]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array([2.0, 1.0, 0.5]))), rtol=1e-6)
    boxes, scores, _ = best_cells([maps], GRID, 0.1, 2)[0]
    np.testing.assert_allclose(boxes[:, 0], [-18 + 5 * 0.9, -18 + 20 * 0.9], atol=1e-5)
    assert len(scores) == 2


def test_silent_maps_decode_to_no_boxes():
    head = CenterHead(4, 4, 4, [len(ids) for ids in TASKS]).eval()
    maps = head(torch.zeros(1, 4, *GRID.shape))
    boxes, scores, labels = CenterDecoder(TASKS, GRID, 0.9, 100, [RotatedNms(0.2)] * 6, 300)(maps)
    assert boxes.shape == (0, 9) and scores.shape == labels.shape == (0,)


def test_an_untrained_head_is_ten_percent_sure_everywhere():
    head = CenterHead(4, 4, 4, [1]).eval()
    probability = head(torch.zeros(1, 4, *GRID.shape))[0].heatmap.sigmoid()
    assert probability.min() > 0.05 and probability.max() < 0.2
