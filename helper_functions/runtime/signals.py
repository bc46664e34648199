"""SIGINT and SIGTERM: finish the step, save, then leave with 128 plus the signal's number."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stopped(Exception):
    """Raised between two steps once a signal has come in."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_status = 128 + signum


def stop_at_once() -> None:
    """Let SIGTERM raise ``Stopped`` wherever the program is, as Ctrl-C raises KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, _raise_stopped)


def _raise_stopped(signum: int, _frame: FrameType | None) -> None:
    raise Stopped(signum)


class StopRequest:
    """Remembers the first signal; a second one acts at once, as if nobody listened."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def listen(self) -> None:
        """Take over both signals (main thread only)."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._remember)

    def _remember(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signum
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def requested(self) -> int:
        """Number of the signal that has come in, or 0."""
        return self.signum or 0

    def check(self) -> None:
        """Raise ``Stopped`` if a signal has come in."""
        signum = self.requested()
        if signum:
            raise Stopped(signum)

    @contextmanager
    def explains(self, *failures: type[Exception]) -> Iterator[None]:
        """Turn failures that the signal itself has caused elsewhere into ``Stopped``."""
        try:
            yield
        except failures:
            self.check()
            raise
