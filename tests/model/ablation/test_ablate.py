"""`vexkd ablate`: real runs in processes of their own, resumed where they stopped, never done twice."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from support.clock import wait_for

from vexkd_model.ablation.run_record import read_record
from vexkd_model.cli import main
from vexkd_model.training.run import LAST_CHECKPOINT

DEADLINE_S = 120


@pytest.fixture(scope="module", autouse=True)
def one_thread_each():
    """Run one thread in the processes that are started, too."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)


def failure(*argv):
    with pytest.raises(SystemExit) as error:
        main([str(word) for word in argv])
    return error.value.code


def rows_to_run(plan_values):
    """Make three rows: a teacher with its own seed, a student that cannot train, and the teacher without LiDAR.

    The student cannot train because three frames do not fill its batch.
    """
    teacher, plain, _, without = plan_values["rows"]
    cannot = {**plain, "name": "cannot", "set": {"training.batch_size": 4}}
    return [{**teacher, "seeds": [2]}, cannot, without]


@pytest.fixture(scope="module")
def ablated(plan_values, tmp_path_factory):
    """Run an ablation: (plan, folder of its runs, exit of the command)."""
    folder = tmp_path_factory.mktemp("ablated")
    plan, out = folder / "plan.yaml", folder / "out"
    values = plan_values | {"rows": rows_to_run(plan_values), "seeds": [1], "baseline": None}
    plan.write_text(yaml.safe_dump(values))
    return plan, out, failure("ablate", plan, "--out", out)


@pytest.mark.slow
def test_rows_are_trained_evaluated_and_tabled_and_a_failure_stops_no_other(ablated):
    _, out, message = ablated
    assert message == f"vexkd: {out}: 1 of 3 runs failed (cannot, seed 1); the same command tries them again"
    table = (out / "table.md").read_text().splitlines()
    assert [line.split(" | ")[1] for line in table[2:]] == ["1 of 1", "0 of 1", "1 of 1"]
    seeing, blind = (json.loads((out / row / "seed2.json").read_text()) for row in ("teacher", "teacher_without_lidar"))
    assert blind["dropped"] == "lidar" and "dropped" not in seeing
    assert f"{seeing['detection']['mean_ap']:.3f} | {seeing['detection']['nd_score']:.3f}" in table[2]
    assert seeing["data"]["split"] == "mini_val" and not (out / "cannot" / "seed1.json").exists()
    run = out / "teacher" / "seed2"
    assert yaml.safe_load((run / "model.yaml").read_text())["training"]["seed"] == 2
    assert json.loads((run / "run.json").read_text())["data"]["split"] == "mini_train"


@pytest.mark.slow
def test_every_finished_run_leaves_a_record_that_a_new_machine_takes_for_the_run(ablated, tmp_path, capsys):
    plan, out, _ = ablated
    records = out / "records" / "plan"
    assert sorted(path.name for path in records.iterdir()) == [
        "plan.json", "teacher-seed2.json", "teacher_without_lidar-seed2.json"]
    record, figures = read_record(records / "teacher-seed2.json"), json.loads((out / "teacher/seed2.json").read_text())
    assert (record.row, record.seed, record.plan, record.training.steps) == ("teacher", 2, "plan", 3)
    assert record.figures.mAP == figures["detection"]["mean_ap"] and record.figures.IoU == figures["map"]["class_iou"]
    assert record.training.seconds > 0 and record.machine["cores"] > 0 and record.data["eval"]["split"] == "mini_val"
    assert str(out.parent) not in (records / "teacher-seed2.json").read_text()
    assert read_record(records / "teacher_without_lidar-seed2.json").dropped == "lidar"
    main(["ablate", str(plan), "--out", str(tmp_path / "elsewhere"), "--records", str(out / "records"), "--dry-run"])
    commands = capsys.readouterr().out.splitlines()
    assert [" cannot/seed1" in command.replace("elsewhere/", " ") for command in commands] == [True, True]
    by_hand = tmp_path / "by_hand.json"
    main(["record", str(out / "teacher" / "seed2"), "--row", "teacher", "--plan", "plan", "--evaluation",
          str(out / "teacher" / "seed2.json"), "--out", str(by_hand)])
    assert by_hand.read_bytes() == (records / "teacher-seed2.json").read_bytes()


