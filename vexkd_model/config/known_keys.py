"""Keys that a configuration may have, and the one that a misspelt key was meant to be."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import get_args

from vexkd_model.config.section import Section


def known_keys(section: type[Section]) -> list[str]:
    """List the dotted keys of a section and of all sections in it; an element of a list has no number."""
    return list(dict.fromkeys(_keys(section, "")))


def _keys(section: type[Section], prefix: str) -> Iterator[str]:
    for name, field in section.model_fields.items():
        yield prefix + name
        for part in _sections(field.annotation):
            yield from _keys(part, f"{prefix}{name}.")


def _sections(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)


def did_you_mean_key(key: str, known: Sequence[str]) -> str:
    """Suggest the known key that a misspelt or misplaced one comes next to; empty where none is near."""
    parts = [part for part in key.split(".") if not part.isdigit()]
    parent, last = ".".join(parts[:-1]), parts[-1]
    siblings = [name for name in known if name.rpartition(".")[0] == parent]
    namesakes = [name for name in known if name.rpartition(".")[2] == last]
    near = (
        get_close_matches(".".join(parts), siblings, n=1, cutoff=0.8)
        or get_close_matches(".".join(parts), namesakes, n=1, cutoff=0.0)
        or get_close_matches(".".join(parts), known, n=1, cutoff=0.8)
    )
    return f"; did you mean {near[0]}?" if near else ""
