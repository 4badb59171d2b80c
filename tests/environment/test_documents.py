"""README and docs/ are right in what a program can check: links, options of commands, keys of configurations."""

import re
from functools import cache
from pathlib import Path

import pytest
from support.documents import DOCUMENTS, REPOSITORY, commands, words_of

from vexkd_model import cli
from vexkd_model.config import load_config
from vexkd_ros import programs

LINK = re.compile(r"\]\(([^)\s]+)\)")


def test_every_link_leads_to_a_file_and_to_a_heading_of_it():
    broken = []
    for document in DOCUMENTS:
        for target in LINK.findall(without_code(document.read_text(encoding="utf-8"))):
            if re.match(r"https?://|mailto:", target):
                continue
            file, _, anchor = target.partition("#")
            path = (document.parent / file).resolve() if file else document
            if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
                broken.append(f"{document.relative_to(REPOSITORY)}: {target}")
    assert broken == []


def test_every_document_and_picture_is_linked_from_some_other():
    linked = set()
    for document in DOCUMENTS:
        for target in LINK.findall(document.read_text(encoding="utf-8")):
            path = (document.parent / target.partition("#")[0]).resolve()
            linked |= {path} - {document}
    shown = [
        *DOCUMENTS[2:],
        *(path for path in (REPOSITORY / "docs").rglob("*") if path.suffix in (".png", ".jpg", ".gif")),
    ]
    assert [str(path.relative_to(REPOSITORY)) for path in shown if path not in linked] == []


def test_commands_are_those_of_shell_blocks_whatever_stands_between_them():
    text = """
```yaml
rows: []
```
vexkd prose is none

```
vexkd train a \\
  --out b    # a remark
make demo && vexkd env
a drawing ─┐
```

1. in a list
   ```bash
   D="--dataroot data"
   vexkd   evaluate c $D
   ```
```
$ A=1 vexkd describe d
vexkd says this
```
"""
    assert list(commands(text)) == [
        "vexkd train a --out b",
        "make demo",
        "vexkd env",
        "vexkd evaluate c --dataroot data",
        "A=1 vexkd describe d",
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_commands_have_the_options_and_configurations_that_are_written(document):
    wrong = []
    for line in commands(document.read_text(encoding="utf-8")):
        name, *rest = words_of(line)
        if not name.startswith("vexkd"):
            continue
        while name in ("vexkd", "vexkd plot"):  # commands with commands of their own
            name += f" {rest.pop(0)}"
        text = help_of(name)
        if text is None:
            wrong.append(f"no such command: {line}")
            continue
        before_ros = rest[: rest.index("--ros-args")] if "--ros-args" in rest else rest
        options = {word.partition("=")[0] for word in before_ros if word.startswith("--")}
        wrong += [f"{option}: {line}" for option in sorted(options) if not re.search(rf"{option}\b", text)]
        wrong += [f"{problem}: {line}" for problem in configuration_problems(rest)]
    assert wrong == []


def configuration_problems(words: list[str]) -> list[str]:
    """Load the configuration that a command names, with what it sets."""
    files = [word for word in words if word.startswith("config/model/")]
    settings = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--set"]
    try:
        for file in files:
            load_config(REPOSITORY / file, [setting for setting in settings if "=" in setting])
    except Exception as error:
        return [str(error)]
    return []


@cache
def help_of(command: str) -> str | None:
    """Return what `command --help` prints; None where there is no such command."""
    program, *subcommands = command.split()
    printed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("argparse.ArgumentParser._print_message", lambda _, message, *__: printed.append(message))
        try:
            if program == "vexkd":
                cli.main([*subcommands, "--help"])
            else:
                function = getattr(programs, program.removeprefix("vexkd-").replace("-", "_"), None)
                if function is None:
                    return None
                patch.setattr("sys.argv", [program, "--help"])
                function()
        except SystemExit as left:
            return "".join(printed) if not left.code else None
    return None


@cache
def anchors(document: Path) -> frozenset[str]:
    """List the anchors that GitHub gives to a document's headings."""
    headings = re.findall(r"^#+ (.*)$", without_code(document.read_text(encoding="utf-8")), re.MULTILINE)
    return frozenset(
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).strip().replace(" ", "-")
        for heading in headings
    )


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
