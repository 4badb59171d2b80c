"""Load the distiller of a finished distillation: its masks, and the teacher whose maps they mask."""

import json
from pathlib import Path

from vexkd_model.config import ModelConfig, load_config
from vexkd_model.criterion import build_criterion
from vexkd_model.deploy.package import CARD
from vexkd_model.distill.distiller import Distiller
from vexkd_model.distill.pairing import check_pairing
from vexkd_model.distill.teacher import Teacher, fingerprint
from vexkd_model.errors import UserError
from vexkd_model.model import build_model
from vexkd_model.training.run import CONFIG, RECORD, is_run, load_part, load_trained, read_checkpoint


def load_distiller(run: Path, teacher_from: Path | None = None) -> tuple[Distiller, ModelConfig]:
    """Load the distiller of a run's last checkpoint, in eval mode, and the student's configuration.

    teacher_from: where its teacher lies now, if no longer where it lay. UserError if `run` is no distillation, or if
    its teacher is not there or has other weights now.
    """
    if not is_run(run):
        raise UserError(f"{run}: is no run; `vexkd distill` makes one")
    record = json.loads((run / RECORD).read_text()).get("teacher")
    if record is None:
        raise UserError(f"{run}: was trained without a teacher and has no masks; give a run of `vexkd distill`")
    config = load_config(run / CONFIG)
    teacher = _same_teacher(run, record, teacher_from or Path(record["from"]))
    distiller = Distiller(check_pairing(config, teacher.config), build_model(config), teacher, build_criterion(config))
    load_part(distiller, read_checkpoint(run), "distiller", run)
    return distiller.eval(), config


def _same_teacher(run: Path, record: dict[str, str], folder: Path) -> Teacher:
    cure = "say with --teacher where it lies now"
    if not (is_run(folder) or (folder / CARD).is_file()):
        raise UserError(f"{folder}: the teacher of {run} is not there; {cure}")
    model, config = load_trained(folder)
    if fingerprint(model) != record["fingerprint"]:
        raise UserError(
            f"{folder}: is not the teacher of {run} ({record['fingerprint'][:8]}), or has learned since; {cure}"
        )
    return Teacher(model, config)
