"""Record of a finished run: everything that tables and plots need, in one small JSON file without absolute paths.

A run folder may vanish with its machine; its record lies in a repository and stays.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vexkd_model.config import ModelConfig, parse_config
from vexkd_model.config.reading import parse_section
from vexkd_model.config.section import Section
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file

FORMAT = 1
# A list of plain values, as json.dumps spreads it over lines; JSON allows no line break within a string.
SPREAD_LIST = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s*\]")


class RecordedTeacher(Section):
    """Run of the teacher, with its configuration and the `fingerprint` of its weights."""

    row: str
    seed: int
    config: dict[str, Any]
    fingerprint: str


class Figures(Section):
    """Official figures of the evaluation split; null for a head that the model does not have."""

    mAP: float | None
    NDS: float | None
    mATE: float | None
    mASE: float | None
    mAOE: float | None
    mAVE: float | None
    mAAE: float | None
    AP: dict[str, float] | None
    mIoU: float | None
    IoU: dict[str, float] | None


class LossCurve(Section):
    """Weighted losses at steps, all of one length; see `make_record.thin_curves`."""

    steps: tuple[int, ...]
    total: tuple[float, ...]
    terms: dict[str, tuple[float | None, ...]]


class RecordedTraining(Section):
    """Duration, steps and losses of a training.

    seconds: wall time over all resumptions, without steps that were lost; null of runs that did not count it.
    """

    seconds: float | None
    steps: int
    epochs: int
    loss: LossCurve | None


class RunIdentity(NamedTuple):
    """Identity of a run: two runs with equal identities are the same one. teacher: its config_hash and seed."""

    config_hash: str
    seed: int
    data: dict[str, dict[str, Any]]
    dropped: str | None
    teacher: tuple[str, int] | None

    def changes(self, other: "RunIdentity") -> list[str]:
        """Names of the fields in which two identities differ."""
        pairs = zip(self._fields, self, other, strict=True)
        return [name.removesuffix("_hash") for name, ours, theirs in pairs if ours != theirs]


class RunRecord(Section):
    """Finished run: a row of a plan with one seed.

    data: describe_data of the splits `train` and `eval`, and of the frames `unlabelled`, if any. dropped: the sensor
    that was silent in the evaluation. machine: where the training began. commands: `train` and `evaluate`, with names
    in place of absolute paths.
    """

    format: Literal[1] = FORMAT
    plan: str | None
    row: str
    seed: int
    config: dict[str, Any]
    config_hash: str
    data: dict[str, dict[str, Any]]
    dropped: str | None
    source_revision: str
    torch: str
    machine: dict[str, str | int | None] | None
    commands: dict[str, str]
    teacher: RecordedTeacher | None
    figures: Figures
    training: RecordedTraining

    def identity(self) -> RunIdentity:
        """Identity under today's code: a newer key of the configuration has its default, which changes nothing."""
        teacher = self.teacher and (_hash_today(self.teacher.config), self.teacher.seed)
        return RunIdentity(_hash_today(self.config), self.seed, self.data, self.dropped, teacher)


def config_hash(config: ModelConfig) -> str:
    """SHA-256 of the canonical JSON without name and seed, so that all seeds of a row have the same one."""
    return _sha256(config.model_dump(mode="json", exclude={"name": True, "training": {"seed"}}))


def _hash_today(values: dict[str, Any]) -> str:
    """`config_hash` of a recorded configuration; of one that today's code refuses, a value that no other one has."""
    try:
        return config_hash(parse_config(values, "record"))
    except UserError:
        return _sha256(values)


def _sha256(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_record(path: Path, record: RunRecord) -> None:
    """Write a record; equal records give equal bytes: sorted keys, lists of plain values in one line."""
    text = json.dumps(record.model_dump(mode="json"), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    text = SPREAD_LIST.sub(lambda match: "[" + re.sub(r",\n\s+", ", ", match[1]) + "]", text)
    with atomic_file(path) as partial:
        partial.write_text(text + "\n")


def read_record(path: Path) -> RunRecord:
    """Read a record; UserError for a file that is none."""
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise UserError(f"{path}: damaged record; restore it, or remove it and run that seed again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: no record of a run")
    return parse_section(RunRecord, values, str(path), "record")
