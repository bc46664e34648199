"""Download single images: few at a time, with retries, each decoded before it gets its name."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from helper_functions.data.bands import ImageFormat
from helper_functions.data.images import DEFAULT, ImageError, image_problem, read_image
from helper_functions.runtime.files import make_folder, replacing

USER_AGENT = "volunet-prepare/1 (one-off download of a research data set)"
MAX_BYTES = 200_000_000
MAX_TIMEOUTS = 20  # a download may take this many times the timeout in all
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 120.0  # seconds between attempts
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")


class _Failure(Exception):
    """Why an attempt failed, whether another may succeed, and the pause the server asks for."""

    def __init__(self, reason: str, *, temporary: bool, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.temporary, self.pause = temporary, pause


def _receive(response: requests.Response, path: Path, timeout: float) -> None:
    """Write the body of a response to a file."""
    if response.status_code != requests.codes.ok:
        pause = Retry().get_retry_after(response.raw) or 0.0
        again = f" and asks to come back in {pause:,.0f} s" if pause else ""
        reason = f"the server answers {response.status_code} {response.reason}{again}"
        raise _Failure(reason, temporary=response.status_code in _TEMPORARY, pause=pause)
    content_type = response.headers.get("Content-Type", "image/").partition(";")[0].lower()
    if not content_type.startswith(_CONTENT_TYPES):
        raise _Failure(f"the server sends {content_type}, not an image", temporary=False)
    size, end = 0, time.monotonic() + MAX_TIMEOUTS * timeout
    with path.open("wb") as file:
        while chunk := response.raw.read1(1 << 16, decode_content=True):
            size += file.write(chunk)
            if size > MAX_BYTES:
                raise _Failure(f"it has more than {MAX_BYTES:,} bytes", temporary=False)
            if time.monotonic() > end:
                raise _Failure("the server is too slow", temporary=True)


def fetch_all(
    urls: Mapping[str, str],
    folder: Path,
    *,
    jobs: int,
    timeout: float,
    retries: int,
    image_format: ImageFormat = DEFAULT,
) -> dict[str, str]:
    """Fetch the images that a folder lacks.

    Args:
        urls: Addresses by file name.
        folder: Where the images belong; made if it is missing.
        jobs: Connections at a time.
        timeout: Seconds of silence after which an attempt counts as failed.
        retries: Attempts after the first.
        image_format: Its limit of size holds.

    Returns:
        Why each image that cannot be had (no such page, no image) failed, by file name.

    Raises:
        UserError: If the folder cannot be made.
        ConnectionError: If some failed but may succeed later; the rest has been fetched.
    """
    make_folder(folder)
    first = Retry(
        retries, backoff_factor=FIRST_PAUSE, backoff_jitter=FIRST_PAUSE, backoff_max=LONGEST_PAUSE
    )
    stop, session = Event(), requests.Session()
    session.headers["User-Agent"] = USER_AGENT
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=jobs))

    def fetch(name: str) -> _Failure | None:
        failure = _Failure("the download was stopped", temporary=True)
        retry, url = first, urls[name]
        while not stop.is_set():
            try:
                with (
                    replacing(folder / name) as part,
                    session.get(url, stream=True, timeout=timeout) as response,
                ):
                    _receive(response, part, timeout)
                    read_image(part, image_format)
                return None
            except _Failure as error:
                failure = error
            except ImageError as error:
                failure = _Failure(f"what came is no image: {error.reason}", temporary=True)
            except (requests.RequestException, HTTPError, ValueError) as error:
                # Addresses that are none are ValueErrors in both libraries.
                permanent = isinstance(error, (ValueError, requests.TooManyRedirects))
                reason = f"nothing came from {url[:80]!r} ({type(error).__name__})"
                failure = _Failure(reason, temporary=not permanent)
            if failure.pause > LONGEST_PAUSE:
                stop.set()  # Every connection leaves such a server alone.
            if not failure.temporary or not retry.total:
                break
            retry = retry.increment()
            stop.wait(max(failure.pause, retry.get_backoff_time()))
        return failure

    wanted = [
        name
        for name in urls
        if not (folder / name).is_file() or image_problem(folder / name, image_format)
    ]
    with session, ThreadPoolExecutor(jobs) as executor:
        try:
            bar = tqdm(executor.map(fetch, wanted), "fetching", len(wanted), disable=None)
            failures = {name: each for name, each in zip(wanted, bar, strict=True) if each}
        except BaseException:
            stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            raise
    if temporary := [f"{name}, {each}" for name, each in failures.items() if each.temporary]:
        raise ConnectionError(
            f"{len(temporary):,} of {len(wanted):,} images could not be fetched (the first: "
            f"{temporary[0]}); give the same command again to go on"
        )
    return {name: str(failure) for name, failure in failures.items()}
