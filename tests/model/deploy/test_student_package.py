"""A student package arrives as it was sent, or is refused in one line that names the file and the key."""

import hashlib
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from vexkd_model.deploy.package import CARD, CONFIG, WEIGHTS, load_package, save_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.types import DETECTION_CLASSES, Frame


@pytest.fixture(scope="module")
def student(tiny_config):
    torch.manual_seed(1)
    student = build_model(tiny_config)
    for name, buffer in student.named_buffers():  # as after training, and not as after construction
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    with torch.no_grad():
        for task in student.detection.tasks:  # sure enough to say something
            task.out.bias[: task.split[0]] = 0.0
    return student


@pytest.fixture(scope="module")
def original(student, tiny_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("package") / "small"
    save_package(folder, student, tiny_config, {"dataset": "tiny"}, {"mean_ap": 0.5}, "abc123")
    return folder


@pytest.fixture
def package(original, tmp_path):
    return shutil.copytree(original, tmp_path / "small")


def frame(count=3000, seed=0):
    random = np.random.default_rng(seed)
    points = random.uniform([-50, -50, -2, 0, 0], [50, 50, 2, 255, 0.1], (count, 5)).astype(np.float32)
    return Frame(points, stamp_ns=42, token="here")


def refused(folder):
    with pytest.raises(UserError) as error:
        load_package(folder)
    message = str(error.value)
    assert "\n" not in message
    return message


def edit_json(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def seal(folder):
    """Write the card's checksums anew, as somebody would who changes a file and the card alike."""
    digests = {
        key: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for key, name in (("weights_sha256", WEIGHTS), ("config_sha256", CONFIG))
    }
    edit_json(folder / CARD, lambda card: card.update(digests))


def test_half_a_package_is_half_as_large_and_as_exact_as_float16(student, tiny_config, original, tmp_path):
    save_package(tmp_path / "half", student, tiny_config, {}, {}, "abc123", half=True)
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 0.55 * (original / WEIGHTS).stat().st_size
    loaded = load_package(tmp_path / "half")[0].state_dict()
    for name, tensor in student.state_dict().items():
        assert loaded[name].dtype == tensor.dtype
        if tensor.ndim < 2:
            assert torch.equal(loaded[name], tensor)
        else:  # 11 significant bits, and 2^-24 from number to number near zero
            torch.testing.assert_close(loaded[name], tensor, rtol=2**-11, atol=2**-25)


def test_a_loaded_student_predicts_what_the_saved_one_did_bit_for_bit(student, tiny_config, original):
    before, after = (
        Predictor(student, tiny_config, None, "cpu").predict(frame()),
        Predictor.load(original).predict(frame()),
    )
    assert len(before.boxes) > 10
    np.testing.assert_array_equal(before.boxes.values, after.boxes.values)
    np.testing.assert_array_equal(before.scores, after.scores)
    np.testing.assert_array_equal(before.map_probabilities, after.map_probabilities)


def test_the_card_says_what_it_was_told_and_what_the_student_expects(original, tiny_config):
    card = json.loads((original / CARD).read_text())
    assert card["trained_on"] == {"dataset": "tiny"} and card["metrics"] == {"mean_ap": 0.5}
    assert card["source_revision"] == "abc123" and card["sweeps"] == tiny_config.sweeps
    assert tuple(card["detection_classes"]) == DETECTION_CLASSES


def test_saving_the_same_student_twice_writes_the_same_bytes(student, tiny_config, original, tmp_path):
    save_package(tmp_path / "again", student, tiny_config, {"dataset": "tiny"}, {"mean_ap": 0.5}, "abc123")
    for name in (WEIGHTS, CONFIG, CARD):
        assert (tmp_path / "again" / name).read_bytes() == (original / name).read_bytes()


def test_an_older_package_is_replaced_but_never_a_folder_of_something_else(student, tiny_config, package, tmp_path):
    save_package(package, student, tiny_config, {}, {}, "newer")
    assert load_package(package)[2].source_revision == "newer"
    assert [entry.name for entry in tmp_path.iterdir()] == ["small"]
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "letter").write_text("dear")
    with pytest.raises(UserError, match="home: exists and is not a student package"):
        save_package(precious, student, tiny_config, {}, {}, "newer")
    assert (precious / "letter").read_text() == "dear"


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, CARD])
def test_a_missing_file_is_named(package, name):
    (package / name).unlink()
    assert refused(package).startswith(f"{package / name}: cannot be read")


def test_a_missing_package_is_named(tmp_path):
    assert refused(tmp_path / "none").startswith(f"{tmp_path / 'none'}: no such student package")


@pytest.mark.parametrize("position", [0, 7, 500, 20_000, -1])
def test_one_flipped_bit_in_the_weights_is_noticed(package, position):
    content = bytearray((package / WEIGHTS).read_bytes())
    content[position] ^= 1
    (package / WEIGHTS).write_bytes(content)
    message = refused(package)
    assert message.startswith(f"{package / WEIGHTS}: ") and "weights_sha256" in message


