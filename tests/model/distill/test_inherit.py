"""Inherited weights: a student begins as its teacher, or as the strongest channels of it."""

import pytest
import torch
from torch import nn

from vexkd_model.bev.encoder import BevEncoder
from vexkd_model.config import load_config
from vexkd_model.distill import inherit
from vexkd_model.distill.inherit import inherit_weights, low_channels, narrow_chain, strongest
from vexkd_model.distill.pairing import check_pairing
from vexkd_model.errors import UserError
from vexkd_model.model import build_model

pytestmark = pytest.mark.usefixtures("one_thread")
HEADS = ["bev", "detection", "segmentation"]
NARROW = [
    "bev.stage_channels=[8, 12]",
    "bev.lateral_channels=6",
    "detection.shared_channels=8",
    "detection.task_channels=4",
    "segmentation.channels=4",
    "lidar.encoder.channels=10",
]


@pytest.fixture(scope="module")
def load(config_path, tiny_settings):
    """Load a tiny LiDAR model of the shipped configuration, with these changes."""

    def configured(*changes):
        kept = [setting for setting in tiny_settings if not setting.startswith("bev=")]
        bev = "bev={kind: second, stage_channels: [16, 16], stage_layers: [1, 2], lateral_channels: 16}"
        return load_config(config_path, [*kept, bev, "distillation.masks=ones", *changes])

    return configured


def model_of(config, seed):
    """Give batch norms scales, shifts and statistics that differ, as after some training."""
    torch.manual_seed(seed)
    model = build_model(config).eval()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return model


def said(model, low):
    """Run the model: high-level map and every map of the heads."""
    with torch.no_grad():
        high = model.bev(low)
        detection, segmentation = model.heads(high)
    return [high, *(field for maps in detection for field in maps), segmentation]


@pytest.mark.parametrize("separate", ["false", "true"])
def test_equal_shapes_give_the_same_answers_to_the_same_low_level_map(load, separate):
    config = load(f"detection.separate={separate}")
    teacher, student = model_of(config, 0), model_of(config, 1)
    lidar = {name: tensor.clone() for name, tensor in student.lidar.state_dict().items()}
    inherit_weights(student, teacher, HEADS)
    low = torch.randn(2, 16, 60, 60)
    for ours, theirs in zip(said(student, low), said(teacher, low), strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(tensor, lidar[name]) for name, tensor in student.lidar.state_dict().items())
    inherit_weights(student, teacher, ["lidar"])
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(student.state_dict()[name], tensor), name


@pytest.mark.parametrize("separate", ["false", "true"])
def test_all_channels_in_another_order_are_the_same_function(load, separate, monkeypatch):
    config = load(f"detection.separate={separate}")
    teacher, student = model_of(config, 0), model_of(config, 1)
    order = torch.Generator().manual_seed(2)
    shuffles = {}

    def shuffled(scale, count):  # the same order whenever the same channels are asked for
        key = tuple(scale.tolist())
        return shuffles.setdefault(key, torch.randperm(count, generator=order))

    monkeypatch.setattr(inherit, "strongest", shuffled)
    reads = low_channels(student.bev, teacher.bev)
    high = torch.cat([i * 16 + shuffled(lateral[1].weight, 16) for i, lateral in enumerate(teacher.bev.laterals)])
    monkeypatch.setattr(inherit, "high_channels", lambda *_: high)
    inherit_weights(student, teacher, HEADS)
    low = torch.randn(2, 16, 60, 60)
    first, *ours = said(student, low[:, reads])
    whole, *theirs = said(teacher, low)
    assert not torch.equal(reads, torch.arange(16)) and not torch.equal(high, torch.arange(32))
    torch.testing.assert_close(first, whole[:, high])
    for own, its in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, its, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("separate", ["false", "true"])
def test_a_narrower_student_is_the_teacher_whose_other_channels_are_silent(load, separate):
    """Zero γ and β silence a channel: a teacher that has them in all but the strongest channels answers the same."""
    teacher = model_of(load(f"detection.separate={separate}"), 0)
    student = model_of(load(f"detection.separate={separate}", *NARROW), 1)
    inherit_weights(student, teacher, HEADS)
    reads = low_channels(student.bev, teacher.bev)
    high = inherit.high_channels(student.bev, teacher.bev)
    for part in HEADS:
        ours = [m for m in getattr(student, part).modules() if isinstance(m, nn.BatchNorm2d)]
        theirs = [m for m in getattr(teacher, part).modules() if isinstance(m, nn.BatchNorm2d)]
        for own, its in zip(ours, theirs, strict=True):
            weakest_first = its.weight.abs().argsort()
            silent = weakest_first[: its.num_features - own.num_features]
            with torch.no_grad():
                its.weight[silent], its.bias[silent] = 0.0, 0.0
    low = torch.randn(2, 10, 60, 60)
    wide = torch.zeros(2, 16, 60, 60)
    wide[:, reads] = low
    first, *narrow = said(student, low)
    whole, *full = said(teacher, wide)
    torch.testing.assert_close(first, whole[:, high], rtol=1e-4, atol=1e-4)
    for own, its in zip(narrow, full, strict=True):
        torch.testing.assert_close(own, its, rtol=1e-4, atol=1e-4)


