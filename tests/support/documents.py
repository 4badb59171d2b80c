"""README.md and docs/: which files they are, and the commands in their shell blocks."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*(\S*)")
# Blocks without a language also hold drawings and what a program prints: a command begins with one of these.
COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:nice -n \d+ )?(?:vexkd|make|python|ros2|colcon|docker|git|pip|\.venv/bin/|srun)[\w-]*\s"
)


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a document's shell blocks, without remarks; lines are joined, variables set in."""
    for block in shell_blocks(text):
        variables = {}
        for line in re.sub(r"\\\n\s*", "", block).splitlines():
            if assigned := re.fullmatch(r'\s*(\w+)="([^"]*)"\s*', line):
                variables[assigned[1]] = assigned[2]
            for name, value in variables.items():
                line = line.replace(f"${name}", value)
            for command in re.split(r"\s&&\s", re.sub(r"\s#\s.*", "", line)):
                if COMMAND.match(f"{command.strip()} "):
                    yield " ".join(command.split())


def shell_blocks(text: str) -> Iterator[str]:
    """Yield the content of fenced blocks in bash, sh or no language; where some lines have prompts, those alone."""
    fence, language, lines = None, "", []
    for line in text.splitlines():
        found = FENCE.match(line)
        if fence is None:
            if found:
                fence, language, lines = found[1], found[2], []
        elif found and found[1].startswith(fence) and not found[2]:
            if language in ("", "bash", "sh", "console"):
                asked = [line.strip()[2:] for line in lines if line.strip().startswith("$ ")]
                yield "\n".join(asked or lines)
            fence = None
        else:
            lines.append(line)


def words_of(command: str) -> list[str]:
    """Split a command into its words, without what it sets in the environment."""
    words = shlex.split(command)
    while re.match(r"[A-Z_]+=", words[0]):
        del words[0]
    return words
