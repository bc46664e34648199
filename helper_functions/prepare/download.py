"""Fetching single pictures politely: few at a time, with patience, and never a broken file.

A picture gets its name only once it has been decoded, so whatever bears one is whole: the same
command given again fetches what is left. A server that answers 429 or 503 with ``Retry-After`` is
obeyed.
"""

from __future__ import annotations

import email.utils
import http.client
import os
import random
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from helper_functions.data.images import ImageError, image_problem, read_image
from helper_functions.runtime.files import make_folder

USER_AGENT = "volunet-prepare/1 (one-off download of a research data set)"
MAX_BYTES = 200_000_000
FIRST_PAUSE = 1.0  # seconds before the first retry; each further one is twice as long
LONGEST_PAUSE = 120.0
SLOWEST = 20  # a download may take this many times the timeout in all
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
_CHUNK = 1 << 16


class Job(NamedTuple):
    """A picture to fetch: its file name in the folder, and its address."""

    filename: str
    url: str


class Failure(NamedTuple):
    """A picture that could not be fetched.

    Attributes:
        filename: Which.
        reason: A clause.
        passing: Whether another attempt, later, may succeed.
    """

    filename: str
    reason: str
    passing: bool


class _Fault(Exception):
    """An attempt that failed; ``pause`` is what the server asks for, in seconds."""

    def __init__(self, reason: str, *, passing: bool, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.passing = passing
        self.pause = pause


def _opener() -> urllib.request.OpenerDirector:
    """An opener of http and https addresses, which follows no redirection to anything else."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def retry_after(value: str | None, now: float) -> float:
    """Seconds that a ``Retry-After`` header asks for: a number, or a date (RFC 9110, 10.2.3)."""
    if not value:
        return 0.0
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(email.utils.parsedate_to_datetime(value).timestamp() - now, 0.0)
    except ValueError:
        return 0.0


def _receive(answer: http.client.HTTPResponse, path: Path, timeout: float) -> None:
    """Write the body of an answer to a file."""
    kind = answer.headers.get_content_type() if "Content-Type" in answer.headers else "image/"
    if not kind.startswith(_TYPES):
        raise _Fault(f"the server sends {kind}, not a picture", passing=False)
    announced = answer.headers.get("Content-Length", "").encode()
    received, end = 0, time.monotonic() + SLOWEST * timeout
    with path.open("wb") as file:
        while chunk := answer.read1(_CHUNK):
            file.write(chunk)
            received += len(chunk)
            if received > MAX_BYTES:
                raise _Fault(f"it has more than {MAX_BYTES / 1e6:.0f} MB", passing=False)
            if time.monotonic() > end:
                raise _Fault("the server is too slow", passing=True)
    if announced.isdigit() and received != int(announced):
        raise _Fault(f"only {received:,} of {int(announced):,} bytes came", passing=True)


def _attempt(opener: urllib.request.OpenerDirector, url: str, part: Path, timeout: float) -> None:
    """Fetch one picture to ``part`` and decode it."""
    try:
        request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
        with opener.open(request, timeout=timeout) as answer:
            _receive(answer, part, timeout)
    except urllib.error.HTTPError as error:
        error.close()
        pause = retry_after(error.headers.get("Retry-After"), time.time())
        raise _Fault(
            f"the server answers {error.code} {error.reason}",
            passing=error.code in _PASSING,
            pause=pause,
        ) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise _Fault(f"its address {url[:80]!r} is none ({error})", passing=False) from error
    except TimeoutError as error:
        raise _Fault(f"no answer for {timeout:g} s", passing=True) from error
    except urllib.error.URLError as error:
        raise _Fault(f"no connection ({error.reason})", passing=True) from error
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise _Fault(f"the connection broke ({type(error).__name__})", passing=True) from error
    try:
        read_image(part)
    except ImageError as error:
        raise _Fault(f"what came is no good picture: {error.reason}", passing=True) from error


class _Fetcher:
    """Fetches pictures to a folder; ``stop`` ends all pauses and starts nothing new."""

    def __init__(self, folder: Path, timeout: float, retries: int) -> None:
        self.folder = folder
        self.timeout = timeout
        self.retries = retries
        self.stop = threading.Event()
        self.opener = _opener()
        self.why = "the download was stopped"
        self._free = 0.0  # until then nobody asks: the server has said so
        self._lock = threading.Lock()

    def __call__(self, job: Job) -> Failure | None:
        part = self.folder / f".{job.filename}.{os.getpid()}.part"
        try:
            return self._with_retries(job, part)
        finally:
            part.unlink(missing_ok=True)

    def _with_retries(self, job: Job, part: Path) -> Failure | None:
        for attempt in range(self.retries + 1):
            self._wait()
            if self.stop.is_set():
                break
            try:
                _attempt(self.opener, job.url, part, self.timeout)
            except _Fault as fault:
                failure = Failure(job.filename, fault.reason, fault.passing)
                if not fault.passing or attempt == self.retries:
                    return failure
                self._pause(attempt, fault.pause)
            else:
                part.replace(self.folder / job.filename)
                return None
        return Failure(job.filename, self.why, True)

    def _wait(self) -> None:
        """Wait as long as the server has asked everybody to."""
        while (left := self._free - time.monotonic()) > 0 and not self.stop.wait(left):
            pass

    def _pause(self, attempt: int, asked: float) -> None:
        """Wait before a retry: twice as long each time, with jitter, and never less than asked.

        A server that asks for more than ``LONGEST_PAUSE`` is left alone: everything stops.
        """
        if asked > LONGEST_PAUSE:
            self.why = f"the server asks to come back in {asked:,.0f} s"
            self.stop.set()
        elif asked:
            with self._lock:
                self._free = max(self._free, time.monotonic() + asked)
        longest = min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE)
        self.stop.wait(random.uniform(longest / 2, longest))


def _to_fetch(jobs: Iterable[Job], folder: Path) -> tuple[list[Job], list[Failure]]:
    """What is not there yet, and what cannot be asked for."""
    wanted, failures = [], []
    for job in jobs:
        path = folder / job.filename
        if path.is_file() and image_problem(path) is None:
            continue
        if job.url.lower().startswith(("http://", "https://")):
            wanted.append(job)
        else:
            failures.append(Failure(job.filename, f"its address is {job.url[:80]!r}", False))
    return wanted, failures


def fetch_all(
    jobs: Iterable[Job], folder: Path, *, jobs_at_once: int, timeout: float, retries: int
) -> list[Failure]:
    """Fetch the pictures that are not there yet.

    Args:
        jobs: All pictures.
        folder: Where they belong; made if it is missing.
        jobs_at_once: Connections at a time.
        timeout: Seconds of silence after which an attempt counts as failed.
        retries: Attempts after the first.

    Returns:
        The pictures that cannot be had (no such page, no picture), in the order of ``jobs``.

    Raises:
        UserError: If the folder cannot be made.
        ConnectionError: If some failed for a reason that may pass; the rest has been fetched.
    """
    make_folder(folder)
    wanted, failures = _to_fetch(jobs, folder)
    fetcher = _Fetcher(folder, timeout, retries)
    with ThreadPoolExecutor(jobs_at_once) as executor:
        try:
            running = {executor.submit(fetcher, job): job for job in wanted}
            bar = tqdm(as_completed(running), total=len(wanted), desc="fetching", disable=None)
            failures += [failure for done in bar if (failure := done.result()) is not None]
        except BaseException:
            fetcher.stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    order = {job.filename: place for place, job in enumerate(wanted)}
    failures.sort(key=lambda failure: order.get(failure.filename, -1))
    passing = [failure for failure in failures if failure.passing]
    if passing:
        raise ConnectionError(
            f"{len(passing):,} of {len(wanted):,} pictures could not be fetched (the first: "
            f"{passing[0].filename}, {passing[0].reason}); give the same command again to go on"
        )
    return failures
