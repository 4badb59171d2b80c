"""One line of the doctor's report."""

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """level: ok, warn (a student runs, worse than it could) or fail (it sees nothing, or something else). about: the
    topic, frame or camera. text: what was found, and the cure where it is not ok; one line."""

    level: str
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:4}  {self.about}: {self.text}"
