"""Training: resumable to the bit, able to learn, and one path from data to a package on the vehicle."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from nuscenes.eval.common.loaders import load_prediction
from nuscenes.eval.detection.data_classes import DetectionBox
from support.tiny_nuscenes import write_tiny_nuscenes

from vexkd_model.cli import main
from vexkd_model.config import load_config
from vexkd_model.config.frame import FrameConfig
from vexkd_model.data.batch import collate
from vexkd_model.data.dataset import load_frame, load_sample
from vexkd_model.data.index import FrameIndex
from vexkd_model.data.sampling import EpochSampler
from vexkd_model.deploy.package import save_package
from vexkd_model.deploy.predictor import Predictor
from vexkd_model.errors import UserError
from vexkd_model.evaluation.split import predict_split, score_split
from vexkd_model.model import build_model
from vexkd_model.training.module import TrainingModule
from vexkd_model.training.run import (
    CONFIG,
    INITIAL_WEIGHTS,
    LAST_CHECKPOINT,
    RECORD,
    describe_training,
    load_run,
    trained_on,
)
from vexkd_model.training.saved_evaluation import remembers
from vexkd_model.training.step import NAN_BATCH
from vexkd_model.training.train import train

EPOCHS = 5  # of the tiny model: three steps each


@pytest.fixture(scope="module")
def finished(tiny_config, tiny_index, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "finished"
    train(tiny_config, tiny_index, run, workers=0, resume=False, interactive=False)
    return run


def losses(run):
    """(step, loss) of every training step, in the order in which they were taken."""
    rows = [row for path in sorted((run / "log").rglob("metrics.csv")) for row in csv.DictReader(path.open())]
    return [(int(row["step"]), float(row["loss"])) for row in rows if row.get("loss")]


def weights(run):
    return load_run(run)[0].state_dict()


def interrupt_at(monkeypatch, step):
    whole = TrainingModule.training_step

    def step_or_interrupt(self, batch, number):
        if self.global_step == step:
            raise KeyboardInterrupt
        return whole(self, batch, number)

    monkeypatch.setattr(TrainingModule, "training_step", step_or_interrupt)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning would make this process deaf to Ctrl-C


def test_a_run_folder_holds_its_configuration_checkpoint_and_record(finished, tiny_config, tiny_dataroot):
    assert load_config(finished / CONFIG) == tiny_config.model_copy(update={"distillation": None})
    record = json.loads((finished / RECORD).read_text())
    assert record["data"]["split"] == "mini_train" and record["data"]["frames"] == 3
    assert record["machine"].keys() == {"processor", "cores", "memory_gib", "gpu"}
    assert load_run(finished)[2] == tiny_config.training.epochs
    checkpoint = torch.load(finished / LAST_CHECKPOINT, weights_only=True)
    assert checkpoint["global_step"] == EPOCHS * 3 and checkpoint["callbacks"]["Timer"]["time_elapsed"]["train"] > 0


def test_an_interrupted_and_resumed_training_ends_with_the_same_weights_to_the_bit(
    finished, tiny_config, tiny_index, tmp_path, monkeypatch
):
    run = tmp_path / "interrupted"
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=13)  # in the middle of the fifth epoch
        with pytest.raises(UserError, match="interrupted; go on with the same command and --resume"):
            train(tiny_config, tiny_index, run, workers=0, resume=False, interactive=False)
    assert load_run(run)[2] == 4
    train(tiny_config, tiny_index, run, workers=0, resume=True, interactive=False)
    resumed, straight = weights(run), weights(finished)
    assert resumed.keys() == straight.keys()
    different = [name for name in straight if not torch.equal(resumed[name], straight[name])]
    assert not different
    assert [step for step, _ in losses(run)] == [9] and losses(run) == losses(finished)


def test_a_worker_process_changes_nothing(finished, tiny_config, tiny_index, tmp_path):
    train(tiny_config, tiny_index, tmp_path / "run", workers=1, resume=False, interactive=False)
    one, none = weights(tmp_path / "run"), weights(finished)
    assert all(torch.equal(one[name], none[name]) for name in none)


def test_a_training_interrupted_before_its_first_checkpoint_begins_again(
    finished, tiny_config, tiny_index, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        interrupt_at(patch, step=1)
        with pytest.raises(UserError, match="--resume"):
            train(tiny_config, tiny_index, run, workers=0, resume=False, interactive=False)
    with pytest.raises(UserError, match="no checkpoint yet"):
        load_run(run)
    train(tiny_config, tiny_index, run, workers=0, resume=True, interactive=False)
    assert all(torch.equal(weights(run)[name], tensor) for name, tensor in weights(finished).items())


def test_a_run_is_never_overwritten_or_resumed_with_another_configuration(finished, tiny_config, tiny_index):
    with pytest.raises(UserError, match="holds a run already; add --resume"):
        train(tiny_config, tiny_index, finished, workers=0, resume=False, interactive=False)
    other = tiny_config.model_copy(update={"name": "other"})
    with pytest.raises(UserError, match=r"model\.yaml: differs"):
        train(other, tiny_index, finished, workers=0, resume=True, interactive=False)


def test_fewer_frames_than_a_batch_are_named_before_any_training(config_path, tiny_index, tmp_path):
    config = load_config(config_path, ["training.batch_size=4"])
    with pytest.raises(UserError, match=r"3 frames do not fill one batch of 4; lower training\.batch_size"):
        train(config, tiny_index, tmp_path / "run", workers=0, resume=False, interactive=False)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip", None])
def test_a_damaged_or_absent_checkpoint_is_one_line(finished, tmp_path, content):
    (tmp_path / CONFIG).write_text((finished / CONFIG).read_text())
    if content is not None:
        (tmp_path / LAST_CHECKPOINT).parent.mkdir()
        (tmp_path / LAST_CHECKPOINT).write_bytes(content)
    with pytest.raises(UserError, match=r"last\.ckpt: ") as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_configuration_is_one_line(finished, tiny_config, tmp_path):
    (tmp_path / LAST_CHECKPOINT).parent.mkdir()
    (tmp_path / LAST_CHECKPOINT).write_bytes((finished / LAST_CHECKPOINT).read_bytes())
    text = (finished / CONFIG).read_text()
    assert "lateral_channels: 16" in text
    (tmp_path / CONFIG).write_text(text.replace("lateral_channels: 16", "lateral_channels: 8"))
    with pytest.raises(UserError, match=r"last\.ckpt: .*model\.yaml") as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value)


def test_a_seed_that_no_generator_takes_is_named(config_path):
    assert load_config(config_path, [f"training.seed={2**32 - 1}"]).training.seed == 2**32 - 1
    with pytest.raises(UserError, match=r"training\.seed"):
        load_config(config_path, [f"training.seed={2**32}"])


def test_one_frame_can_be_learnt(tiny_config, tiny_index):
    torch.manual_seed(0)
    module = TrainingModule(tiny_config, build_model(tiny_config), total_steps=60)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    batch = collate([load_sample(tiny_index, 0, tiny_config)])
    course = []
    for _ in range(60):
        total = sum(module.criterion(module.model(batch.sensors), batch).values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        course.append(total.item())
    assert np.mean(course[-5:]) < 0.1 * course[0]
    # What was learnt comes out where it belongs, on the path of the vehicle.
    prediction = Predictor(module.model, tiny_config, None, "cpu").predict(load_frame(tiny_index, 0, tiny_config))
    found = 0
    for box, label in zip(batch.boxes[0].numpy(), batch.labels[0].numpy(), strict=True):
        same = prediction.boxes.values[(prediction.boxes.labels == label) & (prediction.scores > 0.3)]
        found += bool((np.hypot(*(same[:, :2] - box[:2]).T) < 1.0).any())
    assert found >= 0.7 * len(batch.boxes[0])
    street, on_street = prediction.map_probabilities[0], batch.map_masks[0, 0].numpy() > 0.5
    assert street[on_street].mean() > street[~on_street].mean() + 0.05


def test_a_loss_that_is_not_finite_stops_with_the_samples_names(config_path, tiny_settings, tiny_index, tmp_path):
    config = load_config(config_path, [*tiny_settings, "training.learning_rate=1e30"])
    with pytest.raises(UserError, match=r"nan_batch\.json: loss \(.*\) is not finite at step 1, ") as error:
        train(config, tiny_index, tmp_path / "run", workers=0, resume=False, interactive=False)
    assert "\n" not in str(error.value)
    stopped = json.loads((tmp_path / "run" / NAN_BATCH).read_text())
    second = list(EpochSampler(3, config.training.seed))[1]
    assert stopped["tokens"] == [tiny_index[second.frame].token] and (stopped["step"], stopped["epoch"]) == (1, 0)
    assert "nan" in stopped["losses"].values() and set(stopped["losses"]) >= {"heatmap", "segmentation", "velocity"}


def test_an_unknown_map_teaches_no_map(tiny_config, tiny_index):
    module = TrainingModule(tiny_config, build_model(tiny_config), total_steps=10)
    batch = collate([load_sample(tiny_index, 0, tiny_config)])
    batch.map_known[:] = False
    losses_of = module.criterion(module.model(batch.sensors), batch)
    assert losses_of["segmentation"].item() == 0.0 and losses_of["heatmap"].item() > 0


def test_train_evaluate_export_and_the_vehicle_agree(
    tiny_dataroot, tiny_index_dir, config_path, tiny_settings, tmp_path, capsys
):
    """The four commands of the README, one after the other, on data nobody trained a good student with."""
    run, package = tmp_path / "run", tmp_path / "student"
    data = ["--dataroot", str(tiny_dataroot), "--version", "v1.0-mini", "--index", str(tiny_index_dir)]
    settings = [word for key in tiny_settings for word in ("--set", key)]
    main(
        [
            "train",
            str(config_path),
            *data,
            "--out",
            str(run),
            "--workers",
            "0",
            *settings,
            "--set",
            "detection.score_threshold=0.02",
        ]
    )
    main(["evaluate", str(run), *data])
    main(["export", str(run), str(package)])
    submitted = tmp_path / "submission.json"
    files = ["--json", str(tmp_path / "figures.json"), "--submission", str(submitted)]
    main(["evaluate", str(package), *data, *files, "--errors"])

    of_run, of_package = (json.loads(path.read_text()) for path in (run / "evaluation.json", tmp_path / "figures.json"))
    assert of_package["errors"]["as_found"] == pytest.approx(of_package["detection"]["class_ap"], abs=1e-6)
    assert of_run["detection"] == of_package["detection"] and of_run["map"] == of_package["map"]
    card = json.loads((package / "card.json").read_text())
    assert card["metrics"]["detection"] == of_run["detection"] and card["metrics"]["data"]["split"] == "mini_val"
    assert card["trained_on"]["split"] == "mini_train" and card["trained_on"]["epochs"] == EPOCHS
    assert card["inputs"]["lidar"]["frames"] == len(FrameIndex.open(tiny_index_dir, "mini_train"))
    assert card["inputs"]["cameras"] == [] and str(tiny_index_dir) not in (package / "card.json").read_text()
    elsewhere = ["export", str(run), str(tmp_path / "elsewhere"), "--evaluation"]
    main([*elsewhere, str(tmp_path / "figures.json")])
    stated = json.loads((tmp_path / "elsewhere" / "card.json").read_text())["metrics"]
    assert stated["detection"] == of_package["detection"] and not {"errors", "details"} & stated.keys()
    (tmp_path / "dropped.json").write_text(json.dumps(of_package | {"dropped": "lidar"}))
    for name, named in (("dropped.json", "was made without lidar"), ("submission.json", "not an evaluation")):
        with pytest.raises(SystemExit, match=named):
            main([*elsewhere, str(tmp_path / name)])
    printed = capsys.readouterr()
    assert "mean (mAP)" in printed.out and f"epoch {EPOCHS}/{EPOCHS} step 3/3 loss " in printed.err

    index = FrameIndex.open(tiny_index_dir, "mini_val")
    predictor = Predictor.load(package)
    predictions = list(predict_split(predictor, index))
    assert [p.token for p in predictions] == ["scene-0103-0", "scene-0103-1"]
    assert any(len(p.boxes) for p in predictions)
    read_by_devkit, _ = load_prediction(str(submitted), 500, DetectionBox)
    assert {p.token: len(p.boxes) for p in predictions} == {
        token: len(read_by_devkit[token]) for token in read_by_devkit.sample_tokens
    }
    result = score_split(predictions, index)
    assert result.detection.to_dict() == of_run["detection"]


def test_only_figures_of_the_runs_own_dataset_are_kept_for_its_card(finished, tiny_index_dir):
    for changed, own in (({}, True), ({"version": "v1.0-trainval"}, False), ({"tables": "others"}, False)):
        index = FrameIndex.open(tiny_index_dir, "mini_val")
        vars(index).update(changed)
        assert trained_on(finished, index) == own


def test_an_export_where_the_training_data_is_not_says_that_the_card_lacks_its_inputs(
    finished, tiny_index_dir, tmp_path, capsys
):
    run = shutil.copytree(finished, tmp_path / "run")
    record = json.loads((run / RECORD).read_text())
    (run / RECORD).write_text(json.dumps(record | {"index": str(tmp_path / "elsewhere" / "mini_train")}))
    main(["export", str(run), str(tmp_path / "student")])
    assert "elsewhere/mini_train/index.json: no such index" in capsys.readouterr().err
    assert json.loads((tmp_path / "student" / "card.json").read_text())["inputs"] is None
    main(["export", str(run), str(tmp_path / "student"), "--index", str(tiny_index_dir)])
    card = json.loads((tmp_path / "student" / "card.json").read_text())
    assert card["inputs"]["lidar"]["points"] and card["trained_on"]["identity"] == record["identity"]


def test_a_card_states_nothing_of_data_that_the_run_was_not_trained_on(finished, tiny_index_dir, tmp_path, capsys):
    run = shutil.copytree(finished, tmp_path / "run")
    record = json.loads((run / RECORD).read_text())
    (run / RECORD).write_text(json.dumps(record | {"identity": {**record["identity"], "files": "others"}}))
    main(["export", str(run), str(tmp_path / "student")])
    assert f"not the data that {run} was trained on, or changed since" in capsys.readouterr().err
    assert json.loads((tmp_path / "student" / "card.json").read_text())["inputs"] is None
    with pytest.raises(SystemExit, match="not the data that"):
        main(["export", str(run), str(tmp_path / "student"), "--index", str(tiny_index_dir)])


def test_frames_on_which_the_initial_weights_were_trained_are_not_new(finished, tiny_index_dir, tmp_path):
    student, config, _ = load_run(finished)
    before = describe_training(json.loads((finished / RECORD).read_text()))
    adapted = {"dataset": "of a van", INITIAL_WEIGHTS: {"trained_on": before}}
    for name, trained in (("adapted", adapted), ("other", {"dataset": "of a van"})):
        save_package(tmp_path / name, student, config, trained, {}, "test")
    seen, new = (FrameIndex.open(tiny_index_dir, split) for split in ("mini_train", "mini_val"))
    assert remembers(finished, seen) and remembers(tmp_path / "adapted", seen)
    assert not remembers(tmp_path / "adapted", new) and not remembers(tmp_path / "other", seen)


def test_a_training_begins_with_the_weights_of_a_package_of_the_same_model(
    finished, tiny_config, tiny_index, tmp_path, monkeypatch
):
    student, config, _ = load_run(finished)
    save_package(tmp_path / "package", student, config, {}, {}, "test")
    begun = []

    def first_step(self, batch, number):
        begun.append({name: tensor.clone() for name, tensor in self.model.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingModule, "training_step", first_step)
    with pytest.raises(UserError, match="interrupted"):
        train(tiny_config, tiny_index, tmp_path / "run", 0, False, False, weights=tmp_path / "package")
    expected = student.state_dict()
    assert all(torch.equal(begun[0][name], expected[name]) for name in expected)
    other = tiny_config.model_copy(update={"segmentation": None})
    with pytest.raises(UserError, match=r"--weights .*package: of another model") as error:
        train(other, tiny_index, tmp_path / "other", 0, False, False, weights=tmp_path / "package")
    assert "\n" not in str(error.value)
    turned = tiny_config.model_copy(update={"frame": FrameConfig(rotation=(0.0, 0.0, -90.0))})
    with pytest.raises(UserError, match=r"--weights .*package: frame: differs from .* copy its frame$") as error:
        train(turned, tiny_index, tmp_path / "turned", 0, False, False, weights=tmp_path / "package")
    assert "\n" not in str(error.value) and not (tmp_path / "turned").exists()


def test_a_file_that_went_bad_is_one_line_though_a_worker_process_found_it(config_path, tiny_settings, tmp_path):
    root = write_tiny_nuscenes(tmp_path / "data", {"scene-0061": 4})
    data = ["--dataroot", str(root), "--version", "v1.0-mini"]
    main(["prepare", str(root), "--version", "v1.0-mini"])
    bad = next((root / "samples" / "LIDAR_TOP").glob("*.bin"))
    bad.write_bytes(b"short")
    settings = [word for key in tiny_settings for word in ("--set", key)]
    with pytest.raises(SystemExit) as error:
        main(["train", str(config_path), *data, "--out", str(tmp_path / "run"), "--workers", "1", *settings])
    message = error.value.code
    assert message.startswith(f"vexkd: {bad}: truncated LiDAR file") and "\n" not in message


def test_a_real_keyframe_can_be_trained_on(keyframe_dataroot, tiny_config, tmp_path):
    from vexkd_model.data.prepare import prepare

    prepare(keyframe_dataroot, "v1.0-mini", tmp_path / "index")
    index = FrameIndex.open(tmp_path / "index", "mini_train")
    with pytest.raises(UserError, match=r"no map expansion .*--set segmentation=null"):
        train(tiny_config, index, tmp_path / "run", workers=0, resume=False, interactive=False)
    detector = tiny_config.model_copy(update={"segmentation": None})
    train(detector, index, tmp_path / "run", workers=0, resume=False, interactive=False)
    student, config, epochs = load_run(tmp_path / "run")
    prediction = Predictor(student, config, None, "cpu").predict(load_frame(index, 0, config))
    assert epochs == EPOCHS and np.isfinite(prediction.scores).all()
    assert score_split([prediction], index).maps is None
