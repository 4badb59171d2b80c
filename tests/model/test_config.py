"""A model's configuration: complete, checked, and every mistake named by file and key."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from vexkd_model.config import ModelConfig, dump_config, load_config, reading
from vexkd_model.config.reading import find_config
from vexkd_model.errors import UserError
from vexkd_model.model import build_bev_encoder

SHIPPED = sorted((Path(__file__).parents[2] / "config" / "model").glob("*.yaml"))


def refused(path, *overrides):
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    message = str(error.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_and_carries_its_files_name(path):
    assert load_config(path).name == path.stem


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_found_by_its_bare_name_from_any_folder(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config(path.stem, "config/model") == path


def test_an_installed_configuration_is_found_below_the_prefix_of_its_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    installed = tmp_path / "share/vexkd_ros/config/model/lidar_pillar_small.yaml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    monkeypatch.setattr(reading, "CHECKOUT", tmp_path / "lib/python3.11/site-packages")
    assert find_config("lidar_pillar_small", "config/model") == installed


@pytest.mark.parametrize("path", ["unknown", "lidar_pillar_small.yaml", "other/lidar_pillar_small", "bevdet_small"])
def test_a_path_that_names_no_shipped_configuration_stays_as_it_is(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bevdet_small").touch()  # a file of the user's own comes first
    assert find_config(path, "config/model") == Path(path)


def test_a_dumped_configuration_reads_back_equal(tiny_config, tmp_path):
    (tmp_path / "model.yaml").write_text(dump_config(tiny_config))
    assert load_config(tmp_path / "model.yaml") == tiny_config


def test_a_configuration_cannot_be_changed_after_it_was_checked(tiny_config):
    with pytest.raises(ValueError, match="frozen"):
        tiny_config.training.epochs = 5


@pytest.mark.parametrize(
    ("key", "value"),
    [("surprise", 1), ("training.epoch", 3), ("segmentation.nms", 0.2), ("training.augment.shear", 0.1)],
)
def test_an_unknown_key_is_named_with_its_file(config_path, tmp_path, key, value):
    values = yaml.safe_load(config_path.read_text())
    *parents, last = key.split(".")
    section = values
    for parent in parents:
        section = section[parent]
    section[last] = value
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(values))
    assert refused(path).startswith(f"{path}: {key}: unknown key")


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("lidar.sweeps=0", "lidar.sweeps"),
        ("lidar.sweeps=11", "lidar.sweeps"),
        ("lidar.sweeps=many", "lidar.sweeps"),
        ("lidar.encoder.kind=sonar", "lidar.encoder"),
        ("lidar=null", "lidar and camera are both null"),
        ("fusion={kind: concat, channels: 8}", "fusion belongs to models with"),
        ("bev.kind=best", "bev"),
        ("name=Has Spaces", "name"),
        ("grid.cell=-0.6", "grid.cell"),
        ("grid.cell=0.7", "grid"),
        ("training.epochs=2.5", "training.epochs"),
        ("training.learning_rate=0", "training.learning_rate"),
        ("training.precision=16-true", "training.precision"),
        ("training.augment.scale=1.0", "training.augment.scale"),
        ("detection.score_threshold=1.0", "detection.score_threshold"),
        ("detection.tasks=[{classes: [car], nms: {kind: circle, radius: 1}}]", "tasks must hold each of"),
        ("detection.tasks=[{classes: [car, tank], nms: {kind: circle, radius: 1}}]", "detection.tasks.0.classes.1"),
        (
            "detection.tasks=[{classes: [car], nms: {kind: rotated, iou: 0.2, scale: [1, 2]}}]",
            "2 factors for 1 classes",
        ),
        ("detection.max_detections=501", "max_detections"),
        ("segmentation.grid={extent: 54.0, cell: 0.9}", "segmentation: Value error, grid: map masks are drawn on"),
        ("bev={kind: resnet, stage_channels: [8], stage_blocks: [1], channels: 8}", "bev.stage_channels"),
        ("bev={kind: resnet, stage_channels: [8, 8], stage_blocks: [1], channels: 8}", "stage_blocks differ in length"),
        ("bev.stage_layers=[1]", "bev"),
        ("lidar.encoder.pillar=0.4", "lidar.encoder.pillar"),
        ("training=3", "training"),
    ],
)
def test_a_bad_value_is_named_by_file_and_dotted_key(config_path, override, key):
    message = refused(config_path, override)
    assert message.startswith(f"{config_path}: ") and key in message.split(": ", 1)[1]


def test_a_missing_key_is_named(config_path, tmp_path):
    values = yaml.safe_load(config_path.read_text())
    del values["training"]["seed"]
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(values))
    assert refused(tmp_path / "m.yaml").startswith(f"{tmp_path / 'm.yaml'}: training.seed: ")


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("training.epoch=3", "training.epochs"),
        ("trainin.epochs=3", "training.epochs"),
        ("epochs=3", "training.epochs"),  # in the wrong section
        ("lidar.encoder.pilar=0.3", "lidar.encoder.pillar"),  # of a section that is chosen by its kind
        ("detection.max_detection=100", "detection.max_detections"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_one_that_was_meant(config_path, override, meant):
    message = refused(config_path, override)
    assert message.endswith(f"; did you mean {meant}?") and f"{override.split('=')[0]}: " in message


def test_a_key_like_no_other_is_answered_without_a_guess(config_path):
    assert "did you mean" not in refused(config_path, "bad.key=1") + refused(config_path, "zzz=1")


def test_a_misspelt_name_of_a_configuration_is_answered_with_the_one_that_was_meant(tmp_path):
    assert refused(Path("lidar_pillar_smal")).endswith("lie in config/model/; did you mean lidar_pillar_small?")


def test_a_command_checks_its_configuration_before_it_imports_what_takes_seconds(tmp_path):
    code = (
        "import sys\nfrom vexkd_model.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as error:\n    message = error.code\n"
        "assert 'did you mean training.epochs?' in message, message\n"
        "sys.exit(' '.join({'torch', 'lightning', 'matplotlib', 'pyarrow'} & sys.modules.keys()) or 0)"
    )
    words = ["--dataroot", "data", "--version", "v1.0-mini", "--out", "run", "--set", "training.epoch=1"]
    command = [sys.executable, "-c", code, "train", "lidar_pillar_small", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_several_mistakes_are_counted(config_path):
    assert "(and 1 more)" in refused(config_path, "lidar.sweeps=0", "training.epochs=0")


def test_set_changes_one_key_and_nothing_else(config_path):
    plain, changed = (
        load_config(config_path),
        load_config(config_path, ["training.epochs=3", "grid.cell=1.8", "lidar.encoder.pillar=0.9"]),
    )
    assert changed.training.epochs == 3 and changed.grid.cell == 1.8
    back = changed.model_dump() | {"grid": plain.grid.model_dump(), "lidar": plain.lidar.model_dump()}
    back["training"]["epochs"] = plain.training.epochs
    assert ModelConfig.model_validate(back) == plain


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs", "key=value"),
        ("nothing.epochs=1", "nothing.epochs"),
        ("name.deep=1", "name.deep"),
        ("=1", "no such key"),
        ("training.epochs=[1", "training.epochs"),
    ],
)
def test_a_wrong_set_is_named(config_path, override, expected):
    message = refused(config_path, override)
    assert message.startswith("--set ") and expected in message


def test_a_key_that_the_file_leaves_to_its_default_may_be_set_but_not_one_that_nobody_knows(config_path):
    assert "schedule" not in config_path.read_text()
    assert load_config(config_path, ["training.schedule=cosine"]).training.schedule == "cosine"
    assert "training.nothing: unknown key" in refused(config_path, "training.nothing=1")


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"just words", b"a: [", b"\xff\xfe\x00"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, content):
    path = tmp_path / "model.yaml"
    path.write_bytes(content)
    assert refused(path).startswith(f"{path}: ")


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    assert refused(tmp_path / "none.yaml").startswith(f"{tmp_path / 'none.yaml'}: ")
    assert refused(tmp_path).startswith(f"{tmp_path}: ")


def test_a_residual_bev_encoder_may_have_two_stages(config_path):
    config = load_config(config_path, ["bev={kind: resnet, stage_channels: [8, 8], stage_blocks: [1, 1], channels: 4}"])
    assert build_bev_encoder(config.bev, 6)(torch.rand(1, 6, 12, 12)).shape == (1, 4, 12, 12)


def test_a_head_of_its_own_and_none_at_all(config_path):
    assert load_config(config_path, ["detection=null"]).detection is None
    assert load_config(config_path, ["segmentation=null"]).segmentation is None
    assert "describe at least one" in refused(config_path, "detection=null", "segmentation=null")


@pytest.mark.parametrize(
    ("name", "override", "expected"),
    [
        ("bevdet_small", "camera.view.depth=lidar", "needs a lidar"),
        ("bevformer_small", "camera.past_frames=2", "without history"),
        ("bevfusion_teacher_small", "fusion=null", "fusion belongs to models with"),
        ("lidar_voxel_small", "lidar.encoder.voxel=0.3", "4 is possible"),
    ],
)
def test_parts_that_do_not_fit_together_are_named(config_path, name, override, expected):
    assert expected in refused(config_path.with_name(f"{name}.yaml"), override)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (
            "  batch_size: 4\n",
            "  batch_size: 4\n  learning_rate: 0.1\n",
            r"line \d+: learning_rate stands here and in line \d+; keep one",
        ),
        ("epochs: 6 ", "epochs: 012 ", r"line \d+: `012` is another number"),
        ("epochs: 6 ", "epochs: on ", r"line \d+: `on` is a word to some readers"),
        ("epochs: 6 ", "epochs: 1_2 ", r"line \d+: `1_2` is another number"),
        ("epochs: 6 ", "epochs: 1:12 ", r"line \d+: `1:12` is another number"),
        ("epochs: 6 ", "epochs: '12' ", r"training\.epochs: .*valid integer"),
        ("epochs: 6 ", "epochs: true ", r"training\.epochs: .*valid integer"),
    ],
)
def test_yaml_that_two_readers_take_differently_is_refused_with_its_line(config_path, tmp_path, before, after, named):
    text, changed = config_path.read_text(), tmp_path / "changed.yaml"
    assert before in text
    changed.write_text(text.replace(before, after))
    with pytest.raises(UserError, match=rf"changed\.yaml: {named}") as error:
        load_config(changed)
    assert "\n" not in str(error.value)


def test_a_file_of_another_editor_and_plain_exponents_are_read(config_path, tmp_path):
    text, changed = config_path.read_text(), tmp_path / "changed.yaml"
    changed.write_bytes(
        b"\xef\xbb\xbf" + text.replace("learning_rate: 0.002", "learning_rate: 2e-3").replace("\n", "\r\n").encode()
    )
    assert load_config(changed) == load_config(config_path)


def test_a_value_that_two_readers_take_differently_is_refused_on_the_command_line_too(config_path):
    with pytest.raises(UserError, match=r"--set training\.epochs=010: `010` is another number"):
        load_config(config_path, ["training.epochs=010"])
