"""Image folders: which images are there, and where a file is that a table names.

Every walk through folders is that of ``walk``.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import unicodedata
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from helper_functions.runtime.errors import UserError
from helper_functions.runtime.lookalikes import contrast, skeleton

IMAGE_EXTENSIONS = frozenset(
    (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg")
    + (".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
)
# Images that are not read: of phones, cameras, drawing programs, astronomy and medicine.
UNREAD_EXTENSIONS = frozenset(
    (".heic", ".heif", ".hif", ".jxl", ".jxr", ".wdp", ".bpg", ".j2c", ".j2k", ".jpc", ".jpf")
    + (".jpx", ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw")
    + (".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f")
    + (".ai", ".apng", ".dds", ".dib", ".eps", ".exr", ".hdr", ".icns", ".ico", ".pcx", ".pfm")
    + (".psb", ".psd", ".sgi", ".svg", ".svgz", ".tga", ".xcf", ".dcm", ".dicom", ".fit", ".fits")
    + (".nii", ".ecw", ".sid")
)
_NAMED = 5  # endings or names in a note

Unreadable = list[tuple[Path, str]]


class FoundImages(NamedTuple):
    """What a search for images has found.

    Attributes:
        paths: Images by their endings, sorted.
        unread: Files with endings of images that are not read.
        dangling: Links with endings of images that lead to no file.
        closed: Folders that cannot be listed, with the system's reason.
    """

    paths: list[Path]
    unread: list[Path]
    dangling: list[Path]
    closed: Unreadable

    def notes(self) -> list[str]:
        """Return a sentence on everything that was left out."""
        notes = []
        if self.unread:
            notes.append(
                f"{describe_unread(self.unread)} left out; save such images as PNG or JPEG to "
                f"include them."
            )
        if self.dangling:
            count, names = len(self.dangling), _first_of(self.dangling)
            notes.append(f"Links that lead to no file were left out ({count:,}): {names}.")
        notes += [f"The folder {folder} was left out: {reason}." for folder, reason in self.closed]
        return notes


def _first_of(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return ", ".join(map(str, paths[:_NAMED])) + more


def is_unread(path: PurePath) -> bool:
    """Whether a file has the ending of an image that is not read."""
    return path.suffix.lower() in UNREAD_EXTENSIONS


def describe_unread(paths: Sequence[PurePath]) -> str:
    """Return how many files have endings that are not read, as the beginning of a sentence.

    >>> describe_unread([PurePath("a.HEIC"), PurePath("b.nef"), PurePath("c.heic")])
    '3 files with endings that cannot be read (.heic, .nef) were'
    """
    endings = Counter(path.suffix.lower() for path in paths).most_common()
    named = ", ".join(ending for ending, _ in endings[:_NAMED])
    more = ", ..." if len(endings) > _NAMED else ""
    if len(paths) == 1:
        return f"1 file with an ending that cannot be read ({named}) was"
    return f"{len(paths):,} files with endings that cannot be read ({named}{more}) were"


def walk(folder: Path, closed: Unreadable | None = None) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and every folder below it, with the names of their files.

    Links to folders are followed, and each folder comes once: by its own name if it has one below
    ``folder``, else by the first link. A link to a folder that ``folder`` lies in is a loop and is
    skipped, and so is what is hidden.

    Args:
        folder: An existing folder.
        closed: Gets the folders that cannot be listed, with the system's reason.
    """
    seen = {_identity(parent) for parent in folder.resolve().parents} | {_identity(folder)}
    pending, links = [folder], deque[Path]()
    while pending or links:
        if pending:
            current = pending.pop()
        else:  # Folders come before links, so that links change the names of none.
            current = links.popleft()
            if (identity := _identity(current)) in seen:
                continue
            seen.add(identity)
        try:
            with os.scandir(current) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if closed is not None:
                closed.append((current, error.strerror or str(error)))
            continue
        files = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = current / entry.name
            if not os.path.isdir(path):  # noqa: PTH112 - false for links that lead nowhere
                files.append(entry.name)
            elif entry.is_symlink():
                links.append(path)
            elif (identity := _identity(path)) not in seen:
                seen.add(identity)
                pending.append(path)
        yield current, files


def _identity(folder: Path) -> tuple[int, int]:
    """Return what a folder has in common with all links to it."""
    try:
        status = folder.stat()
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def _sort_out(paths: Iterable[Path], closed: Unreadable) -> FoundImages:
    """Keep images by their endings, and remember what else looks like one."""
    found = FoundImages([], [], [], closed)
    for path in sorted(paths):
        ending = path.suffix.lower()
        if ending in IMAGE_EXTENSIONS:
            if path.is_file():
                found.paths.append(path)
            elif path.is_symlink() and not path.exists():
                found.dangling.append(path)
        elif is_unread(path) and path.is_file():
            found.unread.append(path)
    return found


