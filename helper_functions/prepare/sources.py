"""The files of a raw data set: read, and listed for the manifest with size and hash."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

from helper_functions.data.tables import missing_column, open_text, read_lines, read_rows
from helper_functions.runtime.errors import UserError


class Sources:
    """The files below the folder of a raw data set that a conversion reads.

    Raises:
        UserError: If there is no such folder. Every method raises it for a file that cannot be
            read, or does not hold what is asked for.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(f"The folder {folder} does not exist; check --raw-dir.")
        self.folder = folder
        self._files: dict[Path, dict[str, Any]] = {}
        self._groups: dict[str, list[tuple[int, str]]] = {}

    @property
    def read(self) -> list[dict[str, Any]]:
        """Name relative to the folder, bytes and SHA-256 of every file or group of files read.

        The hash of a group is that of ``name hash`` lines, one a file.
        """
        entries = list(self._files.values())
        for name, files in self._groups.items():
            sizes, lines = zip(*files, strict=True)
            entry = {"file": name, "files": len(files), "bytes": sum(sizes)}
            entries.append({**entry, "sha256": _sha256("".join(lines).encode())})
        return entries

    def has_read(self, path: Path) -> bool:
        """Whether a file, by whatever name, is one of those read."""
        return path.exists() and any(path.samefile(file) for file in self._files)

    def name(self, path: Path) -> str:
        """Return a path as the manifest has it: relative to the folder if it is below it."""
        below = path.is_relative_to(self.folder)
        return (path.relative_to(self.folder) if below else path).as_posix()

    def find(self, *candidates: str, advice: str) -> Path:
        """Return the first of some paths, relative to the folder, that is a file."""
        for path in map(self.folder.joinpath, candidates):
            if path.is_file():
                return path
        raise UserError(f"{self.folder} holds no {' nor '.join(candidates)}; {advice}.")

    def lines(self, path: Path) -> list[tuple[int, str]]:
        """Return number and text of every line that is not blank; at least one."""
        self._add(path)
        lines = list(read_lines(path))
        if not lines:
            raise UserError(f"{path} is empty; it should list one image a line.")
        return lines

    def table(self, path: Path, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
        """Yield line number and cells of every row of a CSV file, the header first."""
        self._add(path)
        yield from read_rows(path, strict=True, delimiter=delimiter)

    def columns(self, path: Path, names: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield line number and the cells of two or more columns of a CSV file, row after row."""
        rows = self.table(path)
        header = [name.strip() for name in next(rows)[1]]
        for name in names:
            if name not in header:
                raise UserError(missing_column(path, header, name))
            if (count := header.count(name)) > 1:
                raise UserError(f"{path} has {count:,} columns {name!r}; it should have one.")
        pick = itemgetter(*map(header.index, names))
        for line, row in rows:
            yield line, pick(row)

    def json(self, path: Path, without: Collection[str] = ()) -> Any:
        """Return the content of a JSON file in which no key comes twice in an object.

        Keys in ``without`` are left out of every object while reading, to save memory.
        """

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            if len(dict(pairs)) < len(pairs):  # Python would keep the last value.
                key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
                raise ValueError(f"the key {key[:80]!r} comes twice in one object")
            return {key: value for key, value in pairs if key not in without}

        def no_number(text: str) -> NoReturn:
            raise ValueError(f"{text} is not a number")

        self._add(path)
        with open_text(path) as file:
            try:
                return json.load(file, object_pairs_hook=unique, parse_constant=no_number)
            except UnicodeDecodeError:
                raise
            except (ValueError, RecursionError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{path} cannot be read as JSON: {reason[:200]}.") from error

    def content(self, path: Path, group: str) -> bytes:
        """Return the content of one of many small files, which the manifest lists as a group."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        line = f"{path.name} {_sha256(content)}\n"
        self._groups.setdefault(group, []).append((len(content), line))
        return content

    def _add(self, path: Path) -> None:
        """List a file for the manifest."""
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                entry = {"file": self.name(path), "bytes": file.tell(), "sha256": digest}
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        self._files[path] = entry


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def parse_integer(text: str, where: str, what: str) -> int:
    """Return an identifier, also if a spreadsheet or pandas has made a float of it ("123.0").

    Raises:
        UserError: If it is anything else.
    """
    digits = text.strip().removesuffix(".0")
    if digits.isascii() and digits.isdigit() and len(digits) <= 18:
        return int(digits)
    shown = text if len(text) <= 40 else f"{text[:37]}..."
    raise UserError(f"{where}: {what} {shown!r} is not a whole number.")
