"""The command line: exit codes, one-line errors, help that shows how."""

import json
import re
import subprocess
import sys

import pytest

from vexkd_model.cli import main

COMMANDS = (
    "synth",
    "prepare",
    "train",
    "evaluate",
    "calibrate",
    "export",
    "bench",
    "plot",
    "describe",
    "import-weights",
    "ablate",
    "record",
    "tables",
    "env",
)
PLOTS = ("frame", "masks", "fusion", "students", "losses", "blocks")


def exit_of(*argv):
    with pytest.raises(SystemExit) as error:
        main([str(word) for word in argv])
    return error.value.code


@pytest.mark.parametrize("command", [*COMMANDS, *(f"plot {kind}" for kind in PLOTS)])
def test_help_of_every_command_shows_an_example(command, capsys):
    assert exit_of(*command.split(), "--help") == 0
    out = capsys.readouterr().out
    assert f"example:\n  vexkd {command} " in out


@pytest.mark.parametrize("command", ["train", "distill", "describe", "import-weights"])
def test_help_says_that_a_shipped_configuration_needs_no_path(command, capsys):
    assert exit_of(command, "--help") == 0
    assert "the bare name of a shipped one" in " ".join(capsys.readouterr().out.split())


def test_help_lists_every_command_and_loads_nothing_heavy():
    code = (
        "import sys; from vexkd_model.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as e: assert e.code == 0\n"
        "sys.exit(bool({'torch', 'nuscenes', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(re.search(rf"^    {command}\s", done.stdout, re.MULTILINE) for command in COMMANDS)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["prepare"],
        ["prepare", "data"],
        ["train", "--version", "v1.0-mini"],
        ["evaluate", "run", "--dataroot", "d"],
        ["synth", "out", "--preset", "none"],
        ["synth", "out", "--seed", "x"],
        ["export", "run"],
        ["prepare", "data", "--version", "v1.0-mini", "--nonsense"],
        ["evaluate", "run", "--dataroot", "d", "--version", "v1.0-mini", "--drop", "radar"],
        ["ablate", "plan.yaml"],
        ["plot"],
        ["plot", "losses", "--out", "a.png"],
        ["plot", "students", "plain", "--out", "a.png"],
        ["plot", "data", "--version", "v1.0-mini", "--out", "a.png"],
    ],
    ids=" ".join,
)
def test_wrong_use_exits_with_2_and_the_usage(argv, capsys):
    assert exit_of(*argv) == 2
    assert "usage: vexkd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["prepare", "{tmp}/none", "--version", "v1.0-mini"], "{tmp}/none/v1.0-mini"),
        (["prepare", "{data}", "--version", "v9"], "v9"),
        (["prepare", "{data}", "--version", "v1.0-mini", "--split", "test", "--index", "{tmp}"], "test"),
        (["prepare", "{data}", "--version", "v1.0-mini", "--index", "{config}/index"], "{config}"),
        (
            ["train", "{tmp}/none.yaml", "--dataroot", "{data}", "--version", "v1.0-mini", "--out", "{tmp}/r"],
            "none.yaml",
        ),
        (["train", "{config}", "--dataroot", "{data}", "--version", "v1.0-mini", "--out", "{tmp}/r"], "vexkd prepare"),
        (
            ["train", "{config}", "--dataroot", "{data}", "--version", "v1.0-mini", "--out", "{tmp}/r", "--set", "a=1"],
            "a: unknown key",
        ),
        (
            [
                "train",
                "{config}",
                "--dataroot",
                "{data}",
                "--version",
                "v1.0-mini",
                "--out",
                "{tmp}/r",
                "--set",
                "training.seed=-1",
            ],
            "training.seed",
        ),
        (["evaluate", "models/lidar_distilled", "--dataroot", "{data}", "--version", "v2"], "v2: no such folder"),
        (["evaluate", "{tmp}/none", "--dataroot", "{data}", "--version", "v1.0-mini"], "{tmp}/none"),
        (["export", "{tmp}/none", "{tmp}/out"], "{tmp}/none"),
        (["describe", "{tmp}/none.yaml"], "none.yaml"),
        (["ablate", "{tmp}/none.yaml", "--out", "{tmp}/out"], "{tmp}/none.yaml"),
        (["ablate", "{config}", "--out", "{tmp}/out"], "{config}: dataroot"),
        (["import-weights", "{tmp}/none.pth", "{config}", "{tmp}/out"], "{tmp}/none.pth"),
    ],
)
def test_a_failure_is_one_line_that_names_its_cause(argv, named, tiny_dataroot, config_path, tmp_path):
    places = {"tmp": tmp_path, "data": tiny_dataroot, "config": config_path}
    message = exit_of(*(word.format(**places) for word in argv))
    assert isinstance(message, str)  # which Python prints to stderr, with exit code 1
    assert message.startswith("vexkd: ") and "\n" not in message and named.format(**places) in message


def test_a_failing_process_exits_with_1_and_prints_no_traceback_unless_asked(tmp_path):
    argv = ["prepare", str(tmp_path / "none"), "--version", "v1.0-mini"]
    quiet, loud, asked_last = (
        subprocess.run([sys.executable, "-m", "vexkd_model.cli", *words], capture_output=True, text=True)
        for words in (argv, ["--debug", *argv], [*argv, "--debug"])
    )
    assert quiet.returncode == loud.returncode == 1 and asked_last.stderr == loud.stderr
    assert quiet.stderr.count("\n") == 1 and quiet.stderr.startswith("vexkd: ") and not quiet.stdout
    assert "Traceback" in loud.stderr and loud.stderr.endswith(quiet.stderr)


def test_prepare_writes_every_split_that_has_scenes(tiny_dataroot, tmp_path, capsys):
    main(["prepare", str(tiny_dataroot), "--version", "v1.0-mini", "--index", str(tmp_path)])
    out = capsys.readouterr().out
    for split in ("mini_train", "mini_val"):
        assert json.loads((tmp_path / split / "index.json").read_text())["split"] == split
        assert f"{tmp_path / split}: index complete" in out


def test_an_interruption_is_one_line_and_exit_code_130(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vexkd_model.data.prepare.prepare", interrupted)
    assert exit_of("prepare", "data", "--version", "v1.0-mini") == 130
    assert capsys.readouterr().err == "vexkd: interrupted\n"
