"""Errors that reach a user as one line instead of a traceback, and the name that a misspelt one was meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Error that the user can correct. The message names the file or key and the cure, in one line."""


class Interrupted(UserError):
    """Ctrl-C, where the message says how to go on; exit code 130."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the nearest of known names, as the end of a message; empty where none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""
