"""Gradients of a distillation: they reach the student and the masks, never the teacher."""

import copy

import pytest
import torch

from vexkd_model.criterion import build_criterion
from vexkd_model.distill.distiller import Distiller, channels_of
from vexkd_model.distill.feature_loss import attention_transfer
from vexkd_model.errors import UserError
from vexkd_model.model import build_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def student(student_config):
    torch.manual_seed(4)
    return build_model(student_config).train()


@pytest.fixture
def settings(student_config):
    return student_config.distillation


def distiller_of(settings, student, teacher, **changes):
    torch.manual_seed(5)
    return Distiller(settings.model_copy(update=changes), student, teacher, teacher.criterion)


def reached(terms, names, module):
    """Names of the parameters that the sum of these terms has a gradient for."""
    module.zero_grad()
    sum(terms[name] for name in names).backward(retain_graph=True)
    return {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}


def test_gradients_go_where_the_paper_sends_them(settings, student, teacher, batch):
    distiller = distiller_of(settings, student, teacher)
    features = student(batch.sensors).features
    terms = distiller(features, batch)
    assert set(terms) == {f"{kind}_{level}" for kind in ("distill", "mask", "mask_task") for level in ("low", "high")}
    for level in ("low", "high"):
        own = {name for name, _ in distiller.named_parameters() if f".{level}." in name}
        assert reached(terms, [f"distill_{level}"], student) and not reached(terms, [f"distill_{level}"], distiller)
        for kind in (f"mask_{level}", f"mask_task_{level}"):
            assert not reached(terms, [kind], student)
            assert {name for name in own if "output" in name} <= reached(terms, [kind], distiller) <= own
    assert not any(p.grad is not None for p in teacher.model.parameters())


def test_every_parameter_of_masks_and_adapters_learns(settings, student, teacher, batch):
    distiller = distiller_of(settings, student, teacher, loss="smooth_l1", masks="random_queries")
    with torch.no_grad():  # attention starts at zero, and zero weights pass no gradient on
        for parameter in distiller.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    terms = distiller(student(batch.sensors).features, batch)
    assert reached(terms, terms, distiller) == {name for name, _ in distiller.named_parameters()}


def test_the_terms_are_the_papers_losses(settings, student, teacher, batch):
    distiller = distiller_of(settings, student, teacher, weight=3.0, mask_weight=0.5)
    features = student(batch.sensors).features
    terms, answer = distiller(features, batch), teacher(batch)
    for level in ("low", "high"):
        mask, teacher_map = distiller.drawn[level], getattr(answer.features, level)
        assert mask.shape == (2, 1, 60, 60) and mask.min() > 0 and mask.max() < 1
        mimic = attention_transfer(getattr(features, level), teacher_map, mask)
        torch.testing.assert_close(terms[f"distill_{level}"], 3.0 * mimic)
        torch.testing.assert_close(terms[f"mask_{level}"], 0.5 * mimic)
        high = teacher.model.bev(mask * teacher_map) if level == "low" else mask * teacher_map
        masked = sum(build_criterion(teacher.config).heads(*teacher.model.heads(high), batch).values())
        torch.testing.assert_close(terms[f"mask_task_{level}"], masked)


def test_the_unmasked_map_in_the_place_of_the_teachers_own_is_the_teachers_own_loss(teacher, batch):
    with torch.no_grad():
        own = teacher.model(batch.teacher)
    expected = sum(build_criterion(teacher.config).heads(own.detection, own.segmentation, batch).values())
    for level in ("low", "high"):
        torch.testing.assert_close(teacher.task_loss(level, getattr(own.features, level), batch), expected)


def test_a_mask_of_ones_makes_masked_and_plain_distillation_equal(settings, student, teacher, batch):
    features, answer = student(batch.sensors).features, teacher(batch).features
    terms = distiller_of(settings, student, teacher, masks="ones")(features, batch)
    for level in ("low", "high"):
        s, t = (
            torch.nn.functional.normalize(getattr(maps, level).abs().sum(1).flatten(1)) for maps in (features, answer)
        )
        torch.testing.assert_close(terms[f"distill_{level}"], 2.0 * (s - t).norm(dim=1).mean())
    assert set(terms) == {"distill_low", "distill_high"}


@pytest.mark.parametrize("masks", ["ones", "key_points", "gaussian", "activation"])
def test_masks_that_nobody_learns_cost_the_student_alone(settings, student, teacher, batch, masks):
    distiller = distiller_of(settings, student, teacher, masks=masks)
    assert set(distiller(student(batch.sensors).features, batch)) == {"distill_low", "distill_high"}
    assert list(distiller.parameters()) == []


@pytest.mark.parametrize("level", ["low", "high"])
def test_levels_switch_off_separately(settings, student, teacher, batch, level):
    distiller = distiller_of(settings, student, teacher, levels=(level,))
    terms = distiller(student(batch.sensors).features, batch)
    assert set(terms) == {f"distill_{level}", f"mask_{level}", f"mask_task_{level}"}


def test_halted_masks_go_on_masking_and_learn_nothing(settings, student, teacher, batch):
    distiller, features = distiller_of(settings, student, teacher), student(batch.sensors).features
    before = distiller(features, batch)
    distiller.freeze_masks()
    after = distiller(features, batch)
    assert set(after) == {"distill_low", "distill_high"}
    for name, term in after.items():
        torch.testing.assert_close(term, before[name])
    sum(after.values()).backward()
    assert all(p.grad is None for p in distiller.parameters())


def test_queries_of_the_fusion_and_random_ones_start_different_masks(settings, student, teacher, batch):
    features = student(batch.sensors).features
    drawn = {}
    for masks in ("fusion_queries", "random_queries"):
        distiller = distiller_of(settings, student, teacher, masks=masks)
        distiller(features, batch)
        drawn[masks] = distiller.drawn["low"]
    assert not torch.allclose(drawn["fusion_queries"], drawn["random_queries"])
    distiller = distiller_of(settings, student, teacher)
    distiller(features, batch)
    before = distiller.drawn["low"]
    with torch.no_grad():
        teacher.model.fusion.query.copy_(teacher.model.fusion.query.flip(0))
    distiller(features, batch)
    assert not torch.allclose(before, distiller.drawn["low"])


def test_the_teacher_is_no_part_of_what_is_saved_or_trained(settings, student, teacher):
    distiller = distiller_of(settings, student, teacher)
    distiller.train()
    assert copy.deepcopy(distiller).teacher is teacher
    assert not teacher.model.training and not any(p.requires_grad for p in teacher.model.parameters())
    of_teacher = {id(p) for p in teacher.model.parameters()}
    assert not of_teacher & {id(p) for p in distiller.parameters()}
    assert all(name.startswith(("masks.generators.", "losses.")) for name in distiller.state_dict())


def test_heads_that_do_not_divide_the_queries_are_one_line(settings, student, teacher):
    with pytest.raises(UserError, match=r"distillation\.mask_heads: 5 .* 16 channels"):
        distiller_of(settings, student, teacher, mask_heads=5)


def test_channels_are_those_of_the_maps(student, teacher, batch):
    for model, sensors in ((student, batch.sensors), (teacher.model, batch.teacher)):
        with torch.no_grad():
            features = model.eval()(sensors).features
        assert channels_of(model) == {level: getattr(features, level).shape[1] for level in ("low", "high")}
