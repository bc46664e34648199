"""The split CSV and its manifest: built in memory, compared with what is there, then written."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import methodcaller
from pathlib import Path
from typing import Any

from helper_functions.data.splits import COLUMNS, SPLITS
from helper_functions.prepare.rows import ConversionResult, Row
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import fit_name, make_folder, write_atomically

MANIFEST_VERSION = 2
_NAMED = 5  # classes in a note
_MANIFEST = ".manifest.json"


def manifest_path(out: Path) -> Path:
    """Return where the manifest of a split CSV lies."""
    return out.with_name(fit_name(out.stem, _MANIFEST) + _MANIFEST)


def to_csv(rows: Sequence[Row]) -> bytes:
    """Return the split CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((row.filename, str(list(row.labels)), row.split) for row in rows)
    return text.getvalue().encode()


def class_counts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Count the images of every class, by name and split."""
    counts = Counter((name, row.split) for row in rows for name in row.labels)
    names = sorted({name for name, _ in counts})
    return {name: {split: counts[name, split] for split in SPLITS} for name in names}


def class_notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Warn of classes that occur in no training image."""
    unseen = [name for name, of_split in counts.items() if not of_split["train"]]
    if not unseen:
        return []
    more = f" and {len(unseen) - _NAMED:,} more" if len(unseen) > _NAMED else ""
    classes = "1 class occurs" if len(unseen) == 1 else f"{len(unseen):,} classes occur"
    names = ", ".join(unseen[:_NAMED]) + more
    return [f"{classes} in validation or test only and cannot be learned: {names}."]


def to_manifest(
    layout: str,
    options: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    result: ConversionResult,
    table: bytes,
) -> bytes:
    """Return what the split CSV follows from and leaves out: for equal input, equal bytes."""
    splits = Counter(row.split for row in result.rows)
    content = {
        "manifest_version": MANIFEST_VERSION,
        "layout": layout,
        "split_csv": {"bytes": len(table), "sha256": hashlib.sha256(table).hexdigest()},
        "sources": sources,
        "label_source": result.label_source,
        "options": options,
        "images": {split: splits[split] for split in SPLITS},
        "classes": class_counts(result.rows),
        "notes": result.notes,
        "skipped_by_reason": Counter(reason for _, reason in result.skipped),
        "skipped": [{"filename": name, "reason": reason} for name, reason in result.skipped],
    }
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def check_target(out: Path) -> None:
    """Raise ``UserError`` if the name of a split CSV is taken by a folder or is none of a CSV."""
    if out.suffix.lower() != ".csv":
        raise UserError(f"--out {out} should end in .csv, such as splits.csv.")
    for path in (out, manifest_path(out)):
        if path.is_dir():
            raise UserError(f"{path} is a folder; choose another name for --out.")


def write_outputs(out: Path, table: bytes, manifest: bytes, *, overwrite: bool) -> bool:
    """Write both files, the manifest first; return whether anything had to be written.

    Raises:
        UserError: If there is a file of other content, and ``overwrite`` is not set.
    """
    wanted = {manifest_path(out): manifest, out: table}
    present = {path: _content(path) for path in wanted}
    differing = [path for path in wanted if present[path] != wanted[path]]
    taken = [path for path in differing if present[path] is not None]
    if taken and not overwrite:
        raise UserError(
            f"{taken[0]} is there already and differs from what this command would write; choose "
            f"another --out, or give --overwrite."
        )
    make_folder(out.parent)
    for path in differing:
        write_atomically(path, methodcaller("write", wanted[path]))
    return bool(differing)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
