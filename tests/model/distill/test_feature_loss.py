"""Feature losses against the formulas, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vexkd_model.distill.feature_loss import LEAST_VARIANCE, FeatureLoss, attention_transfer, masked_mean


def maps(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).float()


def mask_of(seed, *shape):
    return torch.from_numpy(np.random.default_rng(seed).uniform(0.05, 0.95, shape)).float()


def equation_7(student, teacher, mask):
    """Evaluate the paper's equation 7 sample by sample and cell by cell, in float64."""
    distances = []
    for s, t, m in zip(*(x.double().numpy() for x in (student, teacher, mask)), strict=True):
        attentions = []
        for features in (s, t):
            attention = np.array(
                [
                    sum(abs(m[0, j, i] * features[c, j, i]) for c in range(len(features)))
                    for j in range(m.shape[1])
                    for i in range(m.shape[2])
                ]
            )
            attentions.append(attention / np.sqrt((attention**2).sum()))
        distances.append(np.sqrt(((attentions[0] - attentions[1]) ** 2).sum()))
    return np.mean(distances)


def test_attention_transfer_is_equation_7():
    student, teacher, mask = maps(0, 2, 3, 5, 4), maps(1, 2, 7, 5, 4), mask_of(2, 2, 1, 5, 4)
    by_hand = equation_7(student, teacher, mask)
    assert attention_transfer(student, teacher, mask).item() == pytest.approx(by_hand, rel=1e-5)


@given(st.floats(1e-3, 1e3), st.integers(0, 100))
def test_attention_transfer_is_zero_for_equal_maps_up_to_a_positive_factor(factor, seed):
    teacher, mask = maps(seed, 2, 3, 4, 4), mask_of(seed, 2, 1, 4, 4)
    assert attention_transfer(factor * teacher, teacher, mask).item() == pytest.approx(0.0, abs=1e-5)
    assert attention_transfer(teacher.flip(2), teacher, mask).item() > 1e-3


def test_a_blind_student_costs_a_finite_loss_and_gradient():
    student = torch.zeros(1, 3, 4, 4, requires_grad=True)
    loss = attention_transfer(student, maps(0, 1, 3, 4, 4), mask_of(1, 1, 1, 4, 4))
    loss.backward()
    assert loss.item() == pytest.approx(1.0) and student.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "of_difference"),
    [("l1", np.abs), ("l2", np.square), ("smooth_l1", lambda d: np.where(np.abs(d) < 1, d**2 / 2, np.abs(d) - 0.5))],
)
def test_the_other_losses_are_means_under_the_mask(name, of_difference):
    student, teacher, mask = maps(0, 2, 3, 5, 4), maps(1, 2, 3, 5, 4), mask_of(2, 2, 1, 5, 4)
    s, t, m = (x.double().numpy() for x in (student, teacher, mask))
    by_hand = np.mean([(m[i] * of_difference(s[i] - t[i])).sum() / (3 * m[i].sum()) for i in range(2)])
    assert masked_mean(name, student, teacher, mask).item() == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize("name", ["l1", "l2", "smooth_l1"])
def test_a_mask_of_ones_makes_masked_and_plain_losses_equal(name):
    student, teacher = maps(0, 2, 3, 5, 4), maps(1, 2, 3, 5, 4)
    plain = {
        "l1": torch.nn.functional.l1_loss,
        "l2": torch.nn.functional.mse_loss,
        "smooth_l1": torch.nn.functional.smooth_l1_loss,
    }[name](student, teacher)
    torch.testing.assert_close(masked_mean(name, student, teacher, torch.ones(2, 1, 5, 4)), plain)


def test_a_mask_of_ones_leaves_attention_transfer_as_it_was_published():
    """Zagoruyko & Komodakis' activation-based loss: vec(Σ|F|), normalised, their distance."""
    student, teacher = maps(0, 1, 3, 5, 4), maps(1, 1, 6, 5, 4)
    flat = [torch.nn.functional.normalize(x.abs().sum(1).flatten(1)) for x in (student, teacher)]
    torch.testing.assert_close(attention_transfer(student, teacher, torch.ones(1, 1, 5, 4)), (flat[0] - flat[1]).norm())


def test_the_normalised_error_counts_in_the_teachers_variance_of_each_channel():
    student, teacher, mask = maps(0, 2, 3, 5, 4), maps(1, 2, 3, 5, 4), mask_of(2, 2, 1, 5, 4)
    teacher *= torch.tensor([0.1, 1.0, 30.0])[:, None, None]
    s, t, m = (x.double().numpy() for x in (student, teacher, mask))
    least = LEAST_VARIANCE * t.var(axis=(0, 2, 3)).mean()
    assert t[:, 0].var() < least < t[:, 1].var()  # the first channel is nearly constant beside the others
    by_hand = np.mean(
        [
            sum((m[i, 0] * (s[i, c] - t[i, c]) ** 2).sum() / max(t[:, c].var(), least) for c in range(3))
            / (3 * m[i].sum())
            for i in range(2)
        ]
    )
    assert masked_mean("normalised_l2", student, teacher, mask).item() == pytest.approx(by_hand, rel=1e-5)


def test_the_scale_of_a_teachers_channels_does_not_change_the_normalised_error():
    student, teacher, mask = maps(0, 2, 3, 5, 4), maps(1, 2, 3, 5, 4), mask_of(2, 2, 1, 5, 4)
    scale = torch.tensor([0.5, 1.0, 4.0])[:, None, None]
    torch.testing.assert_close(
        masked_mean("normalised_l2", scale * student, scale * teacher, mask),
        masked_mean("normalised_l2", student, teacher, mask),
    )
    dead = torch.zeros_like(teacher)
    assert masked_mean("normalised_l2", dead, dead, mask) == 0


def test_maps_of_as_many_channels_are_compared_without_an_adapter_by_the_normalised_error():
    assert not list(FeatureLoss("normalised_l2", 3, 3).parameters())
    assert [p.shape for p in FeatureLoss("normalised_l2", 3, 6).parameters()] == [(6, 3, 3, 3), (6,)]
    assert [p.shape for p in FeatureLoss("l2", 3, 3).parameters()] == [(3, 3, 3, 3), (3,)]


@pytest.mark.parametrize("name", ["attention_transfer", "l1", "l2", "smooth_l1", "normalised_l2"])
def test_each_side_learns_from_its_own_term_alone(name):
    torch.manual_seed(0)
    loss = FeatureLoss(name, 3, 6)
    student, mask = maps(0, 2, 3, 5, 4).requires_grad_(), mask_of(2, 2, 1, 5, 4).requires_grad_()
    for_student, for_mask = loss(student, maps(1, 2, 6, 5, 4), mask)
    torch.testing.assert_close(for_student, for_mask)
    assert torch.autograd.grad(for_student, mask, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(for_mask, student, allow_unused=True, retain_graph=True) == (None,)
    assert torch.autograd.grad(for_student, student, retain_graph=True)[0].any()
    assert torch.autograd.grad(for_mask, mask, retain_graph=True)[0].any()
    adapters = list(loss.parameters())
    assert bool(adapters) == (name != "attention_transfer")
    if adapters:
        assert torch.autograd.grad(for_mask, adapters, allow_unused=True) == (None, None)
