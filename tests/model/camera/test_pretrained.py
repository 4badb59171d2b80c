"""Pretrained weights under their publishers' names give their publishers' outputs.

The publishers' networks stand here once more, in plain PyTorch: torchvision's ResNet and Microsoft's Swin, with their
names. Swin's attention is written without windows: all pairs of positions, masked.
"""

import re

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    SwinBackbone,
    SwinConfig,
    SwinForImageClassification,
)

from vexkd_model.camera.backbone import ImageBackbone
from vexkd_model.camera.pretrained import load_backbone_weights
from vexkd_model.errors import UserError


class TorchvisionBlock(nn.Module):
    def __init__(self, channels_in, width, stride, bottleneck):
        super().__init__()
        out = 4 * width if bottleneck else width
        shapes = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        ends = [channels_in, width, width, out] if bottleneck else [channels_in, width, width]
        self.count = len(shapes)
        for i, (kernel, step) in enumerate(shapes):
            setattr(self, f"conv{i + 1}", nn.Conv2d(ends[i], ends[i + 1], kernel, step, kernel // 2, bias=False))
            setattr(self, f"bn{i + 1}", nn.BatchNorm2d(ends[i + 1]))
        self.downsample = None
        if stride > 1 or channels_in != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = x
        for i in range(1, self.count + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(y))
            y = y if i == self.count else y.relu()
        return (y + (x if self.downsample is None else self.downsample(x))).relu()


class TorchvisionResNet(nn.Module):
    def __init__(self, depths, bottleneck):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for i, depth in enumerate(depths):
            blocks = []
            for j in range(depth):
                blocks.append(TorchvisionBlock(channels, 64 * 2**i, 2 if i and j == 0 else 1, bottleneck))
                channels = 64 * 2**i * (4 if bottleneck else 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        x = F.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        maps = []
        for i in range(1, 5):
            x = getattr(self, f"layer{i}")(x)
            maps.append(x)
        return maps


class MicrosoftAttention(nn.Module):
    """Shifted-window attention (M, h, w, C) → the same: each position looks at those of its window, after a shift."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.randn(13 * 13, heads))

    def forward(self, x, shift):
        rows, columns = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -columns % 7, 0, -rows % 7))
        height, width = x.shape[1:3]
        place = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), -1).view(-1, 2)
        # A shift by s moves the windows' borders to s, 7 + s …; what lies before s is a window of its own.
        window = (place - shift).div(7, rounding_mode="floor") if shift else place // 7
        together = (window[:, None] == window[None]).all(-1)
        dy, dx = (place[:, None] - place[None]).clamp(-6, 6).unbind(-1)
        bias = self.relative_position_bias_table[(dy + 6) * 13 + dx + 6].permute(2, 0, 1)
        q, k, v = self.qkv(x).flatten(1, 2).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias
        x = scores.masked_fill(~together, -torch.inf).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).flatten(2)).unflatten(1, (height, width))[:, :rows, :columns]


class MicrosoftBlock(nn.Module):
    def __init__(self, channels, heads, shift):
        super().__init__()
        self.shift = shift
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.attn = MicrosoftAttention(channels, heads)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(channels, 4 * channels), "fc2": nn.Linear(4 * channels, channels)})

    def forward(self, x):
        x = x + self.attn(self.norm1(x), self.shift)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class MicrosoftSwin(nn.Module):
    """As it is for detection: with a norm at each stage, norm0 … norm3."""

    def __init__(self):
        super().__init__()
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, 96, 4, 4), "norm": nn.LayerNorm(96)})
        self.layers = nn.ModuleList()
        for i, (depth, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
            c = 96 * 2**i
            layer = {"blocks": nn.ModuleList(MicrosoftBlock(c, heads, 3 * (j % 2)) for j in range(depth))}
            if i < 3:
                layer["downsample"] = nn.ModuleDict(
                    {"norm": nn.LayerNorm(4 * c), "reduction": nn.Linear(4 * c, 2 * c, bias=False)}
                )
            self.layers.append(nn.ModuleDict(layer))
            setattr(self, f"norm{i}", nn.LayerNorm(c))
        self.head = nn.Linear(768, 10)

    def forward(self, x):
        x = F.pad(x, (0, -x.shape[-1] % 4, 0, -x.shape[-2] % 4))
        x = self.patch_embed["norm"](self.patch_embed["proj"](x).permute(0, 2, 3, 1))
        maps = []
        for i, layer in enumerate(self.layers):
            for block in layer["blocks"]:
                x = block(x)
            maps.append(getattr(self, f"norm{i}")(x).permute(0, 3, 1, 2))
            if i < 3:
                x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
                four = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
                x = layer["downsample"]["reduction"](layer["downsample"]["norm"](torch.cat(four, -1)))
        return maps


def published(name):
    """A network with random weights and statistics."""
    torch.manual_seed(0)
    net = {
        "resnet18": lambda: TorchvisionResNet([2, 2, 2, 2], False),
        "resnet50": lambda: TorchvisionResNet([3, 4, 6, 3], True),
        "swin_tiny": MicrosoftSwin,
    }[name]()
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.2)
    return net.eval()


def images():
    return torch.randint(0, 256, (2, 3, 70, 91), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def normalised(images):
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    return (images / 255 - mean) / std


def assert_same(found, expected):
    """Equal but for float32's rounding."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 2e-5 * expected.abs().max()


def resnet18_file(folder, change=lambda tensors: None, suffix="pth"):
    tensors = published("resnet18").state_dict()
    change(tensors)
    path = folder / f"weights.{suffix}"
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    ("name", "wrapped", "suffix"),
    [
        ("resnet18", None, "pth"),
        ("resnet50", None, "safetensors"),
        ("resnet50", "state_dict", "pt"),
        ("swin_tiny", "model", "pth"),
        ("swin_tiny", None, "safetensors"),
    ],
)
@torch.no_grad()
def test_published_weights_give_the_published_networks_maps(name, wrapped, suffix, tmp_path):
    net = published(name)
    tensors, path = net.state_dict(), tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        save_file(tensors, path)
    else:
        torch.save({wrapped: tensors, "epoch": 300} if wrapped else tensors, path)
    backbone = ImageBackbone(name, [1, 2, 3, 4]).eval()
    load_backbone_weights(backbone, str(path))
    for found, expected in zip(backbone(images()), net(normalised(images())), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny"])
@torch.no_grad()
def test_a_shallower_backbone_takes_its_part_of_the_file(name, tmp_path):
    net = published(name)
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    backbone = ImageBackbone(name, [2]).eval()
    load_backbone_weights(backbone, str(tmp_path / "weights.pth"))
    assert_same(backbone(images())[0], net(normalised(images()))[1])


def test_a_swin_classifier_has_no_norms_at_its_stages_and_leaves_ours_as_they_are(tmp_path):
    detector = published("swin_tiny").state_dict()
    tensors = {
        re.sub(r"^norm3\.", "norm.", name): tensor
        for name, tensor in detector.items()
        if not re.match(r"norm[012]\.", name)
    }
    tensors["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    tensors["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    torch.save({"model": tensors}, tmp_path / "swin.pth")
    backbone = ImageBackbone("swin_tiny", [2, 4])
    load_backbone_weights(backbone, str(tmp_path / "swin.pth"))
    norms = backbone.body.hidden_states_norms
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms.values())
    assert torch.equal(backbone.body.swin.embeddings.norm.weight, tensors["patch_embed.norm.weight"])


def classifier(name):
    torch.manual_seed(0)
    if name == "swin_tiny":
        return SwinForImageClassification(SwinConfig())
    return ResNetForImageClassification(
        ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512])
    )


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny"])
def test_transformers_own_files_and_folders_load(name, tmp_path):
    net = classifier(name)
    net.save_pretrained(tmp_path)
    weights = dict((net.swin if name == "swin_tiny" else net.resnet).named_parameters())
    for source in (tmp_path, tmp_path / "model.safetensors"):
        backbone = ImageBackbone(name, [3, 4])
        load_backbone_weights(backbone, str(source))
        for key, value in backbone.body.named_parameters():
            if "hidden_states_norms" not in key:
                assert torch.equal(value, weights[key.removeprefix("swin.")]), key


def test_the_names_of_swin_files_on_the_hub_are_those_before_transformers_5(tmp_path):
    """microsoft/swin-tiny-patch4-window7-224 holds them."""
    old = {
        "attention.q_proj": "attention.self.query",
        "attention.k_proj": "attention.self.key",
        "attention.v_proj": "attention.self.value",
        "attention.o_proj": "attention.output.dense",
        "attention.relative_position_bias.relative": "attention.self.relative",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    tensors = {}
    for name, tensor in classifier("swin_tiny").state_dict().items():
        for new, before in old.items():
            name = name.replace(new, before)
        tensors[name] = tensor
    assert "swin.encoder.layers.0.blocks.0.attention.self.query.weight" in tensors
    save_file(tensors, tmp_path / "old.safetensors")
    backbone = ImageBackbone("swin_tiny", [4])
    load_backbone_weights(backbone, str(tmp_path / "old.safetensors"))
    block = backbone.body.swin.encoder.layers[3].blocks[1]
    for layer, name in (
        (block.attention.q_proj, "attention.self.query"),
        (block.mlp.fc2, "output.dense"),
        (block.attention.o_proj, "attention.output.dense"),
    ):
        assert torch.equal(layer.weight, tensors[f"swin.encoder.layers.3.blocks.1.{name}.weight"])


def test_the_norms_of_a_backbone_that_transformers_saved_are_taken(tmp_path):
    net = SwinBackbone(SwinConfig(out_indices=[2, 3]))
    nn.init.uniform_(net.hidden_states_norms["stage3"].weight)
    net.save_pretrained(tmp_path)
    backbone = ImageBackbone("swin_tiny", [3])
    load_backbone_weights(backbone, str(tmp_path))
    assert torch.equal(backbone.body.hidden_states_norms["stage3"].weight, net.hidden_states_norms["stage3"].weight)


def test_a_name_on_the_hub_is_looked_up_and_needs_no_network_once_it_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    backbone = ImageBackbone("resnet18", [4])
    with pytest.raises(UserError, match=r"^some/resnet-18: cannot be had .*model\.safetensors") as error:
        load_backbone_weights(backbone, "some/resnet-18")
    assert "\n" not in str(error.value)
    fetched = tmp_path / "models--some--resnet-18"
    (fetched / "refs").mkdir(parents=True)
    (fetched / "refs" / "main").write_text("0" * 40)
    net = classifier("resnet18")
    net.save_pretrained(fetched / "snapshots" / ("0" * 40))
    load_backbone_weights(backbone, "some/resnet-18")
    assert torch.equal(
        backbone.body.embedder.embedder.convolution.weight, net.resnet.embedder.embedder.convolution.weight
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.pop("layer2.0.downsample.1.running_var"),
            r"encoder\.stages\.1\.layers\.0\.shortcut\.normalization\.running_var: no such tensor",
        ),
        (
            lambda t: t.update({"layer3.2.conv1.weight": torch.zeros(1)}),
            r"layer3\.2\.conv1\.weight: resnet18 has no such",
        ),
        (
            lambda t: t.update({"conv1.weight": torch.zeros(64, 1, 7, 7)}),
            r"conv1\.weight: shape \(64, 1, 7, 7\) where resnet18 has \(64, 3, 7, 7\)",
        ),
        (lambda t: t["layer1.0.bn1.bias"].fill_(torch.nan), r"layer1\.0\.bn1\.bias: holds numbers that are not finite"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_the_tensors_name_and_nothing_changes(change, message, tmp_path):
    backbone = ImageBackbone("resnet18", [3])
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(UserError, match=rf"weights\.pth: {message}.*; "):
        load_backbone_weights(backbone, str(resnet18_file(tmp_path, change)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_the_weights_of_another_network_are_refused(tmp_path):
    path = resnet18_file(tmp_path)
    for name in ("resnet50", "swin_tiny"):
        with pytest.raises(UserError, match=f"give weights of {name}"):
            load_backbone_weights(ImageBackbone(name, [2]), str(path))


def test_old_torchvision_files_without_counted_batches_load(tmp_path):
    def age(tensors):
        for name in [name for name in tensors if name.endswith("num_batches_tracked")]:
            del tensors[name]

    load_backbone_weights(ImageBackbone("resnet18", [4]), str(resnet18_file(tmp_path, age)))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("cut.pth", b"PK\x03\x04 cut short", "cannot be read"),
        ("cut.safetensors", b"{}", "cannot be read"),
        ("empty.pt", b"", "cannot be read"),
        ("weights.zip", b"PK", "not one of .safetensors, .pth, .pt"),
    ],
)
def test_files_that_hold_no_weights_are_refused_in_one_line(file, content, message, tmp_path):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"{file}: {message}") as error:
        load_backbone_weights(ImageBackbone("resnet18", [1]), str(tmp_path / file))
    assert "\n" not in str(error.value)


def test_a_file_that_would_run_code_or_holds_a_list_or_is_not_there_is_refused(tmp_path, capfd):
    class Trap:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"conv1.weight": Trap()}, tmp_path / "trap.pth")
    torch.save([torch.zeros(3)], tmp_path / "list.pth")
    backbone = ImageBackbone("resnet18", [1])
    for file, message in (
        ("trap", ".*: no such tensor"),
        ("list", "holds no tensors by name"),
        ("none", "no such file"),
    ):
        with pytest.raises(UserError, match=rf"{file}\.pth: {message}") as error:
            load_backbone_weights(backbone, str(tmp_path / f"{file}.pth"))
        assert "\n" not in str(error.value)
    assert capfd.readouterr().out == ""
    with pytest.raises(UserError, match=r"model\.safetensors: cannot be read"):
        load_backbone_weights(backbone, str(tmp_path))
