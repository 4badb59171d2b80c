"""The TransFusionHead's criterion: the best matching there is, and the published formulas on its pairs."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Polygon

from vexkd_model.data.index import FrameIndex
from vexkd_model.data.prepare import prepare
from vexkd_model.geometry.boxes import corners_bev
from vexkd_model.heads.center import REGRESSION_CHANNELS
from vexkd_model.heads.center_loss import center_targets
from vexkd_model.heads.decode import TransFusionDecoder, proposal_boxes
from vexkd_model.heads.transfusion import TransFusionHead, TransFusionOutput
from vexkd_model.heads.transfusion_loss import focal_loss, match, matching_cost, transfusion_loss, transfusion_targets
from vexkd_model.types import BevGrid

GRID = BevGrid(-9.0, 9.0, -6.0, 6.0, 0.5)  # 24 rows, 36 columns
NAN = float("nan")
CAR = (3.2, 1.4, 0.5, 4.0, 2.0, 1.5, 0.3, 2.0, -1.0)
BUS = (-5.0, -2.3, 1.0, 7.0, 2.5, 3.0, 1.3, 1.0, 0.5)
MAN = (0.0, 4.4, 0.9, 0.7, 0.6, 1.7, -2.0, 0.2, 1.1)
NOTHING = torch.zeros(0, 9), torch.zeros(0, dtype=torch.long)


def random_output(proposals, grid=GRID, batch=1, seed=0):
    random = torch.Generator().manual_seed(seed)
    rows, columns = grid.shape
    fields = {
        name: torch.randn(batch, proposals, channels, generator=random)
        for name, channels in REGRESSION_CHANNELS.items()
    }
    return TransFusionOutput(
        heatmap=torch.randn(batch, 10, rows, columns, generator=random),
        cell=torch.randint(rows * columns, (batch, proposals), generator=random),
        label=torch.randint(10, (batch, proposals), generator=random),
        score=torch.rand(batch, proposals, generator=random),
        logits=torch.randn(batch, proposals, 10, generator=random),
        **fields,
    )


def scene(*pairs):
    return torch.tensor([box for box, _ in pairs]), torch.tensor([label for _, label in pairs])


def fulfilled(output, targets):
    """Make proposals that meet their targets exactly: sure of the matched, silent on the others."""
    where = (targets.sample, targets.proposal)
    logits = torch.full_like(output.logits, -20.0)
    logits[(*where, targets.label)] = 20.0
    label = output.label.clone()
    label[where] = targets.label
    fields = {}
    for name, wanted in targets.fields.items():
        fields[name] = getattr(output, name).clone()
        fields[name][where] = wanted
    heatmap = torch.where(targets.heatmap == 1, 20.0, -20.0)
    return output._replace(heatmap=heatmap, logits=logits, label=label, score=torch.ones_like(output.score), **fields)


def test_targets_of_a_real_keyframe_decode_back_to_its_68_boxes(keyframe_dataroot, tmp_path):
    prepare(keyframe_dataroot, "v1.0-mini", tmp_path)
    truth = FrameIndex.open(tmp_path, "mini_train")[0].boxes
    boxes, labels = torch.from_numpy(truth.values), torch.from_numpy(truth.labels)
    grid = BevGrid(-81.0, 81.0, -81.0, 81.0, 0.6)
    output = random_output(200, grid)
    targets = transfusion_targets(output, [boxes], [labels], grid)
    found, scores, found_labels = TransFusionDecoder(grid, 0.5, 500)(fulfilled(output, targets))
    assert len(found) == 68 and (scores > 0.999).all()
    nearest = (torch.cdist(boxes[:, :3], found[:, :3]) + 1e3 * (labels[:, None] != found_labels)).argmin(dim=1)
    assert len(set(nearest.tolist())) == 68
    torch.testing.assert_close(found[nearest][:, :6], boxes[:, :6], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((found[nearest][:, 6] - boxes[:, 6]).cos(), torch.ones(68))


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 5), st.integers(0, 5), st.integers(0, 10**6))
def test_no_other_pairing_costs_less(proposals, objects, seed):
    cost = torch.from_numpy(np.random.default_rng(seed).normal(size=(proposals, objects)))
    rows, columns = match(cost)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == len(rows) == min(proposals, objects)
    if proposals >= objects:
        every = [
            sum(cost[p, m] for m, p in enumerate(chosen))
            for chosen in itertools.permutations(range(proposals), objects)
        ]
    else:
        every = [
            sum(cost[p, m] for p, m in enumerate(chosen))
            for chosen in itertools.permutations(range(objects), proposals)
        ]
    assert cost[rows, columns].sum().item() == pytest.approx(float(min(every)), abs=1e-9)


def volume_iou(a, b):
    one, other = (Polygon(corners_bev(np.array([row], dtype=np.float64))[0]) for row in (a, b))
    height = max(0.0, min(a[2] + a[5] / 2, b[2] + b[5] / 2) - max(a[2] - a[5] / 2, b[2] - b[5] / 2))
    shared = one.intersection(other).area * height
    return shared / (one.area * a[5] + other.area * b[5] - shared)


def test_the_cost_is_the_published_sum_pair_by_pair():
    boxes, labels = scene((CAR, 0), (BUS, 3), (MAN, 8))
    output = random_output(40)
    proposed = proposal_boxes(output, GRID)[0]
    proposed[:3] = boxes + 0.3  # some must overlap
    cost = matching_cost(output.logits[0], proposed, boxes, labels, GRID)
    overlaps = 0
    for p, m in np.ndindex(40, 3):
        probability = 1 / (1 + math.exp(-output.logits[0, p, labels[m]]))
        if_it_is = -0.25 * (1 - probability) ** 2 * math.log(probability)
        if_it_is_not = -0.75 * probability**2 * math.log(1 - probability)
        distance = abs(proposed[p, 0] - boxes[m, 0]) / 18 + abs(proposed[p, 1] - boxes[m, 1]) / 12
        iou = volume_iou(proposed[p].tolist(), boxes[m].tolist())
        overlaps += iou > 0
        expected = 0.15 * (if_it_is - if_it_is_not) + 0.25 * distance - 0.25 * iou
        assert cost[p, m].item() == pytest.approx(float(expected), abs=1e-5)
    assert overlaps >= 3


def test_objects_are_matched_with_the_proposals_that_lie_on_them():
    boxes, labels = scene((CAR, 0), (BUS, 3), (MAN, 8))
    asked = random_output(6)
    ideal = fulfilled(asked, transfusion_targets(asked, [boxes], [labels], GRID))
    shuffle = torch.tensor([4, 1, 5, 0, 3, 2])
    shuffled = TransFusionOutput(ideal.heatmap, *(field[:, shuffle] for field in ideal[1:]))
    targets = transfusion_targets(shuffled, [boxes], [labels], GRID)
    found = proposal_boxes(shuffled, GRID)[0, targets.proposal]
    for row, label in zip(found, targets.label, strict=True):
        torch.testing.assert_close(row[:6], boxes[labels == label][0, :6], atol=1e-4, rtol=1e-4)


def test_an_output_that_says_what_is_asked_costs_nothing():
    boxes, labels = scene((CAR, 0), (BUS, 3), (MAN, 8))
    output = random_output(20, batch=2)
    targets = transfusion_targets(output, [boxes, boxes[:1]], [labels, labels[:1]], GRID)
    terms = transfusion_loss(fulfilled(output, targets), targets)
    assert set(terms) == {"heatmap", "class", *REGRESSION_CHANNELS}
    assert sum(terms.values()).item() == pytest.approx(0.0, abs=1e-5)


def test_classes_cost_focal_loss_over_all_proposals_an_object():
    boxes, labels = scene((CAR, 0), (BUS, 3))
    output = random_output(7, batch=2)
    targets = transfusion_targets(output, [boxes, boxes[:1]], [labels, labels[:1]], GRID)
    is_class = {
        (s.item(), p.item(), k.item()) for s, p, k in zip(targets.sample, targets.proposal, targets.label, strict=True)
    }
    expected = 0.0
    for index in np.ndindex(2, 7, 10):
        probability = 1 / (1 + math.exp(-output.logits[index]))
        expected -= (
            0.25 * (1 - probability) ** 2 * math.log(probability)
            if index in is_class
            else 0.75 * probability**2 * math.log(1 - probability)
        )
    assert len(is_class) == 3
    assert transfusion_loss(output, targets)["class"].item() == pytest.approx(expected / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "weight"), [("offset", 0.25), ("height", 0.25), ("size", 0.25), ("heading", 0.25), ("velocity", 0.05)]
)
def test_each_field_costs_its_weighted_absolute_error_an_object(name, weight):
    boxes, labels = scene((CAR, 0), (BUS, 3))
    asked = random_output(9)
    targets = transfusion_targets(asked, [boxes], [labels], GRID)
    output = fulfilled(asked, targets)
    getattr(output, name)[0, targets.proposal[1], 0] += 0.4
    assert transfusion_loss(output, targets)[name].item() == pytest.approx(weight * 0.4 / 2, rel=1e-4)


def test_an_unknown_velocity_teaches_nothing_and_the_rest_of_the_box_still_does():
    boxes, labels = scene(((*CAR[:7], NAN, NAN), 0))
    output = random_output(5)
    output.velocity.requires_grad_()
    output.height.requires_grad_()
    terms = transfusion_loss(output, transfusion_targets(output, [boxes], [labels], GRID))
    sum(terms.values()).backward()
    assert terms["velocity"].item() == 0.0 and output.velocity.grad.abs().max() == 0.0
    assert output.height.grad.abs().max() > 0


def test_the_dense_heatmap_is_centerpoints_over_all_ten_classes():
    boxes, labels = scene((CAR, 0), (BUS, 3), (MAN, 8))
    targets = transfusion_targets(random_output(5), [boxes], [labels], GRID)
    for k in range(10):
        own = center_targets([boxes], [labels], [k], GRID).heatmap[0, 0]
        assert torch.equal(targets.heatmap[0, k], own) and (own == 1).sum() == (k in (0, 3, 8))


def test_boxes_outside_the_grid_ask_for_nothing():
    boxes, labels = scene(((9.5, *CAR[1:]), 0), (MAN, 8), ((0.0, -6.01, *CAR[2:]), 0))
    targets = transfusion_targets(random_output(5), [boxes], [labels], GRID)
    assert targets.label.tolist() == [8] and (targets.heatmap == 1).sum() == 1


def test_samples_of_a_batch_do_not_mix_and_may_be_empty():
    first, third = scene((CAR, 0), (MAN, 8)), scene((BUS, 3))
    output = random_output(6, batch=3)
    together = transfusion_targets(output, [first[0], NOTHING[0], third[0]], [first[1], NOTHING[1], third[1]], GRID)
    assert together.sample.tolist() == [0, 0, 2]
    for i, (boxes, labels) in enumerate((first, NOTHING, third)):
        alone = transfusion_targets(TransFusionOutput(*(f[i : i + 1] for f in output)), [boxes], [labels], GRID)
        own = together.sample == i
        assert torch.equal(together.proposal[own], alone.proposal) and torch.equal(together.label[own], alone.label)
        assert torch.equal(together.heatmap[i], alone.heatmap[0])
        for name in REGRESSION_CHANNELS:
            assert torch.equal(together.fields[name][own], alone.fields[name])


def test_a_batch_without_any_box_only_silences():
    output = random_output(4, batch=2)
    output.logits.requires_grad_()
    targets = transfusion_targets(output, [NOTHING[0]] * 2, [NOTHING[1]] * 2, GRID)
    terms = transfusion_loss(output, targets)
    terms["class"].backward()
    assert all(value.isfinite() for value in terms.values())
    assert all(terms[name].item() == 0 for name in REGRESSION_CHANNELS) and (output.logits.grad > 0).all()


def test_of_more_boxes_than_proposals_each_proposal_gets_one():
    boxes, labels = scene(*(((-8 + 1.5 * i, 0.3 * i - 2, *MAN[2:]), 8) for i in range(11)))
    output = random_output(4)
    targets = transfusion_targets(output, [boxes], [labels], GRID)
    assert targets.proposal.tolist() == [0, 1, 2, 3] and (targets.heatmap == 1).sum() == 11
    found, *_ = TransFusionDecoder(GRID, 0.5, 500)(fulfilled(output, targets))
    assert len(found) == 4 and torch.cdist(found[:, :2], boxes[:, :2]).amin(dim=1).max() < 1e-4
    assert all(value.isfinite() for value in transfusion_loss(output, targets).values())


def test_a_diverged_output_is_reported_by_its_loss():
    boxes, labels = scene((CAR, 0))
    for value in (NAN, float("inf")):
        output = random_output(3)
        output.logits[:], output.offset[:], output.size[:] = value, value, value
        terms = transfusion_loss(output, transfusion_targets(output, [boxes], [labels], GRID))
        assert not torch.isfinite(sum(terms.values()))


def test_focal_loss_is_finite_at_saturation():
    logits = torch.tensor([1e4, -1e4], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([0.0, 1.0]))
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad.isfinite().all()


@pytest.mark.slow
def test_three_objects_are_learnt_by_heart_and_found_once_each(one_thread):
    torch.manual_seed(0)
    grid = BevGrid(-9.0, 9.0, -6.0, 6.0, 1.0)
    model, x = TransFusionHead(8, 16, 8, heads=2, feed_forward=16, dropout=0.0), torch.randn(1, 8, *grid.shape)
    boxes, labels = scene((CAR, 0), (BUS, 3), (MAN, 8))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, 100)
    for _ in range(100):
        output = model(x)
        terms = transfusion_loss(output, transfusion_targets(output, [boxes], [labels], grid))
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        schedule.step()
    found, _, found_labels = TransFusionDecoder(grid, 0.3, 10)(model(x))
    assert sorted(found_labels.tolist()) == [0, 3, 8]
    torch.testing.assert_close(found[found_labels.argsort()], boxes, atol=0.5, rtol=0.1)
