"""Terms of other methods beside the paper's: off by default, named, for the student alone."""

import pytest
import torch

from vexkd_model.config import load_config
from vexkd_model.config.distill import DistillationConfig, ResponseConfig, TeacherLabelsConfig
from vexkd_model.criterion import build_criterion
from vexkd_model.distill.distiller import Distiller
from vexkd_model.distill.map_cache import check_cacheable
from vexkd_model.distill.pairing import check_pairing
from vexkd_model.distill.relation import relation_loss
from vexkd_model.distill.response import depth_response
from vexkd_model.distill.teacher import Teacher, fingerprint
from vexkd_model.distill.teacher_labels import add_teacher_labels, label_decoder
from vexkd_model.errors import UserError
from vexkd_model.model import build_model

pytestmark = pytest.mark.usefixtures("one_thread")
TINY_CAMERA = (
    "grid={extent: 54.0, cell: 1.8}",
    "camera.images.width=128",
    "camera.images.height=48",
    "camera.view.neck_channels=16",
    "camera.view.channels=16",
    "bev={kind: second, stage_channels: [16, 16], stage_layers: [1, 1], lateral_channels: 16}",
    "detection.shared_channels=16",
    "detection.task_channels=16",
    "segmentation.channels=8",
    "training.precision=float32",
    "distillation.masks=ones",
)
RESPONSE, LABELS = ResponseConfig(heatmap=7.0, map=1.0), TeacherLabelsConfig(score=0.1, weight=0.5)
EVERY = {"response": RESPONSE, "teacher_labels": LABELS, "relation": 3.0, "depth": 2.0}


@pytest.fixture(scope="module")
def camera_config(config_path):
    return load_config(config_path.with_name("bevdet_small.yaml"), TINY_CAMERA)


@pytest.fixture(scope="module")
def center_config(teacher_config, camera_config):
    """Configure the tiny teacher with its student's detection head in the place of TransFusion."""
    return teacher_config.model_copy(update={"detection": camera_config.detection})


@pytest.fixture(scope="module")
def camera_batch(camera_config, center_config, pair_batch):
    return pair_batch(camera_config, center_config)


@pytest.fixture
def center_teacher(center_config):
    torch.manual_seed(3)
    return Teacher(build_model(center_config), center_config)


@pytest.fixture
def camera_student(camera_config):
    torch.manual_seed(4)
    return build_model(camera_config).train()


@pytest.fixture
def distiller_of(camera_config, center_config, camera_student, center_teacher):
    def made(**keys):
        config = camera_config.model_copy(update={"distillation": DistillationConfig(masks="ones", **keys)})
        return Distiller(check_pairing(config, center_config), camera_student, center_teacher, build_criterion(config))

    return made


def test_every_term_has_a_name_and_a_key_and_the_paper_has_none_of_them(distiller_of, camera_student, camera_batch):
    output = camera_student(camera_batch.sensors)
    names = {
        "response": {"response_heatmap", "response_map"},
        "teacher_labels": {"teacher_labels"},
        "relation": {"relation"},
        "depth": {"distill_depth"},
    }
    papers = {"distill_low", "distill_high"}
    assert set(distiller_of()(output.features, camera_batch, output)) == papers
    for key, value in EVERY.items():
        terms = distiller_of(levels=(), **{key: value})(output.features, camera_batch, output)
        assert set(terms) == names[key]
    terms = distiller_of(**EVERY)(output.features, camera_batch, output)
    assert set(terms) == papers.union(*names.values()) and all(term.isfinite() for term in terms.values())


