"""Every command in README.md and docs/ runs as it is written, or is listed with what runs it or what it lacks.

What is not listed is run: the README's commands in their order, then those of each other document on top of what
the README's leave behind, as by a reader who comes from there. So a new command is run, or listed by whoever adds it.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from glob import glob
from io import StringIO
from pathlib import Path

import pytest
from support.documents import DOCUMENTS, REPOSITORY, commands, words_of
from support.full_nuscenes import write_full_nuscenes
from support.listed_commands import LISTED

from vexkd_model import cli
from vexkd_model.training import fit
from vexkd_model.training.run import load_run
from vexkd_ros import programs

README, *OTHERS = DOCUMENTS

# What is written → what is run, wherever it is written: a training is one step of the six frames of one scene. `mini`
# is a nuScenes folder of two and three keyframes.
ONE_STEP = "--workers 0 --set training.batch_size=6 --set training.epochs=1"
INSTEAD = {
    "--preset bench-small ": "--preset bench-small --scenes scene-0001,scene-0003,scene-0012 ",
    "calibrate students/first": "calibrate models/lidar_distilled",  # of an untrained student there is nothing to fit
    "--frame 30": "--frame 3",
    "--out view.html": "--out view.html --moments 2",
    "vexkd train": f"vexkd train {ONE_STEP}",
    "vexkd distill": f"vexkd distill {ONE_STEP} --set distillation.mask_blocks=1 --set distillation.mask_heads=2",
    "runs/taught …": "runs/taught --dataroot data --version v1.0-trainval",
}
# The same in one document, for what it has and the README has not.
OF_DOCUMENT = {
    "docs/bags.md": {
        "data/nuscenes --version v1.0-trainval --out bags --jobs 8": "data --version v1.0-trainval --out more --jobs 2",
        "data/nuscenes": "mini",
        "--dataroot data": "--dataroot mini",
        "--start 2 --end 8": "--start 0.1 --end 0.4",
    },
    "docs/data.md": {"/data/nuscenes": "data", "--workers 8": "--workers 2"},
    "docs/distillation.md": {"--out runs/taught …": "--out runs/more --dataroot data --version v1.0-trainval"},
    "docs/figures.md": {"runs/detection runs/segmentation": "runs/taught", "runs/plain": "runs/first",
                        "runs/distilled": "runs/taught"},
    "docs/results/soak.md": {"bag data ": "bag mini "},
    "docs/results/speed.md": {"models/my_student": "students/first"},
    "docs/training.md": {"results.json": "runs/first/evaluation.json", "--out runs/first": "--out runs/watched"},
    "docs/your_data.md": {"drives/*": "bags/*", "drives/FIRST": "bags/scene-0103", "data ": "own ",
                          "training.epochs=10": "training.batch_size=2",
                          "--out-version mine-auto": "--out-version mine-auto --scenes scene-0103"},
}  # fmt: skip
# What a command leaves behind beside what its options name; {0} is its first argument.
RESULTS = {
    "vexkd synth": "{0}/v1.0-*/sample.json",
    "vexkd prepare": "{0}/vexkd/*/*/index.json",
    "vexkd export": "{1}/card.json",
    "vexkd graph": "{0}/trunk.onnx",
    "vexkd autolabel": "{0}/mine-auto/sample_annotation.json",
}
# Other exit codes than 0: what does not fit together is said, and counts as an error.
EXIT_CODES = {"vexkd env": 1}
NOT_RUN = [command for listed in LISTED.values() for command in listed]

pytestmark = pytest.mark.timeout(900)  # the README's trainings alone take minutes where others work beside them


def name_of(document: Path) -> str:
    return str(document.relative_to(REPOSITORY))


def to_run(document: Path) -> list[str]:
    """Commands of a document as they are run here, each once."""
    changed = []
    for command in commands(document.read_text(encoding="utf-8")):
        if command not in NOT_RUN:
            for written, instead in (OF_DOCUMENT.get(name_of(document), {}) | INSTEAD).items():
                command = command.replace(written, instead)
            changed.append(command)
    return list(dict.fromkeys(changed))


def same(command: str) -> str:
    """A command without the names of its runs, which are a reader's own."""
    return re.sub(r"runs/\w+", "runs/…", command)


