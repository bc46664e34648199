"""The exceptions that say something to a person."""

from __future__ import annotations


def _printable(message: str) -> str:
    """A message on one line: names from files may hold line breaks and codes for the terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in message
    )


class UserError(Exception):
    """Wrong input or a wrong command line.

    The message is one sentence for a person: it names the file, row or value at fault and says what
    to do. The two scripts print it on standard error and end with exit status 2, without traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_printable(message))


class TrainingFailed(Exception):
    """A run that cannot go on though its input is right: one sentence, exit status 1."""
