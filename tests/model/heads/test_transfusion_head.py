"""The TransFusionHead: queries start at peaks, carry their place and class, and look at the whole map."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from vexkd_model.deploy.fold import fold_batch_norms
from vexkd_model.heads.transfusion import Attention, DecoderLayer, PositionEmbedding, TransFusionHead, peaks
from vexkd_model.heads.transfusion_loss import transfusion_loss, transfusion_targets
from vexkd_model.types import DETECTION_CLASSES, BevGrid

GRID = BevGrid(-8.0, 8.0, -6.0, 6.0, 1.0)
ROWS, COLUMNS = GRID.shape  # 12, 16
CELL_SIZED = torch.tensor([name in ("pedestrian", "traffic_cone") for name in DETECTION_CLASSES])
PROPOSALS = 9


def head(dropout=0.1):
    torch.manual_seed(0)
    return TransFusionHead(6, 16, PROPOSALS, heads=4, feed_forward=24, dropout=dropout)


def losses(output):
    """The terms of the loss against three objects in the first sample and two in the second."""
    boxes = torch.tensor(
        [
            [3.2, 1.4, 0.5, 4.0, 2.0, 1.5, 0.3, 2.0, -1.0],
            [-5.0, -2.3, 1.0, 7.0, 2.5, 3.0, 1.3, 1.0, 9.0],
            [0.0, 4.4, 0.9, 0.7, 0.6, 1.7, -2.0, 0.2, 1.1],
        ]
    )
    labels = torch.tensor([0, 2, 8])
    targets = transfusion_targets(output, [boxes, boxes[:2]], [labels, labels[:2]], GRID)
    return torch.stack(list(transfusion_loss(output, targets).values()))


def is_peak(plane, row, column):
    """Tell if a cell of a class's map (Y, X) is a peak: inside, and no neighbour is greater."""
    if row in (0, plane.shape[0] - 1) or column in (0, plane.shape[1] - 1):
        return False
    return plane[row, column] == plane[row - 1 : row + 2, column - 1 : column + 2].max()


def test_peaks_are_the_inner_cells_that_no_neighbour_exceeds_and_every_cell_of_cell_sized_classes():
    probability = torch.rand(2, 10, 7, 9, generator=torch.Generator().manual_seed(1))
    probability[1, 2, 3, 3:5] = 0.9999  # a plateau: both cells
    found = peaks(probability, CELL_SIZED)
    for b, k, row, column in np.ndindex(*probability.shape):
        value = probability[b, k, row, column]
        stays = k in (8, 9) or is_peak(probability[b, k], row, column)
        assert found[b, k, row, column] == (value if stays else 0)


class Says(nn.Module):
    """Layer with a constant output."""

    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, _):
        return self.answer


def test_proposals_are_the_best_peaks_of_all_classes_best_first():
    logits = torch.full((1, 10, ROWS, COLUMNS), -30.0)
    logits[0, 0, 5, 6], logits[0, 0, 5, 7] = 3.0, 2.9  # a car and its shoulder, which is no peak
    logits[0, 8, 5, 6], logits[0, 8, 5, 7] = 2.0, 1.9  # two pedestrians side by side
    logits[0, 4, 0, 3] = 9.0  # a trailer on the border
    logits[0, 9, 0, 3] = 1.0  # a cone on the border
    logits[0, 6, 10, 14] = 0.5
    model = head().eval()
    model.heatmap = Says(logits)
    output = model(torch.rand(1, 6, ROWS, COLUMNS))
    expected = [(3.0, 0, 5, 6), (2.0, 8, 5, 6), (1.9, 8, 5, 7), (1.0, 9, 0, 3), (0.5, 6, 10, 14)]
    np.testing.assert_allclose(output.score[0, :5], [1 / (1 + np.exp(-logit)) for logit, *_ in expected], rtol=1e-6)
    assert output.label[0, :5].tolist() == [label for _, label, _, _ in expected]
    assert output.cell[0, :5].tolist() == [row * COLUMNS + column for _, _, row, column in expected]
    assert output.score.shape == (1, PROPOSALS) and output.score[0, 5:].max() < 1e-9


class Sees(nn.Module):
    """Recorder in place of the decoder, which keeps its input and changes nothing."""

    def forward(self, *given):
        self.query, self.keys, self.query_position, self.key_position = given
        return given[0]


def test_a_query_is_the_feature_of_its_cell_with_its_class_and_stands_at_the_cells_centre():
    model, x = head().eval(), torch.randn(2, 6, ROWS, COLUMNS)
    model.decoder, model.query_position, model.key_position = Sees(), nn.Identity(), nn.Identity()
    output, shared = model(x), model.shared(x)
    seen, encoding = model.decoder, model.class_encoding
    assert len(set(output.label.flatten().tolist())) > 1
    for b, p in np.ndindex(2, PROPOSALS):
        row, column = divmod(output.cell[b, p].item(), COLUMNS)
        feature = shared[b, :, row, column]
        torch.testing.assert_close(seen.keys[b, output.cell[b, p]], feature)
        torch.testing.assert_close(seen.query[b, p], feature + encoding.weight[:, output.label[b, p]] + encoding.bias)
        assert seen.query_position[b, p].tolist() == [column + 0.5, row + 0.5]
    centres = [[column + 0.5, row + 0.5] for row in range(ROWS) for column in range(COLUMNS)]
    assert seen.key_position.tolist() == centres


def copied_attention(ours):
    """PyTorch's own attention with the weights of ours."""
    theirs = nn.MultiheadAttention(16, 4, batch_first=True).double().eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, torch.randn(16), ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    return theirs


