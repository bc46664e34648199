"""What a download by hand should have brought, and whether it is there and whole."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from helper_functions.runtime.errors import UserError

_CHUNK = 1 << 20


def check_archives(archives: Iterable[Path]) -> list[str]:
    """Read ZIP archives from end to end against the checksums of their members.

    Returns:
        A line on each: members, bytes and SHA-256.

    Raises:
        UserError: If one is damaged.
    """
    return [_checked(path) for path in archives]


def _checked(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            for member in tqdm(members, desc=path.name, disable=None, leave=False):
                with archive.open(member) as file:
                    while file.read(_CHUNK):
                        pass
        with path.open("rb") as whole:
            digest = hashlib.file_digest(whole, "sha256").hexdigest()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{path} is damaged ({error}); download it again.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    size = path.stat().st_size
    return f"{path.name}: whole, {len(members):,} files, {size:,} bytes, SHA-256 {digest}"


def count_line(what: str, there: int, expected: int) -> str:
    """A line on a number of files that is known from the publication."""
    state = "complete" if there == expected else f"{expected:,} are published"
    return f"{what}: {there:,} ({state})"
