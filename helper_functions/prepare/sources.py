"""Reading the files of a raw data set: hashed on the way, complaints in one sentence."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn, TextIO

from tqdm import tqdm

from helper_functions.runtime.errors import UserError

MAX_JSON = 2_000_000_000  # bytes; COCO's largest annotation file has a quarter of that
MAX_SMALL = 10_000_000
_BUFFER = 1 << 20


class _Hashed(io.RawIOBase):
    """A file that hashes what is read from it, and shows how far the reading is."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb", buffering=0)
        self.digest = hashlib.sha256()
        self.size = 0
        status = os.fstat(self.file.fileno())
        self.identity = status.st_dev, status.st_ino
        settings = {"unit": "B", "unit_scale": True, "disable": None, "leave": False}
        self.bar = tqdm(total=status.st_size, desc=path.name, **settings)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; the number of bytes read."""
        count = self.file.readinto(buffer) or 0
        self.digest.update(memoryview(buffer)[:count])
        self.size += count
        self.bar.update(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self.bar.close()
            self.file.close()
        super().close()


class Sources:
    """The files below a folder that a conversion reads.

    Args:
        folder: Where the raw data set lies.

    Attributes:
        read: For each file or group of files read: name relative to the folder, size in bytes and
            SHA-256. That of a group is the hash of ``name hash`` lines, one a file.

    Raises:
        UserError: If there is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"The folder {folder} does not exist; check --raw-dir.")
        self.folder = folder
        self._identities: set[tuple[int, int]] = set()
        self._entries: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, Any] = {}

    @property
    def read(self) -> list[dict[str, Any]]:
        """What has been read, in order."""
        for name, digest in self._groups.items():
            self._entries[name]["sha256"] = digest.hexdigest()
        return list(self._entries.values())

    def has_read(self, path: Path) -> bool:
        """Whether a file, by whatever name, is one of those read whole."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) in self._identities

    def name(self, path: Path) -> str:
        """A path as the manifest has it: relative to the folder where it lies below."""
        return (
            path.relative_to(self.folder) if path.is_relative_to(self.folder) else path
        ).as_posix()

    def find(self, *candidates: str, advice: str) -> Path:
        """The first of some paths, relative to the folder, that is a file.

        Raises:
            UserError: If none is.
        """
        for candidate in candidates:
            path = self.folder / candidate
            if path.is_file():
                return path
        looked = " nor ".join(candidates)
        raise UserError(f"{self.folder} holds no {looked}; {advice}.")

    @contextmanager
    def text(self, path: Path) -> Iterator[TextIO]:
        """Open a UTF-8 file, with or without byte order mark.

        Raises:
            UserError: If it cannot be read or is not UTF-8.
        """
        try:
            with _Hashed(path) as raw:
                buffered = io.BufferedReader(raw, _BUFFER)
                with io.TextIOWrapper(buffered, encoding="utf-8-sig", newline="") as file:
                    yield file
                    while buffered.read(_BUFFER):
                        pass
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path} is not UTF-8 text ({error.reason}); save it as UTF-8."
            ) from error
        except OSError as error:
            _refuse(path, error)
        self._identities.add(raw.identity)
        entry = {"file": self.name(path), "bytes": raw.size, "sha256": raw.digest.hexdigest()}
        self._entries[self.name(path)] = entry

    def lines(self, path: Path) -> list[tuple[int, str]]:
        """Number and text of every line that is not blank.

        Raises:
            UserError: If there is none, or the file cannot be read.
        """
        with self.text(path) as file:
            lines = [(n, line.strip()) for n, line in enumerate(file, 1) if line.strip()]
        if not lines:
            raise UserError(f"{path} is empty; it should list one picture a line.")
        return lines

    def table(self, path: Path, columns: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Line number and the cells of some columns, row after row.

        Args:
            path: A CSV file with a header.
            columns: The names of two or more columns, in the order wanted; any others are passed
                over.

        Raises:
            UserError: If a column is missing, or a row is not like the header.
        """
        rows = self.rows(path)
        _, header = next(rows)
        names = [name.strip() for name in header]
        for column in columns:
            if names.count(column) != 1:
                raise UserError(_column_fault(path, names, column))
        pick = itemgetter(*(names.index(column) for column in columns))
        for line, row in rows:
            yield line, pick(row)

    def rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of every row of a CSV that is not blank, the header included.

        Raises:
            UserError: If the file is empty or no CSV, or a row is longer or shorter than the first.
        """
        width, count = None, 0
        with self.text(path) as file:
            reader = csv.reader(file, strict=True)
            try:
                for row in reader:
                    if not row or (len(row) == 1 and not row[0].strip()):
                        continue
                    if width is None:
                        width = len(row)
                    elif len(row) != width:
                        raise UserError(
                            f"{path}, line {reader.line_num}: the row has {len(row):,} columns, "
                            f"but the header has {width:,}."
                        )
                    count += 1
                    yield reader.line_num, row
            except csv.Error as error:
                raise UserError(
                    f"{path}, line {reader.line_num}: this is not a valid CSV row: {error}."
                ) from error
        if width is None:
            raise UserError(f"{path} is empty; it should be a CSV with a header.")
        if count == 1:
            raise UserError(f"{path} holds a header but no row.")

    def json(self, path: Path, without: Collection[str] = ()) -> Any:
        """The content of a JSON file.

        Args:
            path: The file.
            without: Keys to leave out of every object while reading, to save memory.

        Raises:
            UserError: If it is no JSON, gives a key of an object twice, or is beyond ``MAX_JSON``.
        """
        with self.text(path) as file:
            size = path.stat().st_size
            if size > MAX_JSON:
                raise UserError(
                    f"{path} has {size / 1e9:.1f} GB; annotation files up to "
                    f"{MAX_JSON / 1e9:.0f} GB are read."
                )
            try:
                hook = partial(_unique, without=frozenset(without))
                return json.load(file, object_pairs_hook=hook, parse_constant=_no_number)
            except UnicodeDecodeError:
                raise
            except (ValueError, RecursionError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{path} cannot be read as JSON: {reason[:200]}.") from error

    def small(self, path: Path, group: str) -> bytes:
        """The content of one of many small files, which the manifest lists as a group.

        Raises:
            UserError: If it cannot be read or is beyond ``MAX_SMALL``.
        """
        try:
            size = path.stat().st_size
            if size > MAX_SMALL:
                raise UserError(f"{path} has {size / 1e6:.0f} MB, far too many for an annotation.")
            content = path.read_bytes()
        except OSError as error:
            _refuse(path, error)
        entry = self._entries.setdefault(group, {"file": group, "files": 0, "bytes": 0})
        entry["files"] += 1
        entry["bytes"] += len(content)
        digest = self._groups.setdefault(group, hashlib.sha256())
        digest.update(f"{path.name} {hashlib.sha256(content).hexdigest()}\n".encode())
        return content


def whole_number(text: str, where: str, what: str) -> int:
    """An identifier, also where a spreadsheet or pandas has made a float of it ("123.0").

    Raises:
        UserError: If it is anything else.
    """
    digits = text.strip().removesuffix(".0")
    if digits.isascii() and digits.isdigit() and len(digits) <= 18:
        return int(digits)
    shown = text if len(text) <= 40 else f"{text[:37]}..."
    raise UserError(f"{where}: {what} {shown!r} is not a whole number.")


def _refuse(path: Path, error: OSError) -> NoReturn:
    raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _column_fault(path: Path, names: Sequence[str], column: str) -> str:
    if column in names:
        return f"{path} has {names.count(column):,} columns {column!r}; it should have one."
    found = ", ".join(names[:8])[:200] + (f", ... ({len(names):,} columns)" if names[8:] else "")
    semicolons = len(names) == 1 and ";" in names[0]
    advice = " Use commas between the columns." if semicolons else ""
    return f"{path} has no column {column!r}: its header reads {found!r}.{advice}"


def _unique(pairs: list[tuple[str, Any]], without: frozenset[str]) -> dict[str, Any]:
    """An object whose keys all come once: of a repeated one Python would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:80]!r} comes twice in one object")
            seen.add(key)
    for key in without & found.keys():
        del found[key]
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")
