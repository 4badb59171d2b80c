"""`vexkd extend`: go on with a finished run, to more epochs."""

import json
import sys
from pathlib import Path

from vexkd_model.config import ModelConfig, dump_config, load_config
from vexkd_model.errors import UserError
from vexkd_model.files import atomic_file, locked, write_json
from vexkd_model.training.claim_run import LOCK, busy
from vexkd_model.training.run import CONFIG, RECORD, is_run, read_checkpoint


def extend_run(run: Path, epochs: int) -> ModelConfig:
    """Give a finished run a configuration of more epochs, which it can then be resumed with.

    Its evaluations, which are of the shorter training, are removed. A run that has been given these epochs already
    stays as it is. UserError for a run that is not finished, and for fewer epochs than it has.
    """
    if not is_run(run):
        raise UserError(f"{run}: is no run; `vexkd train` or `vexkd distill` makes one")
    config, done = load_config(run / CONFIG), read_checkpoint(run)["epoch"] + 1
    if epochs <= done:
        raise UserError(f"--epochs {epochs}: {run} has {done} already; give more, the number in all")
    if config.training.epochs == epochs:  # interrupted, or started by the first of several processes
        return config
    if done < config.training.epochs:
        raise UserError(
            f"{run}: {done} of {config.training.epochs} epochs are done; finish it with the command that it "
            "began with and --resume"
        )
    extended = config.model_copy(update={"training": config.training.model_copy(update={"epochs": epochs})})
    with locked(run / LOCK, busy(run)):
        record = json.loads((run / RECORD).read_text())
        step = {"command": " ".join(["vexkd", *sys.argv[1:]]), "from_epochs": done, "epochs": epochs}
        write_json(run / RECORD, {**record, "extended": [*record.get("extended", []), step]})
        for evaluation in run.glob("evaluation*.json"):
            evaluation.unlink()
        with atomic_file(run / CONFIG) as partial:
            partial.write_text(dump_config(extended))
    return extended