def test_attention_is_pytorchs_whatever_bias_its_keys_have():
    torch.manual_seed(0)
    ours = Attention(16, 4, 0.1).double().eval()
    for bias in (ours.query.bias, ours.value.bias, ours.out.bias):
        nn.init.normal_(bias)
    queries, tokens = torch.randn(2, 5, 16).double(), torch.randn(2, 30, 16).double()
    expected, _ = copied_attention(ours)(queries, tokens, tokens)
    torch.testing.assert_close(ours(queries, tokens), expected)


def test_the_decoder_attends_to_queries_then_to_the_map_then_feeds_forward_each_followed_by_a_norm():
    torch.manual_seed(0)
    layer = DecoderLayer(16, 4, 24, 0.1).double().eval()
    for p in layer.parameters():
        if p.dim() == 1:
            nn.init.normal_(p)
    query, keys, query_position, key_position = (
        torch.randn(*shape).double() for shape in ((2, 5, 16), (2, 30, 16), (2, 5, 16), (30, 16))
    )
    to_queries, to_map = copied_attention(layer.self_attention), copied_attention(layer.cross_attention)
    placed = query + query_position
    x = layer.norms[0](query + to_queries(placed, placed, placed)[0])
    x = layer.norms[1](x + to_map(x + query_position, keys + key_position, keys + key_position)[0])
    first, _, _, second = layer.feed_forward
    x = layer.norms[2](x + second(first(x).clamp(min=0)))
    torch.testing.assert_close(layer(query, keys, query_position, key_position), x)


def test_places_are_embedded_in_float32_whatever_the_rest_runs_in():
    torch.manual_seed(0)
    embedding, position = PositionEmbedding(8).eval(), torch.tensor([[170.5, 3.5], [171.5, 3.5]])
    with torch.autocast("cpu", torch.bfloat16):
        embedded = embedding(position)
    assert torch.equal(embedded, embedding(position)) and not torch.equal(embedded[0], embedded[1])


def test_the_published_head_has_the_published_numbers_of_parameters():
    model = TransFusionHead(512, 128, 200, heads=8, feed_forward=256, dropout=0.1)
    norm, square = 2 * 128, 128 * 128
    expected = 512 * 128 * 9 + 128  # shared
    expected += 128 * 128 * 9 + norm + 128 * 10 * 9 + 10  # heatmap
    expected += 10 * 128 + 128 + 2 * (2 * 128 + norm + square + 128)  # class and positions
    expected += 2 * (4 * square + 3 * 128) + 128 * 256 + 256 + 256 * 128 + 128 + 3 * norm - 128  # decoder
    expected += 6 * (128 * 64 + 2 * 64) + 20 * (64 + 1)  # 10 classes, 2 + 1 + 3 + 2 + 2 numbers of the box
    assert sum(p.numel() for p in model.parameters()) == expected
    output = model.eval()(torch.rand(1, 512, 30, 30))
    assert {name: tuple(getattr(output, name).shape) for name in output._fields} == {
        "heatmap": (1, 10, 30, 30),
        "cell": (1, 200),
        "label": (1, 200),
        "score": (1, 200),
        "logits": (1, 200, 10),
        "offset": (1, 200, 2),
        "height": (1, 200, 1),
        "size": (1, 200, 3),
        "heading": (1, 200, 2),
        "velocity": (1, 200, 2),
    }


def test_an_untrained_heatmap_is_about_ten_percent_sure_everywhere():
    probability = head().eval()(torch.zeros(1, 6, ROWS, COLUMNS)).heatmap.sigmoid()
    assert probability.min() > 0.05 and probability.max() < 0.2


def test_gradients_reach_every_parameter_but_none_passes_through_the_choice_of_peaks():
    model = head(dropout=0.0)
    output = model(torch.randn(2, 6, ROWS, COLUMNS))
    assert not output.score.requires_grad
    losses(output).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() < 1e-7] == []


def test_a_batch_equals_its_samples_one_by_one():
    model, x = head().eval(), torch.randn(3, 6, ROWS, COLUMNS)
    together = model(x)
    for i in range(3):
        torch.testing.assert_close([field[i : i + 1] for field in together], list(model(x[i : i + 1])))


def test_a_silent_map_gives_finite_proposals():
    assert all(field.isfinite().all() for field in head().eval()(torch.zeros(2, 6, ROWS, COLUMNS)))


@pytest.mark.parametrize("batch", [1, 2])
def test_the_exported_head_says_the_same(batch):
    model, x = head().eval(), torch.randn(batch, 6, ROWS, COLUMNS)
    exported = torch.export.export(model, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), model(x))


def test_a_folded_head_in_channels_last_says_the_same():
    model, x = head(), torch.randn(4, 6, ROWS, COLUMNS)
    model(x)  # statistics that are not those of the start
    folded = fold_batch_norms(copy.deepcopy(model.eval())).to(memory_format=torch.channels_last)
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(list(folded(x)), list(model(x)), atol=1e-4, rtol=1e-4)


def test_bfloat16_training_is_within_its_rounding_of_float32():
    model, x = head(dropout=0.0), torch.randn(2, 6, ROWS, COLUMNS)
    # Whole logits, far apart where it matters: rounding then changes no choice of peaks.
    logits = torch.randint(-60, 0, (2, 10, ROWS, COLUMNS), generator=torch.Generator().manual_seed(2)) / 4
    model.heatmap = Says(logits)
    exact = losses(model(x))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x)
        coarse = losses(output)
    coarse.sum().backward()
    assert coarse.dtype == torch.float32 and output.offset.dtype == torch.bfloat16
    torch.testing.assert_close(coarse, exact, atol=0.05, rtol=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="16 channels do not divide among 5 heads"):
        TransFusionHead(6, 16, 4, heads=5, feed_forward=24, dropout=0.1)