def test_a_narrowed_layer_keeps_the_channels_of_largest_scale():
    assert strongest(torch.tensor([0.1, -3.0, 0.0, 2.0, -0.5]), 3).tolist() == [1, 3, 4]
    teacher, student = BevEncoder(2, [4], [1], 4), BevEncoder(2, [2], [1], 3)
    scale = torch.tensor([0.2, 0.9, 0.1, -1.5])
    with torch.no_grad():
        teacher.stages[0][0][1].weight.copy_(scale)
    kept = narrow_chain(student.stages[0], teacher.stages[0], torch.arange(2))
    assert kept.tolist() == [1, 3] and student.stages[0][0][1].weight.tolist() == pytest.approx([0.9, -1.5])
    assert torch.equal(student.stages[0][0][0].weight, teacher.stages[0][0][0].weight[[1, 3]])


def test_low_level_channels_are_those_that_the_teacher_reads_with_the_largest_weights():
    teacher, student = BevEncoder(4, [3], [1], 3), BevEncoder(2, [3], [1], 3)
    with torch.no_grad():
        teacher.stages[0][0][0].weight.mul_(torch.tensor([1e-3, 1.0, 1e-4, 1.0])[:, None, None])
    assert low_channels(student, teacher).tolist() == [1, 3]


def test_what_is_inherited_is_a_copy(load):
    teacher, student = model_of(load(), 0), model_of(load(), 1)
    inherit_weights(student, teacher, HEADS)
    owned = {p.data_ptr() for p in teacher.parameters()}
    assert not owned & {p.data_ptr() for p in student.parameters()}
    assert all(p.requires_grad for p in student.parameters())


@pytest.mark.parametrize(
    ("parts", "changes", "message"),
    [
        ("bev", ["bev.stage_layers=[1, 1]"], r"bev: bev\.stage_layers is \[1, 1\]"),
        (
            "bev",
            ["bev.stage_channels=[16, 24]"],
            r"bev: bev\.stage_channels: 24 channels are more than the teacher's 16",
        ),
        ("bev", ["bev.lateral_channels=24"], r"bev: bev\.lateral_channels: 24"),
        ("bev", ["lidar.encoder.channels=24"], "bev: the low-level map: 24 channels are more than the teacher's 16"),
        (
            "bev",
            ["bev={kind: resnet, stage_channels: [8, 8, 8], stage_blocks: [1, 1, 1], channels: 16}"],
            "bev: encoders of other kinds than second",
        ),
        ("detection", ["detection.separate=true"], r"detection: detection\.separate differs"),
        ("detection", ["detection.task_channels=24"], r"detection: detection\.task_channels: 24"),
        (
            "detection",
            ["bev={kind: resnet, stage_channels: [8, 8, 8], stage_blocks: [1, 1, 1], channels: 16}"],
            "detection: bev differs",
        ),
        ("segmentation", ["segmentation=null"], "segmentation: lidar_pillar_small has none"),
        ("lidar", ["lidar.encoder.channels=8"], r"lidar: lidar\.encoder differs"),
        ("camera", [], "camera: lidar_pillar_small has none"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_key(load, parts, changes, message):
    with pytest.raises(UserError, match=rf"^distillation\.inherit: {message}.*; leave {parts} out of the") as error:
        check_pairing(load(f"distillation.inherit=[{parts}]", *changes), load())
    assert "\n" not in str(error.value)


def test_other_tasks_and_another_kind_of_head_are_refused(load, teacher_config):
    student = load("distillation.inherit=[detection]")
    with pytest.raises(UserError, match=r"inherit: detection: detection\.kind is center, that of .* transfusion"):
        check_pairing(student, teacher_config)
    tasks = student.detection.tasks
    other = student.detection.model_copy(update={"tasks": (*tasks[1:], tasks[0])})
    with pytest.raises(UserError, match=r"inherit: detection: detection\.tasks differ"):
        check_pairing(student, student.model_copy(update={"detection": other}))


def test_narrower_and_equal_students_are_accepted(load, teacher_config):
    parts = "distillation.inherit=[bev, detection, segmentation]"
    check_pairing(load(parts), load())
    check_pairing(load(parts, *NARROW), load())
    check_pairing(load("distillation.inherit=[segmentation]"), teacher_config)


def test_a_configuration_that_teaches_nothing_and_a_part_named_twice_are_errors(load):
    with pytest.raises(UserError, match="no other key teaches"):
        load("distillation.levels=[]")
    assert not load("distillation.levels=[]", "distillation.inherit=[bev]").distillation.needs_teacher
    with pytest.raises(UserError, match="inherit names a part twice"):
        load("distillation.inherit=[bev, bev]")
