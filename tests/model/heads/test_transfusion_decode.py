"""TransFusion's proposals become boxes as the definition says, read one by one in plain Python."""

import math

import numpy as np
import pytest
import torch

from vexkd_model.heads.center import REGRESSION_CHANNELS
from vexkd_model.heads.decode import TransFusionDecoder, proposal_boxes
from vexkd_model.heads.transfusion import TransFusionOutput
from vexkd_model.types import BevGrid

GRID = BevGrid(-9.0, 9.0, -6.0, 6.0, 0.5)
ROWS, COLUMNS = GRID.shape


def random_output(seed, proposals=60, batch=1):
    random = torch.Generator().manual_seed(seed)
    fields = {
        name: torch.randn(batch, proposals, channels, generator=random)
        for name, channels in REGRESSION_CHANNELS.items()
    }
    fields["offset"] *= 10  # some go far beyond the grid
    fields["height"] *= 8
    return TransFusionOutput(
        torch.randn(batch, 10, ROWS, COLUMNS, generator=random),
        torch.randint(ROWS * COLUMNS, (batch, proposals), generator=random),
        torch.randint(10, (batch, proposals), generator=random),
        torch.rand(batch, proposals, generator=random),
        torch.randn(batch, proposals, 10, generator=random),
        **fields,
    )


def read_by_definition(output, threshold, max_detections):
    found = []
    for p in range(output.cell.shape[1]):
        label = output.label[0, p].item()
        score = output.score[0, p].item() / (1 + math.exp(-output.logits[0, p, label]))
        offset, height, size, heading, velocity = (getattr(output, name)[0, p].tolist() for name in REGRESSION_CHANNELS)
        row, column = divmod(output.cell[0, p].item(), COLUMNS)
        x, y = -9.0 + (column + 0.5 + offset[0]) * 0.5, -6.0 + (row + 0.5 + offset[1]) * 0.5
        if score >= threshold and abs(x) <= 16.2 and abs(y) <= 13.2 and abs(height[0]) <= 10:
            box = [x, y, height[0], *map(math.exp, size), math.atan2(heading[0], heading[1]), *velocity]
            found.append((score, label, box))
    return sorted(found, key=lambda one: -one[0])[:max_detections]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("threshold", "max_detections"), [(0.05, 500), (0.3, 500), (0.05, 7)])
def test_boxes_are_what_the_definition_says(seed, threshold, max_detections):
    output = random_output(seed)
    expected = read_by_definition(output, threshold, max_detections)
    boxes, scores, labels = TransFusionDecoder(GRID, threshold, max_detections)(output)
    assert 5 < len(expected) == len(boxes) < 60
    np.testing.assert_allclose(scores, [score for score, _, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(boxes, [box for _, _, box in expected], rtol=1e-4, atol=1e-4)
    assert labels.tolist() == [label for _, label, _ in expected]


def test_a_proposal_is_silent_about_classes_whose_peak_it_does_not_stand_on():
    output = random_output(0, proposals=1)
    output.logits[:], output.logits[0, 0, 4] = -9.0, 9.0
    output.offset[:], output.height[:], output.score[:] = 0.0, 0.0, 0.9
    assert len(TransFusionDecoder(GRID, 0.01, 10)(output._replace(label=torch.tensor([[3]])))[0]) == 0
    _, scores, labels = TransFusionDecoder(GRID, 0.01, 10)(output._replace(label=torch.tensor([[4]])))
    assert labels.tolist() == [4] and scores.item() == pytest.approx(0.9, abs=1e-3)


def test_twins_both_stay_because_nothing_is_suppressed():
    output = TransFusionOutput(
        *(
            field if i == 0 else field.repeat_interleave(2, dim=1)
            for i, field in enumerate(random_output(1, proposals=8))
        )
    )
    boxes, *_ = TransFusionDecoder(GRID, 0.01, 500)(output)
    assert len(boxes) > 4 and torch.equal(boxes[::2], boxes[1::2])


def test_every_sample_of_a_batch_has_its_own_boxes():
    output = random_output(2, batch=3)
    together = proposal_boxes(output, GRID)
    assert together.shape == (3, 60, 9)
    for i in range(3):
        alone = TransFusionOutput(*(field[i : i + 1] for field in output))
        assert torch.equal(together[i : i + 1], proposal_boxes(alone, GRID))


def test_nothing_sure_enough_is_no_box():
    boxes, scores, labels = TransFusionDecoder(GRID, 0.999, 500)(random_output(3))
    assert boxes.shape == (0, 9) and scores.shape == labels.shape == (0,)


def test_bfloat16_outputs_decode_to_float32_boxes_on_their_cells():
    output = random_output(4, proposals=3)._replace(cell=torch.tensor([[0, 35, 863]]), offset=torch.zeros(1, 3, 2))
    boxes = proposal_boxes(TransFusionOutput(*(f.bfloat16() if f.is_floating_point() else f for f in output)), GRID)
    assert boxes.dtype == torch.float32
    np.testing.assert_allclose(boxes[0, :, :2], [[-8.75, -5.75], [8.75, -5.75], [8.75, 5.75]], atol=1e-6)
