"""Exception that reaches a user as a single line instead of a traceback."""


class UserError(Exception):
    """Error that the user can correct. The message names the file or key and the cure, in one line."""


class Interrupted(UserError):
    """Ctrl-C, where the message says how to go on; exit code 130."""
