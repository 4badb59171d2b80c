"""Mark of annotations that a model made: `machine_made.json` beside the tables, which `vexkd autolabel` writes."""

import json
from pathlib import Path
from typing import Any

from vexkd_model.errors import UserError

MACHINE_MADE = "machine_made.json"


def machine_made(dataroot: Path, version: str) -> dict[str, Any]:
    """Read the mark: `scenes` whose annotations a model made, and its `teacher`; empty where people made all of them.

    UserError for a file that cannot be read.
    """
    path = Path(dataroot) / version / MACHINE_MADE
    try:
        mark = json.loads(path.read_text())
        return {"scenes": list(mark["scenes"]), **mark}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: not a mark of vexkd autolabel ({error}); write the version again") from None


def machine_made_scenes(dataroot: Path, version: str) -> frozenset[str]:
    """Names of the scenes whose annotations a model made."""
    return frozenset(machine_made(dataroot, version).get("scenes", ()))
