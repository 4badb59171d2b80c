"""From YAML to a checked Section; what is wrong is a UserError in one line that names the file and the key."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from vexkd_model.config.section import Section
from vexkd_model.errors import UserError

SomeSection = TypeVar("SomeSection", bound=Section)


def read_mapping(path: Path, kind: str, folder: str, example: str) -> dict:
    """The keys of a YAML file. For the errors: what it describes, where such files lie, and one of them."""
    try:
        values = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {kind}s lie in {folder}/") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold the keys of a {kind}, like {folder}/{example}")
    return values


def parse_section(section: type[SomeSection], values: dict, source: str, kind: str) -> SomeSection:
    """Check a mapping; `source` is named in the error, and `kind` where no key of it is to blame."""
    try:
        return section.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or kind
        unknown = first["type"] == "extra_forbidden"
        message = "unknown key, remove it or correct its spelling" if unknown else first["msg"]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UserError(f"{source}: {key}: {message}{more}") from None
