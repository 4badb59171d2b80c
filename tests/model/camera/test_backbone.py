"""Image backbones: outputs, gradients, and that recomputing activations changes nothing."""

import copy
import math

import pytest
import torch
from torch import nn

from vexkd_model.camera import backbone as backbone_module
from vexkd_model.camera.backbone import ImageBackbone

SMALL = ("resnet18", "swin_tiny")


def images(count=2, height=70, width=90, seed=0):
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def built(name, stages=(2, 3), **options):
    """Build a backbone with random weights, and random statistics and affine map for each channel of each norm."""
    torch.manual_seed(0)
    backbone = ImageBackbone(name, stages, **options)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return backbone


def assert_same(found, expected, share=1e-5):
    """Compare up to float32's rounding, which is about 5e-7 of the largest number of a map."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= share * expected.abs().max()


def backward(backbone, batch):
    torch.manual_seed(1)  # of stochastic depth
    maps = backbone(batch)
    sum((x * torch.linspace(-1, 1, x.shape[1])[:, None, None]).mean() for x in maps).backward()
    return maps


@pytest.mark.parametrize(
    ("name", "parameters", "channels"),
    [
        ("resnet18", 11_689_512 - 513_000, [64, 128, 256, 512]),
        ("resnet50", 25_557_032 - 2_049_000, [256, 512, 1024, 2048]),
        ("resnet101", 44_549_160 - 2_049_000, [256, 512, 1024, 2048]),
        ("swin_tiny", 28_288_354 - 769_000, [96, 192, 384, 768]),
    ],
)
def test_the_networks_are_the_published_ones_without_their_classifier(name, parameters, channels):
    """Published numbers of parameters, with a classifier of 1000 classes; Swin's final norm is our stage 4's."""
    with torch.device("meta"):
        alone, every = ImageBackbone(name, [4]), ImageBackbone(name, [1, 2, 3, 4])
    assert sum(p.numel() for p in alone.parameters()) == parameters
    assert every.channels == channels and alone.channels == channels[3:]


@pytest.mark.parametrize(
    ("name", "height", "width"),
    [
        ("resnet18", 900, 1600),
        ("swin_tiny", 256, 704),
        ("resnet18", 70, 90),
        ("swin_tiny", 70, 90),
        ("swin_tiny", 20, 9),
        ("resnet50", 64, 96),
    ],
)
@torch.no_grad()
def test_each_stage_has_its_stride_whatever_the_size(name, height, width):
    backbone = ImageBackbone(name, [1, 2, 3, 4]).eval()
    maps = backbone(images(1, height, width))
    for x, channels, stride in zip(maps, backbone.channels, (4, 8, 16, 32), strict=True):
        assert x.shape == (1, channels, math.ceil(height / stride), math.ceil(width / stride))
        assert x.dtype == torch.float32 and x.isfinite().all()


@pytest.mark.parametrize("name", [*SMALL, "resnet50"])
@pytest.mark.parametrize("stages", [(1,), (2, 3), (4,)])
def test_every_weight_that_exists_learns(name, stages):
    backbone = built(name, stages).train()
    backward(backbone, images())
    assert {n for n, p in backbone.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0} == set()


@pytest.mark.parametrize("name", SMALL)
def test_stages_that_are_asked_alone_are_those_of_the_whole_network(name):
    whole, part = built(name, (1, 2, 3, 4)).eval(), ImageBackbone(name, (1, 3)).eval()
    part.load_state_dict({n: whole.state_dict()[n] for n in part.state_dict()})
    for found, expected in zip(part(images()), whole(images())[::2], strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_a_batch_equals_its_images_one_by_one(name):
    backbone = built(name).eval()
    together = backbone(images(3))
    for i in range(3):
        for alone, of_batch in zip(backbone(images(3)[i : i + 1]), together, strict=True):
            assert_same(alone[0], of_batch[i])


@torch.no_grad()
def test_a_grey_pixel_of_imagenets_mean_colour_is_zero_to_the_network_and_red_comes_first():
    backbone = ImageBackbone("resnet18", [1])
    colour = torch.tensor([124, 116, 104], dtype=torch.uint8)[:, None, None]
    seen = []
    backbone.body.embedder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    backbone(colour.expand(1, 3, 32, 32))
    expected = (colour / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    torch.testing.assert_close(seen[0], expected.expand(1, 3, 32, 32), atol=1e-4, rtol=1e-4)
    assert expected.abs().max() < 0.01


def test_frozen_norms_neither_learn_nor_count_while_convolutions_do():
    backbone = built("resnet18", frozen_norms=True)
    before = copy.deepcopy(backbone.state_dict())
    expected = backbone.eval()(images())
    for found, wanted in zip(backward(backbone.train(), images()), expected, strict=True):
        assert_same(found, wanted)
    for name, parameter in backbone.named_parameters():
        assert (parameter.grad is None) == (not parameter.requires_grad) == ("normalization" in name)
        assert parameter.grad is None or parameter.grad.abs().sum() > 0
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_norms_that_are_not_frozen_count_their_batches():
    backbone = built("resnet18")
    before = backbone.body.embedder.embedder.normalization.running_mean.clone()
    backward(backbone.train(), images())
    assert not torch.allclose(backbone.body.embedder.embedder.normalization.running_mean, before)


@pytest.mark.parametrize(
    ("name", "options", "at_once"),
    [
        ("resnet18", {}, 1),
        ("resnet18", {"frozen_norms": True}, 1),
        ("resnet18", {"frozen_norms": True}, 2),
        ("swin_tiny", {}, 3),
    ],
)
def test_recomputing_changes_neither_maps_nor_gradients_nor_statistics(name, options, at_once, monkeypatch):
    """at_once: images that fit. Batch norms that count see all images together all the same. Stochastic depth draws
    for every chunk, so Swin's chunk is the batch here."""
    monkeypatch.setattr(backbone_module, "PIXELS_AT_ONCE", at_once * 70 * 90)
    monkeypatch.setattr(backbone_module, "BLOCKS_A_PIECE", 1)
    kept, again = (built(name, (1, 2), recompute=recompute, **options).train() for recompute in (False, True))
    for seed in (0, 1):  # the second step finds what the first one left
        batch = images(3, seed=seed)
        for found, expected in zip(backward(again, batch), backward(kept, batch), strict=True):
            assert_same(found, expected)
    for found, expected in zip(again.parameters(), kept.parameters(), strict=True):
        if expected.requires_grad:
            assert_same(found.grad, expected.grad, share=1e-4)
    for found, expected in zip(again.state_dict().values(), kept.state_dict().values(), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("name", SMALL)
def test_swin_and_frozen_resnets_recompute_a_few_images_at_a_time(name, monkeypatch):
    backbone = built(name, recompute=True, frozen_norms=name != "swin_tiny").train()
    seen = []
    stem = backbone.body.stem
    monkeypatch.setattr(backbone.body, "stem", lambda x: seen.append(len(x)) or stem(x))
    monkeypatch.setattr(backbone_module, "PIXELS_AT_ONCE", 2 * 70 * 90)
    assert [len(x) for x in backward(backbone, images(5))] == [5, 5]
    assert sorted(seen) == [1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("name", SMALL)
def test_recomputing_keeps_a_fraction_of_the_activations(name):
    def kept_bytes(backbone):
        storages = {}

        def pack(tensor):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            maps = backbone.train()(images(2, 64, 96))
        weights = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
        del maps
        return sum(storage.nbytes() for address, storage in storages.items() if address not in weights)

    assert kept_bytes(built(name, (4,), recompute=True)) < 0.2 * kept_bytes(built(name, (4,)))


def test_swin_skips_both_branches_of_a_block_more_often_the_deeper_it_is():
    backbone = built("swin_tiny", (1, 3)).train()
    blocks = [block for layer in backbone.body.swin.encoder.layers for block in layer.blocks]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for block in blocks]
    assert rates == pytest.approx([0.2 * i / 11 for i in range(10)])
    block, tokens = blocks[3], torch.randn(2, 8 * 9, 192)
    for rate, same in ((1 - 1e-9, True), (0.0, False)):
        block.drop_path.drop_prob = rate
        assert torch.equal(block(tokens, (8, 9), always_partition=True)[0], tokens) == same


def test_a_copy_of_swin_drops_nothing_in_eval_while_the_original_trains():
    original = built("swin_tiny", (1,)).eval()
    twin, expected = copy.deepcopy(original), original(images())[0]
    original.train().body.swin.encoder.layers[0].blocks[1].drop_path.drop_prob = 1 - 1e-9
    assert not torch.equal(original(images())[0], expected)
    assert torch.equal(twin(images())[0], expected)


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_bfloat16_says_nearly_the_same(name):
    backbone = built(name).eval()
    with torch.autocast("cpu", torch.bfloat16):
        low = backbone(images())
    for found, exact in zip(low, backbone(images()), strict=True):
        assert (found.float() - exact).abs().max() < 0.06 * exact.abs().max()


def test_it_trains_under_bfloat16_with_recomputing():
    backbone = built("resnet18", recompute=True).train()
    with torch.autocast("cpu", torch.bfloat16):
        backward(backbone, images())
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in backbone.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_it_is_exported(name):
    backbone = built(name, recompute=True).eval()
    exported = torch.export.export(backbone, (images(seed=1),), strict=False).module()
    for found, expected in zip(exported(images(seed=2)), backbone(images(seed=2)), strict=True):
        assert_same(found, expected)


def test_stages_that_do_not_exist_or_come_in_disorder_are_refused():
    for stages in ([], [0, 1], [4, 5], [3, 2], [2, 2]):
        with pytest.raises(ValueError, match="increasing"):
            ImageBackbone("resnet18", stages)
    with pytest.raises(ValueError, match="no batch norms"):
        ImageBackbone("swin_tiny", [4], frozen_norms=True)