@pytest.mark.parametrize("length", [0, 3, 100, 30_000])
def test_truncated_weights_are_noticed(package, length):
    (package / WEIGHTS).write_bytes((package / WEIGHTS).read_bytes()[:length])
    assert refused(package).startswith(f"{package / WEIGHTS}: {length} bytes do not match weights_sha256")


def test_a_changed_configuration_is_noticed(package):
    (package / CONFIG).write_text((package / CONFIG).read_text().replace("sweeps: 3", "sweeps: 4"))
    message = refused(package)
    assert message.startswith(f"{package / CONFIG}: ") and "config_sha256" in message


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda card: card.update(surprise=1), "surprise"),
        (lambda card: card.pop("weights_sha256"), "weights_sha256"),
        (lambda card: card.update(sweeps="many"), "sweeps"),
        (lambda card: card.update(format=99), "format"),
        (lambda card: card.update(sweeps=4), "sweeps"),
        (lambda card: card.update(grid_cell=0.6), "grid_cell"),
        (lambda card: card.update(detection_classes=card["detection_classes"][::-1]), "detection_classes"),
    ],
)
def test_a_changed_card_is_noticed_by_its_key(package, change, key):
    edit_json(package / CARD, change)
    assert refused(package).startswith(f"{package / CARD}: {key}: ")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_a_card_that_is_none_is_named(package, content):
    (package / CARD).write_bytes(content)
    assert refused(package).startswith(f"{package / CARD}: ")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda config: config.update(surprise=1), "surprise"),
        (lambda config: config["grid"].update(cell=0.7), "grid"),
        (lambda config: config["detection"].update(candidates=0), "detection.candidates"),
    ],
)
def test_a_sealed_but_wrong_configuration_is_named_by_file_and_key(package, change, key):
    values = yaml.safe_load((package / CONFIG).read_text())
    change(values)
    (package / CONFIG).write_text(yaml.safe_dump(values))
    seal(package)
    assert refused(package).startswith(f"{package / CONFIG}: {key}: ")


@pytest.mark.parametrize("text", ["a: [", "words", "", "- 1"])
def test_a_sealed_file_that_is_no_configuration_is_named(package, text):
    (package / CONFIG).write_text(text)
    seal(package)
    assert refused(package).startswith(f"{package / CONFIG}: ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t.pop("segmentation.layers.2.bias"), "segmentation.layers.2.bias: tensor is missing"),
        (lambda t: t.update(stranger=torch.zeros(1)), "stranger: tensor is unexpected"),
        (lambda t: t.update({"segmentation.layers.2.bias": torch.zeros(5)}), "segmentation.layers.2.bias: shape (5,)"),
        (lambda t: t["segmentation.layers.2.bias"].fill_(float("nan")), "segmentation.layers.2.bias: holds values"),
        (lambda t: t["detection.shared.0.weight"].view(-1)[:1].fill_(float("inf")), "detection.shared.0.weight: holds"),
    ],
)
def test_sealed_weights_that_do_not_fit_are_named_by_tensor(package, change, expected):
    tensors = load_file(package / WEIGHTS)
    change(tensors)
    save_file(tensors, package / WEIGHTS)
    seal(package)
    assert refused(package).startswith(f"{package / WEIGHTS}: {expected}")


class _Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickled_weights_are_refused_and_nothing_in_them_runs(package, tmp_path):
    sprung = tmp_path / "sprung"
    (package / WEIGHTS).write_bytes(pickle.dumps(_Trap(sprung)))
    seal(package)
    assert "not safetensors" in refused(package)
    assert not sprung.exists()
    torch.save({"a": _Trap(sprung)}, package / WEIGHTS)
    seal(package)
    assert "not safetensors" in refused(package)
    assert not sprung.exists()


def test_a_package_loads_from_a_read_only_place(original, tmp_path):
    package = shutil.copytree(original, tmp_path / "still")
    for path in (*package.iterdir(), package):
        path.chmod(0o555)
    try:
        load_package(package)
    finally:
        package.chmod(0o755)


def test_a_package_whose_replacement_is_killed_is_whole_and_can_be_replaced_again(
    student, tiny_config, package, monkeypatch
):
    def killed_half_way(folder, **_):
        if (folder / CARD).is_file():
            (folder / CARD).unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed_half_way)
        with pytest.raises(KeyboardInterrupt):
            save_package(package, student, tiny_config, {"dataset": "tiny"}, {"mean_ap": 0.6}, "def456")
    assert load_package(package)[2].source_revision == "def456"
    save_package(package, student, tiny_config, {"dataset": "tiny"}, {"mean_ap": 0.7}, "789abc")
    assert load_package(package)[2].source_revision == "789abc"
    assert [path.name for path in package.parent.iterdir()] == [package.name]