def test_every_term_teaches_the_student_and_the_teacher_stays_as_it_was(
    distiller_of, camera_student, center_teacher, camera_batch
):
    before, distiller = fingerprint(center_teacher.model), distiller_of(levels=(), **EVERY)
    optimiser = torch.optim.SGD([*camera_student.parameters(), *distiller.parameters()], 1e-3)
    output = camera_student(camera_batch.sensors)
    terms = distiller.train()(output.features, camera_batch, output)
    reached = {
        "response_heatmap": "detection.",
        "response_map": "segmentation.",
        "relation": "bev.",
        "distill_depth": "camera.view.",
        "teacher_labels": "detection.",
    }
    for name, part in reached.items():
        camera_student.zero_grad()
        terms[name].backward(retain_graph=True)
        assert any(
            p.grad is not None and p.grad.any() for of, p in camera_student.named_parameters() if of.startswith(part)
        ), name
    sum(terms.values()).backward()
    optimiser.step()
    assert not any(p.grad is not None for p in center_teacher.model.parameters())
    assert not center_teacher.model.training and fingerprint(center_teacher.model) == before
    assert list(distiller.state_dict()) == []


def test_the_terms_are_weighted_values_of_their_own_modules(distiller_of, camera_student, center_teacher, camera_batch):
    output, answer = camera_student(camera_batch.sensors), center_teacher(camera_batch, heads=True)
    terms = distiller_of(**EVERY)(output.features, camera_batch, output)
    torch.testing.assert_close(
        terms["relation"],
        3.0 * relation_loss(output.features.high, answer.features.high, camera_batch.boxes, center_teacher.grid),
    )
    torch.testing.assert_close(
        terms["distill_depth"], 2.0 * depth_response(output.depth, answer.depth, camera_batch.sensors.cameras.present)
    )


def test_half_precision_training_computes_the_terms_in_single_precision(distiller_of, camera_student, camera_batch):
    distiller = distiller_of(loss="normalised_l2", **EVERY)
    exact = camera_student(camera_batch.sensors)
    wanted = distiller(exact.features, camera_batch, exact)
    with torch.autocast("cpu", torch.bfloat16):
        output = camera_student(camera_batch.sensors)
        terms = distiller(output.features, camera_batch, output)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    for name in ("relation", "response_heatmap", "response_map", "distill_depth"):
        torch.testing.assert_close(terms[name], wanted[name], rtol=0.05, atol=0.01)


@pytest.mark.parametrize("progress", [0.0, 0.4, 1.0])
def test_teacher_labels_make_the_loss_with_both_kinds_of_labels(
    distiller_of, camera_student, center_teacher, camera_config, camera_batch, progress
):
    """At every share of the training, whatever weights grow in it."""
    assert camera_config.detection.late_weights
    output, answer = camera_student(camera_batch.sensors), center_teacher(camera_batch, heads=True)
    labelled = add_teacher_labels(camera_batch, label_decoder(center_teacher.decoder, 0.1), answer.detection)
    assert sum(map(len, labelled.boxes)) > sum(map(len, camera_batch.boxes))
    criterion = build_criterion(camera_config)
    true, both = (
        sum(criterion.heads(output.detection, None, of, progress).values()) for of in (camera_batch, labelled)
    )
    for weight in (0.25, 1.0):
        labels = TeacherLabelsConfig(score=0.1, weight=weight)
        distiller = distiller_of(levels=(), teacher_labels=labels)
        term = distiller(output.features, camera_batch, output, progress)["teacher_labels"]
        torch.testing.assert_close(true + term, (1 - weight) * true + weight * both)


def test_a_transfusion_teacher_labels_boxes_for_a_center_student(student_config, teacher, teacher_config, batch):
    torch.manual_seed(4)
    student = build_model(student_config).train()
    config = student_config.model_copy(
        update={"distillation": DistillationConfig(levels=(), teacher_labels=TeacherLabelsConfig(score=0.001))}
    )
    output = student(batch.sensors)
    distiller = Distiller(check_pairing(config, teacher_config), student, teacher, build_criterion(config))
    assert distiller(output.features, batch, output)["teacher_labels"].isfinite()


