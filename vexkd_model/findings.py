"""Findings of a check of the machine or of topics: one line each, with the cure where something is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """Line of a report.

    level: ok, warn (it runs, worse than it could) or fail (it does not run, or does something else). about: the part,
    topic or frame. text: what was found, and the cure where it is not ok; one line.
    """

    level: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:4}  {self.about}: {self.text}"


def summary(findings: Sequence[Finding]) -> str:
    """Count the findings of each level."""
    return ", ".join(f"{sum(found.level == level for found in findings)} {level}" for level in (OK, WARN, FAIL))


def any_failed(findings: Sequence[Finding]) -> bool:
    return any(found.level == FAIL for found in findings)
