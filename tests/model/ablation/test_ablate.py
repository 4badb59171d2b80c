"""`vexkd ablate`: real runs in processes of their own, resumed where they stopped, never done twice."""

import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr
from io import StringIO

import pytest
import torch
import yaml
from support.clock import wait_for

from vexkd_model.ablation import run
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
    """Run an ablation, two runs at once: (plan, folder of its runs, exit of the command, what it said meanwhile)."""
    folder = tmp_path_factory.mktemp("ablated")
    plan, out = folder / "plan.yaml", folder / "out"
    values = plan_values | {"rows": rows_to_run(plan_values), "seeds": [1], "baseline": None}
    plan.write_text(yaml.safe_dump(values))
    with redirect_stderr(StringIO()) as said:
        message = failure("ablate", plan, "--out", out, "--jobs", 2)
    return plan, out, message, said.getvalue()


@pytest.mark.slow
def test_rows_are_trained_evaluated_and_tabled_and_a_failure_stops_no_other(ablated):
    _, out, message, _ = ablated
    log = out / "cannot" / "seed1.log"
    assert message == f"vexkd: {out}: 1 of 3 runs failed (cannot, seed 1: {log}); the same command tries them again"
    assert log.read_text().startswith("# vexkd train ") and "do not fill one batch" in log.read_text().splitlines()[-1]
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
def test_runs_go_side_by_side_but_none_before_the_one_that_it_builds_on(ablated):
    said = [line.split(": ")[1:3] for line in ablated[3].splitlines()]
    teacher, cannot, without = (
        [what for name, what in said if name == run]
        for run in ("teacher, seed 2", "cannot, seed 1", "teacher_without_lidar, seed 2")
    )
    assert said[:2] == [["teacher, seed 2", "begins, 2 wait; log"], ["cannot, seed 1", "begins, 1 wait; log"]]
    assert cannot[-1] == "vexkd train failed" and teacher[-1] == without[-1] == "finished"
    assert said.index(["teacher, seed 2", "finished"]) < said.index(["teacher_without_lidar, seed 2", without[0]])


@pytest.mark.slow
def test_every_finished_run_leaves_a_record_that_a_new_machine_takes_for_the_run(ablated, tmp_path, capsys):
    plan, out, *_ = ablated
    records = out / "records" / "plan"
    assert sorted(path.name for path in records.iterdir()) == [
        "plan.json",
        "teacher-seed2.json",
        "teacher_without_lidar-seed2.json",
    ]
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
    main(
        [
            "record",
            str(out / "teacher" / "seed2"),
            "--row",
            "teacher",
            "--plan",
            "plan",
            "--evaluation",
            str(out / "teacher" / "seed2.json"),
            "--out",
            str(by_hand),
        ]
    )
    assert by_hand.read_bytes() == (records / "teacher-seed2.json").read_bytes()


@pytest.mark.slow
def test_only_what_is_missing_is_done_again(ablated, capfd, monkeypatch):
    """The evaluation of a finished training, and a run that failed."""
    monkeypatch.setattr(run, "PROGRESS_S", 0.0)
    plan, out, *_ = ablated
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

    assert "1 of 2 runs failed (cannot, seed 1: " in failure("ablate", plan, "--out", out)
    said = capfd.readouterr().err
    assert "ablate: teacher, seed 2: # vexkd train " in said and "3 frames do not fill one batch of 4" in said
    assert json.loads(figures.read_text()) == before and blind.stat().st_mtime_ns == kept
    after = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


@pytest.mark.slow
def test_a_changed_row_is_refused_by_name_before_anything_runs(ablated, plan_values, tmp_path):
    _, out, *_ = ablated
    teacher, *others = rows_to_run(plan_values)
    values, changed = plan_values | {"seeds": [1], "baseline": None}, tmp_path / "plan.yaml"
    changed.write_text(yaml.safe_dump(values | {"rows": [{**teacher, "set": {"training.epochs": 2}}, *others]}))
    message = failure("ablate", changed, "--out", out)
    assert message.startswith(f"vexkd: row teacher: {out}/teacher holds runs of it as it was before (set changed)")
    assert failure("ablate", changed, "--out", out, "--dry-run") == message


@pytest.mark.slow
def test_seeds_and_rows_may_follow_in_the_same_folder(ablated, plan_values, tmp_path, capsys):
    _, out, *_ = ablated
    teacher, _, without = rows_to_run(plan_values)
    more = tmp_path / "plan.yaml"
    rows = [{**teacher, "seeds": [1, 2]}, without, {**without, "name": "without_cameras", "drop": "camera"}]
    more.write_text(yaml.safe_dump(plan_values | {"rows": rows, "baseline": None}))
    main(["ablate", str(more), "--out", str(out), "--dry-run"])
    commands = [command.split() for command in capsys.readouterr().out.splitlines()]
    assert [(words[1], words[words.index("--json") + 1] if "--json" in words else "") for words in commands] == [
        ("train", ""),
        ("evaluate", f"{out}/teacher/seed1.json"),
        ("evaluate", f"{out}/teacher_without_lidar/seed1.json"),
        ("evaluate", f"{out}/without_cameras/seed1.json"),
        ("evaluate", f"{out}/without_cameras/seed2.json"),
    ]


def test_an_unprepared_dataset_is_sent_to_prepare_before_anything_runs(written, tmp_path):
    plan = written(version="v1.0-trainval", train_split=None, eval_split=None)
    assert "vexkd prepare" in failure("ablate", plan, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def started(plan, out):
    """Start a process that hears Ctrl-C, although a test run in the background ignores it."""
    return subprocess.Popen(
        [sys.executable, "-m", "vexkd_model.cli", "ablate", str(plan), "--out", str(out), "--jobs", "2"],
        stderr=subprocess.PIPE,
        text=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


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
    row = {**plan_values["rows"][1], "seeds": [1, 2], "set": {"training.epochs": epochs}}
    plan, folders = written(rows=[row]), [out / "plain" / "seed1", out / "plain" / "seed2"]
    checkpoints = [folder / LAST_CHECKPOINT for folder in folders]

    killed = started(plan, out)
    wait_for(lambda: all(checkpoint.is_file() for checkpoint in checkpoints), "both checkpoints")
    assert f"{out}: another vexkd ablate is at work in it" in failure("ablate", plan, "--out", out)
    killed.kill()
    killed.communicate(timeout=DEADLINE_S)
    wait_for(lambda: not any(map(processes_in, folders)), "the end of its processes")
    before = [epochs_of(checkpoint) for checkpoint in checkpoints]

    interrupted = started(plan, out)
    wait_for(
        lambda: all(epochs_of(checkpoint) > epoch for checkpoint, epoch in zip(checkpoints, before, strict=True)),
        "another epoch of both",
    )
    interrupted.send_signal(signal.SIGINT)
    message = interrupted.communicate(timeout=DEADLINE_S)[1]
    assert interrupted.returncode == 130 and "Traceback" not in message
    assert message.endswith(f"vexkd: {out}: interrupted in plain, seed 1 and plain, seed 2; the same command goes on\n")
    assert not any(map(processes_in, folders)) and all(0 < epoch < epochs for epoch in before)
    for folder in folders:
        assert "interrupted; go on with" in folder.with_suffix(".log").read_text().splitlines()[-1]