def test_the_teacher_is_asked_once_a_batch_and_its_heads_where_a_term_needs_them(
    distiller_of, camera_student, center_teacher, camera_batch
):
    calls = {"bev": 0, "detection": 0}
    for name in calls:
        getattr(center_teacher.model, name).register_forward_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    output = camera_student(camera_batch.sensors)
    for keys, asked in (
        ({}, {"bev": 1, "detection": 0}),
        ({"relation": 1.0}, {"bev": 1, "detection": 0}),
        (EVERY, {"bev": 1, "detection": 1}),
        ({"levels": (), "inherit": ("bev",)}, {"bev": 0, "detection": 0}),
    ):
        calls.update(bev=0, detection=0)
        distiller_of(**keys)(output.features, camera_batch, output)
        assert calls == asked


def refused(student, teacher, message, **keys):
    config = student.model_copy(update={"distillation": DistillationConfig(masks="ones", **keys)})
    with pytest.raises(UserError, match=rf"^distillation\.{message}") as error:
        check_pairing(config, teacher)
    assert "\n" not in str(error.value)


def test_pairs_that_cannot_be_compared_are_one_line_that_names_the_key(
    camera_config, center_config, student_config, teacher_config
):
    tasks, without = center_config.detection.tasks, {"detection": None}
    shuffled = center_config.detection.model_copy(update={"tasks": (*tasks[1:], tasks[0])})
    other_tasks = center_config.model_copy(update={"detection": shuffled})
    refused(
        camera_config,
        teacher_config,
        r"response: heatmap compares two CenterHeads, and vexkd_teacher_small",
        response=RESPONSE,
    )
    refused(camera_config, other_tasks, r"response: heatmap: detection\.tasks differ", response=RESPONSE)
    only_map = {"response": ResponseConfig(map=1.0)}
    no_map = camera_config.model_copy(update={"segmentation": None})
    refused(no_map, center_config, r"response: map compares segmentations, and bevdet_small has none", **only_map)
    refused(
        camera_config.model_copy(update=without),
        center_config,
        "teacher_labels: are boxes, and bevdet_small",
        teacher_labels=LABELS,
    )
    refused(camera_config.model_copy(update=without), center_config, "relation: looks at boxes", relation=1.0)
    refused(
        student_config, center_config, "depth: compares depths of lift_splat views, and lidar_pillar_small", depth=1.0
    )
    check_pairing(
        camera_config.model_copy(update={"distillation": DistillationConfig(masks="ones", **EVERY)}), center_config
    )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("camera.view.bins.stop=29.5", r"camera\.view\.bins"),
        ("camera.view.stride=16", r"camera\.view\.stride"),
        ("camera.images.zoom=1.2", r"camera\.images"),
    ],
)
def test_depths_of_other_bins_strides_or_images_are_refused(config_path, center_config, change, key):
    other = load_config(config_path.with_name("bevdet_small.yaml"), [*TINY_CAMERA, change])
    refused(other, center_config, rf"depth: compares pixel by pixel, and {key} differs", depth=1.0)


def test_a_cache_serves_heads_but_not_depths(camera_config, center_config, center_teacher, camera_batch):
    class Kept:
        def read(self, tokens, device):
            return live.features

    live = center_teacher(camera_batch, heads=True)
    cached = Teacher(center_teacher.model, center_config, Kept())(camera_batch, heads=True)
    assert torch.equal(cached.segmentation, live.segmentation) and cached.depth is None
    with pytest.raises(UserError, match=r"^--cache: distillation\.depth .*set it to 0") as error:
        check_cacheable(camera_config.training, DistillationConfig(depth=1.0))
    assert "\n" not in str(error.value)


def test_values_without_meaning_are_errors_of_the_configuration(config_path):
    for value, message in (
        ("response={}", "heatmap and map are both 0"),
        ("teacher_labels={weight: 2.0}", "weight"),
        ("relation=-1.0", "relation"),
        ("depth=-1.0", "depth"),
    ):
        with pytest.raises(UserError, match=message):
            load_config(config_path, [f"distillation.{value}"])
