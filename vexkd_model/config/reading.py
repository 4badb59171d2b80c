"""Reading of YAML into a checked Section; a UserError names the file and key that are wrong, in one line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from vexkd_model.config.known_keys import did_you_mean_key, known_keys
from vexkd_model.config.section import Section
from vexkd_model.config.strict_yaml import SurprisingYaml, parse_yaml
from vexkd_model.errors import UserError, did_you_mean

SomeSection = TypeVar("SomeSection", bound=Section)
CHECKOUT = Path(__file__).parents[2]
CURE = ", remove it or correct its spelling"


def find_config(path: str | Path, folder: str) -> Path:
    """Find the file of a shipped configuration by bare name (`lidar_pillar_small`); return any other path as it is.

    folder: where it lies, config/model or config/ablation. A checkout comes before share/vexkd_ros of the prefix below
    which this package is installed: what was edited there is what shall be trained.
    """
    path = Path(path)
    if path.suffix or len(path.parts) != 1 or path.exists():
        return path
    files = (place / folder / f"{path.name}.yaml" for place in _places())
    return next((file for file in files if file.is_file()), path)


def _places() -> tuple[Path, ...]:
    return (CHECKOUT, *(prefix / "share/vexkd_ros" for prefix in CHECKOUT.parents))


def read_mapping(path: Path, kind: str, folder: str, example: str) -> dict:
    """Read the keys of a YAML file.

    kind, folder, example: what the file describes, where such files lie, and one of them, for the UserError.
    """
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        shipped = {file.stem for place in _places() for file in (place / folder).glob("*.yaml")}
        similar = did_you_mean(Path(path).stem, sorted(shipped))
        raise UserError(f"{path}: no such file; {kind}s lie in {folder}/{similar}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except SurprisingYaml as error:
        raise UserError(f"{path}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold the keys of a {kind}, like {folder}/{example}")
    return values


def parse_section(section: type[SomeSection], values: dict, source: str, kind: str) -> SomeSection:
    """Check a mapping; the UserError names `source`, and `kind` where no single key is wrong."""
    try:
        # Strict as of JSON: a list is a tuple and text a path, but neither text nor true is a number.
        return section.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(_place(first["loc"], values)) or kind
        unknown = first["type"] == "extra_forbidden"
        message = f"unknown key{did_you_mean_key(key, known_keys(section)) or CURE}" if unknown else first["msg"]
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UserError(f"{source}: {key}: {message}{more}") from None


def _place(place: Sequence[str | int], values: object) -> list[str]:
    """Leave out of pydantic's place what is no key: the `kind` by which it chose between sections."""
    keys = []
    for part in place[:-1]:
        kind = values.get("kind") if isinstance(values, dict) else None
        try:
            inner = values[part]  # pyright: ignore[reportIndexIssue]
        except (KeyError, IndexError, TypeError):
            continue
        if part != kind:
            keys.append(str(part))
            values = inner
    return keys + [str(part) for part in place[-1:]]
