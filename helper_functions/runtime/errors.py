"""The exceptions that say something to a person."""

from __future__ import annotations

from helper_functions.runtime.text import printable


class UserError(Exception):
    """Wrong input or a wrong command line.

    The message is one sentence for a person: it names the file, row or value at fault and says what
    to do. The two scripts print it on standard error and end with exit status 2, without traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class TrainingFailed(Exception):
    """A run that cannot go on though its input is right: one sentence, exit status 1."""
