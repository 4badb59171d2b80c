"""Teacher labels: confident boxes of the teacher that are not annotated."""

import pytest
import torch

from vexkd_model.config.heads import CenterHeadConfig
from vexkd_model.config.section import GridConfig
from vexkd_model.criterion import select_samples
from vexkd_model.data.batch import Batch
from vexkd_model.distill.teacher_labels import add_teacher_labels, label_decoder, unmatched
from vexkd_model.heads.center import REGRESSION_CHANNELS, TaskMaps
from vexkd_model.heads.center_loss import center_targets
from vexkd_model.heads.decode import build_decoder
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.types import BevGrid

GRID = BevGrid(-20.0, 20.0, -20.0, 20.0, 1.0)
CAR, TRUCK, PEDESTRIAN = 0, 1, 8


def boxes(*rows):
    """Make boxes from x, y, length, width, yaw of each."""
    return torch.tensor(
        [[x, y, 0.0, length, width, 1.5, yaw, 0.0, 0.0] for x, y, length, width, yaw in rows], dtype=torch.float32
    ).reshape(-1, 9)


@pytest.mark.parametrize(
    ("x", "y", "label", "news"),
    [
        (1.9, 0.0, CAR, False),  # the annotated car, a little off
        (0.0, 2.1, CAR, True),  # another car beside it
        (0.0, 1.5, PEDESTRIAN, True),  # beside the car, nearer than 2 m, of another class
        (3.0, 0.5, TRUCK, False),  # inside the car's footprint: the annotation says what stands there
        (3.0, 0.5, CAR, False),
        (12.0, 12.0, CAR, True),
    ],
)
def test_a_box_is_news_where_the_annotation_is_silent(x, y, label, news):
    true = boxes((0.0, 0.0, 8.0, 2.0, 0.0))
    found = unmatched(boxes((x, y, 4.0, 2.0, 0.0)), torch.tensor([label]), true, torch.tensor([CAR]))
    assert found.tolist() == [news]


def test_footprints_turn_with_their_boxes():
    true, label = boxes((5.0, 5.0, 10.0, 2.0, torch.pi / 2)), torch.tensor([TRUCK])
    at = boxes((5.0, 9.0, 4.0, 2.0, 0.0), (9.0, 5.0, 4.0, 2.0, 0.0))
    assert unmatched(at, torch.tensor([CAR, CAR]), true, label).tolist() == [False, True]


def test_nothing_matches_where_there_is_nothing():
    none, no_label = torch.empty(0, 9), torch.empty(0, dtype=torch.long)
    assert unmatched(none, no_label, boxes((0, 0, 4, 2, 0)), torch.tensor([CAR])).tolist() == []
    assert unmatched(boxes((0, 0, 4, 2, 0)), torch.tensor([CAR]), none, no_label).tolist() == [True]


@pytest.fixture
def head(tiny_config):
    assert isinstance(tiny_config.detection, CenterHeadConfig)
    return tiny_config.detection


def heard(head, of_samples, labels, probability):
    """Make maps of a CenterHead that sees these boxes with this probability, and nothing else."""
    tasks = []
    for ids in head.class_ids():
        targets = center_targets(of_samples, labels, ids, GRID)
        logit = torch.logit(torch.tensor(probability))
        heat = torch.where(targets.heatmap == 1, logit, -20.0)
        fields = {}
        for name, channels in REGRESSION_CHANNELS.items():
            flat = torch.zeros(len(of_samples), channels, GRID.shape[0] * GRID.shape[1])
            flat[targets.sample, :, targets.cell] = targets.fields[name]
            fields[name] = flat.unflatten(2, GRID.shape)
        tasks.append(TaskMaps(heat, **fields))
    return tasks


@pytest.fixture
def decoder(head, tiny_config):
    return build_decoder(tiny_config.model_copy(update={"detection": head, "grid": GridConfig(extent=20.0, cell=1.0)}))


def test_the_teachers_news_stand_behind_the_true_boxes_of_their_own_sample(head, decoder):
    true = [boxes((0.5, 0.5, 4.0, 2.0, 0.3)), torch.empty(0, 9)]
    labels = [torch.tensor([CAR]), torch.empty(0, dtype=torch.long)]
    batch = Batch(None, true, labels, None, None, ["a", "b"])
    seen = [boxes((1.2, 0.5, 4.0, 2.0, 0.3), (9.5, -3.5, 4.5, 2.0, 1.0)), boxes((-7.5, 8.5, 0.7, 0.6, 0.0))]
    of_seen = [torch.tensor([CAR, CAR]), torch.tensor([PEDESTRIAN])]
    added = add_teacher_labels(batch, label_decoder(decoder, 0.6), heard(head, seen, of_seen, 0.8))
    torch.testing.assert_close(added.boxes[0], torch.cat([true[0], seen[0][1:]]))
    torch.testing.assert_close(added.boxes[1], seen[1])
    assert [of_sample.tolist() for of_sample in added.labels] == [[CAR, CAR], [PEDESTRIAN]]
    assert batch.boxes is true and len(true[0]) == 1 and added.tokens == batch.tokens


def test_a_teacher_that_is_not_sure_adds_nothing(head, decoder):
    batch = Batch(None, [torch.empty(0, 9)], [torch.empty(0, dtype=torch.long)], None, None, ["a"])
    unsure = heard(head, [boxes((1.5, 0.5, 4.0, 2.0, 0.3))], [torch.tensor([CAR])], 0.55)
    assert add_teacher_labels(batch, label_decoder(decoder, 0.6), unsure).boxes[0].shape == (0, 9)
    assert add_teacher_labels(batch, label_decoder(decoder, 0.5), unsure).boxes[0].shape == (1, 9)


def test_a_sample_of_a_transfusion_head_is_a_batch_of_one():
    output = TransFusionOutput(*(torch.randn(3, i + 1) for i in range(len(TransFusionOutput._fields))))
    assert all(
        torch.equal(ours[0], theirs[2]) for ours, theirs in zip(select_samples(output, [2]), output, strict=True)
    )