@pytest.mark.slow
def test_only_what_is_missing_is_done_again(ablated, capfd):
    """The evaluation of a finished training, and a run that failed."""
    plan, out, _ = ablated
    blind, checkpoint = out / "teacher_without_lidar" / "seed2.json", out / "teacher" / "seed2" / LAST_CHECKPOINT
    kept, weights = blind.stat().st_mtime_ns, torch.load(checkpoint, weights_only=True)["state_dict"]
    figures = out / "teacher" / "seed2.json"
    before = json.loads(figures.read_text())
    figures.unlink()
    (out / "records" / "plan" / "teacher-seed2.json").unlink()

    main(["ablate", str(plan), "--out", str(out), "--dry-run"])
    commands = [command.split() for command in capfd.readouterr().out.splitlines()]
    places = [str(out / "teacher" / "seed2"), str(out / "cannot" / "seed1")]
    assert [words[1] for words in commands] == ["train", "evaluate"] * 2
    assert [words[words.index("--out") + 1] for words in commands[::2]] == places
    assert all(words[-1] == "--resume" for words in commands[::2])

    assert "1 of 2 runs failed (cannot, seed 1)" in failure("ablate", plan, "--out", out)
    assert "3 frames do not fill one batch of 4" in capfd.readouterr().err
    assert json.loads(figures.read_text()) == before and blind.stat().st_mtime_ns == kept
    after = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


@pytest.mark.slow
def test_a_changed_row_is_refused_by_name_before_anything_runs(ablated, plan_values, tmp_path):
    _, out, _ = ablated
    teacher, *others = rows_to_run(plan_values)
    values, changed = plan_values | {"seeds": [1], "baseline": None}, tmp_path / "plan.yaml"
    changed.write_text(yaml.safe_dump(values | {"rows": [{**teacher, "set": {"training.epochs": 2}}, *others]}))
    message = failure("ablate", changed, "--out", out)
    assert message.startswith(f"vexkd: row teacher: {out}/teacher holds runs of it as it was before (set changed)")
    assert failure("ablate", changed, "--out", out, "--dry-run") == message


@pytest.mark.slow
def test_seeds_and_rows_may_follow_in_the_same_folder(ablated, plan_values, tmp_path, capsys):
    _, out, _ = ablated
    teacher, _, without = rows_to_run(plan_values)
    more = tmp_path / "plan.yaml"
    rows = [{**teacher, "seeds": [1, 2]}, without, {**without, "name": "without_cameras", "drop": "camera"}]
    more.write_text(yaml.safe_dump(plan_values | {"rows": rows, "baseline": None}))
    main(["ablate", str(more), "--out", str(out), "--dry-run"])
    commands = [command.split() for command in capsys.readouterr().out.splitlines()]
    assert [(words[1], words[words.index("--json") + 1] if "--json" in words else "") for words in commands] == [
        ("train", ""), ("evaluate", f"{out}/teacher/seed1.json"),
        ("evaluate", f"{out}/teacher_without_lidar/seed1.json"), ("evaluate", f"{out}/without_cameras/seed1.json"),
        ("evaluate", f"{out}/without_cameras/seed2.json")]


def test_an_unprepared_dataset_is_sent_to_prepare_before_anything_runs(written, tmp_path):
    plan = written(version="v1.0-trainval", train_split=None, eval_split=None)
    assert "vexkd prepare" in failure("ablate", plan, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def started(plan, out):
    """Start a process that hears Ctrl-C, although a test run in the background ignores it."""
    return subprocess.Popen([sys.executable, "-m", "vexkd_model.cli", "ablate", str(plan), "--out", str(out)],
                            stderr=subprocess.PIPE, text=True, stdout=subprocess.DEVNULL,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def processes_in(folder):
    """List the command lines of processes that write to a folder."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except (OSError, NotADirectoryError):
            continue
        if str(folder) in words:
            found.append(words)
    return found


def epochs_of(checkpoint):
    return torch.load(checkpoint, weights_only=True)["epoch"] + 1 if checkpoint.is_file() else 0


@pytest.mark.slow
def test_killed_or_interrupted_it_leaves_no_process_and_goes_on_where_it_stopped(plan_values, written, tmp_path):
    epochs, out = 500, tmp_path / "out"
    row = {**plan_values["rows"][1], "seeds": [1], "set": {"training.epochs": epochs}}
    plan, run = written(rows=[row]), out / "plain" / "seed1"
    checkpoint = run / LAST_CHECKPOINT

    killed = started(plan, out)
    wait_for(checkpoint.is_file, "a checkpoint")
    assert f"{out}: another vexkd ablate is at work in it" in failure("ablate", plan, "--out", out)
    killed.kill()
    killed.communicate(timeout=DEADLINE_S)
    wait_for(lambda: not processes_in(run), "the end of its processes")
    before = epochs_of(checkpoint)

    interrupted = started(plan, out)
    wait_for(lambda: epochs_of(checkpoint) > before, "another epoch")
    interrupted.send_signal(signal.SIGINT)
    message = interrupted.communicate(timeout=DEADLINE_S)[1]
    assert interrupted.returncode == 130 and "Traceback" not in message
    assert message.endswith(f"vexkd: {out}: interrupted in plain, seed 1; the same command goes on\n")
    assert not processes_in(run) and 0 < before < epochs_of(checkpoint) < epochs