@contextmanager
def within(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(fit, "LOG_EVERY_STEPS", 1)  # a training of one step has losses to draw
        yield patch


def run(command: str, patch: pytest.MonkeyPatch) -> None:
    """Run a command in this process: it ends well, prints or writes, and what it names as its result is there."""
    for name, value in re.findall(r"^([A-Z_]+)=(\S+) ", command):
        patch.setenv(name, value)
    words = [path for word in words_of(command) for path in (sorted(glob(word)) or [word])]
    program = " ".join(words[: 1 + (words[0] == "vexkd")])
    begun, printed = time.time(), StringIO()
    with redirect_stdout(printed):
        try:
            if words[0] == "vexkd":
                code = cli.main(words[1:])
            else:
                patch.setattr("sys.argv", words)
                code = getattr(programs, words[0].removeprefix("vexkd-").replace("-", "_"))()
        except SystemExit as left:
            code = left.code
    assert code == EXIT_CODES.get(program, 0), f"{command}: {code}"
    named = [words[i + 1] for i, word in enumerate(words[:-1]) if word in ("--out", "--json", "--submission")]
    assert named or printed.getvalue(), f"{command}: nothing printed"
    for path in map(Path, named):
        is_new = path.exists() and (any(path.iterdir()) if path.is_dir() else path.stat().st_mtime >= begun)
        assert is_new, f"{command}: no {path}"
    result = RESULTS.get(program, "").format(*words[2:])
    assert not result or glob(result), f"{command}: no {result}"


@pytest.fixture(scope="module")
def after_readme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands were run."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("config", "models", "docs/results/runs"):
        shutil.copytree(REPOSITORY / name, folder / name)
    write_full_nuscenes(folder / "mini")
    with within(folder) as patch:
        for command in ["vexkd prepare mini --version v1.0-mini", *to_run(README)]:
            run(command, patch)
    return folder


@pytest.fixture
def work(after_readme: Path, tmp_path: Path) -> Iterator[Path]:
    """Lend the same folder, since an index knows where its data lie, and put it back as it was."""
    kept = shutil.copytree(after_readme, tmp_path / "kept", copy_function=os.link)
    yield after_readme
    shutil.rmtree(after_readme)
    kept.rename(after_readme)


@pytest.mark.slow
def test_the_readmes_commands_lead_to_a_student_a_comparison_and_a_page(after_readme: Path) -> None:
    for name in ("students/first/weights.safetensors", "compare.png", "students.png", "view.html"):
        assert (after_readme / name).stat().st_size > 1000, name
    assert load_run(after_readme / "runs" / "teacher")[2] == 1  # epoch


@pytest.mark.slow
@pytest.mark.parametrize("document", [document for document in OTHERS if to_run(document)], ids=name_of)
def test_commands_of_a_document_run_after_the_readmes(document: Path, work: Path) -> None:
    known = set(map(same, to_run(README)))
    with within(work) as patch:
        for command in to_run(document):
            if same(command) not in known:
                run(command, patch)


def test_every_command_is_run_or_listed_once() -> None:
    written = {command for document in DOCUMENTS for command in commands(document.read_text(encoding="utf-8"))}
    assert [command for command in NOT_RUN if command not in written] == []
    assert sorted(NOT_RUN) == sorted(set(NOT_RUN))
    programs_to_run = {words_of(command)[0] for document in DOCUMENTS for command in to_run(document)}
    assert [program for program in programs_to_run if not program.startswith("vexkd")] == []


def test_tests_that_are_said_to_run_a_command_exist() -> None:
    for file, name in (reason.split("::") for reason in LISTED if "::" in reason):
        assert f"def {name}(" in (REPOSITORY / file).read_text(encoding="utf-8"), f"{file}::{name}"