def find_images(folder: Path) -> FoundImages:
    """List the image files under a folder by extension, as ``walk`` finds them.

    Raises:
        UserError: If `folder` is not a folder.
    """
    if not folder.is_dir():
        raise UserError(f"The image folder {folder} is not an existing folder: check the path.")
    closed: Unreadable = []
    files = (below / name for below, names in walk(folder, closed) for name in names)
    return _sort_out(files, closed)


def match_images(pattern: Path) -> FoundImages:
    """List the image files that a pattern matches; ``**`` stands for the folders of ``walk``."""
    closed: Unreadable = []
    start = next(k for k, part in enumerate(pattern.parts) if glob.has_magic(part))
    folder = Path(*pattern.parts[:start])
    return _sort_out(set(_match(folder, pattern.parts[start:], closed)), closed)


def _match(folder: Path, parts: Sequence[str], closed: Unreadable) -> Iterator[Path]:
    """Yield what is below a folder and matches the parts of a pattern, one a level."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        for below, _ in walk(folder, closed) if folder.is_dir() else ():
            yield from _match(below, rest or ["*"], closed)
        return
    names = [part]
    if glob.has_magic(part):
        try:
            names = fnmatch.filter(os.listdir(folder), part)  # noqa: PTH208 - names, not paths
        except OSError:
            return
        names = [name for name in names if not name.startswith(".") or part.startswith(".")]
    for name in names:
        if not rest:
            yield folder / name
        elif (folder / name).is_dir():
            yield from _match(folder / name, rest, closed)


def leaves_folder(name: str) -> bool:
    """Whether a file name, read as one of Linux or of Windows, leads out of its folder."""
    paths = PurePosixPath(name), PureWindowsPath(name)
    return any(path.is_absolute() or ".." in path.parts for path in paths)


def canonical_name(name: str) -> str:
    """Return a file name that all spellings which ``locate`` takes for the same file share."""
    if name.isascii() and not any(mark in name for mark in ("\\", "./", "//")):
        return name
    return PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/")).as_posix()


def locate(folder: Path, name: str) -> Path:
    """Return the path of a file that a table names.

    If none has the name as it stands, backslashes count as slashes, and letters may be composed or
    decomposed (an accent as a character of its own), as long as one file alone fits.
    """
    path = folder / name
    if (name.isascii() and "\\" not in name) or os.path.lexists(path):
        return path
    for spelling in dict.fromkeys((name, name.replace("\\", "/"))):
        if (found := _locate_parts(folder, PurePath(spelling).parts)) is not None:
            return found
    return path


def _locate_parts(folder: Path, parts: Sequence[str]) -> Path | None:
    """Go down one part of a path at a time, by the only name of the same letters."""
    for part in parts:
        name = part
        if not os.path.lexists(folder / part):
            names = _names_in(folder).get(unicodedata.normalize("NFC", part), ())
            if len(names) != 1:
                return None
            name = names[0]
        folder = folder / name
    return folder


def _names_in(folder: Path) -> dict[str, list[str]]:
    """Return the names in a folder by their composed form."""
    try:
        return _list_names(folder, folder.stat().st_mtime_ns)
    except OSError:
        return {}


@lru_cache(maxsize=64)
def _list_names(folder: Path, _modified: int) -> dict[str, list[str]]:
    names = defaultdict(list)
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - names, not paths
        names[unicodedata.normalize("NFC", name)].append(name)
    return names


@lru_cache(maxsize=64)
def _similar_names(folder: Path, _modified: int) -> dict[str, str]:
    """Return the names in a folder by what is left of them without case and extension."""
    names = [name for group in _names_in(folder).values() for name in group]
    return {skeleton(PurePath(name).stem).casefold(): name for name in names}


def missing_hint(path: Path) -> str:
    """Return a clause, maybe empty, on what the folder has instead of a file that is not there."""
    hint = ""
    if os.sep == "/" and "\\" in str(path):
        hint = ", also not with slashes for the backslashes"
        path = Path(str(path).replace("\\", "/"))
    same = _names_in(path.parent).get(unicodedata.normalize("NFC", path.name), [])
    if len(same) > 1:
        return f"{hint}, but the folder has both {' and '.join(contrast(*same[:2]))}"
    try:
        names = _similar_names(path.parent, path.parent.stat().st_mtime_ns)
    except OSError:
        return hint
    keys = (skeleton(name).casefold() for name in (path.name, path.stem))
    similar = next((names[key] for key in keys if key in names), None)
    if similar is None or similar == path.name:
        return hint
    wanted, found = contrast(path.name, similar)
    instead = "" if wanted == repr(path.name) else f" instead of {wanted}"
    return f"{hint}, but the folder has {found}{instead}"
