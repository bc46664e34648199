"""What the decoded pictures tell: unreadable files, one picture under several names, sizes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from tqdm import tqdm

from helper_functions.check_data.decoding import Picture, inspect_all
from helper_functions.check_data.findings import Findings
from helper_functions.data.bands import Reading
from helper_functions.data.images import DEFAULT
from helper_functions.data.splits import TWO_SPLITS, Sample


def decode_all(
    samples: Sequence[Sample], img_dir: Path, workers: int, reading: Reading = DEFAULT
) -> dict[str, Picture]:
    """Decode the picture of every row once, with a progress bar.

    Returns:
        The pictures by file name.
    """
    names = list(dict.fromkeys(sample.filename for sample in samples))
    found = inspect_all([img_dir / name for name in names], min(workers, len(names)), reading)
    progress = tqdm(found, desc="decoding", total=len(names), disable=None, leave=False)
    return dict(zip(names, progress, strict=True))


def check_files(
    samples: Sequence[Sample], pictures: Mapping[str, Picture], img_dir: Path, findings: Findings
) -> None:
    """Look for files that are missing or cannot be decoded.

    Training does not open the pictures of the split test, so theirs are notes.
    """
    for sample in samples:
        problem = pictures[sample.filename].problem
        if problem is None:
            continue
        path = img_dir / sample.filename
        hint = "" if os.path.lexists(path) else _similar(path)
        sentence = f"Line {sample.line}: {sample.filename!r} cannot be read: {problem}{hint}."
        if sample.split == "test":
            findings.note("unreadable-test-picture", sentence)
        else:
            findings.fault("unreadable-picture", sentence)


@lru_cache(maxsize=64)
def _names_by_stem(folder: Path) -> dict[str, str]:
    try:
        names = sorted(folder.iterdir())
    except OSError:
        return {}
    return {name.stem.casefold(): name.name for name in names}


def _similar(path: Path) -> str:
    """A file of the same folder that has the same name but for case and extension."""
    names = _names_by_stem(path.parent)
    found = names.get(path.name.casefold()) or names.get(path.stem.casefold())
    return f", but the folder has {found!r}" if found else ""


def _in_other_rows(
    samples: Sequence[Sample], pictures: Mapping[str, Picture]
) -> Iterator[tuple[Sample, Sample]]:
    """Pairs of rows whose different files decode to the same pixels, the earlier row first."""
    first_seen: dict[bytes, Sample] = {}
    for sample in samples:
        digest = pictures[sample.filename].digest
        if digest:
            earlier = first_seen.setdefault(digest, sample)
            if earlier.filename != sample.filename:
                yield earlier, sample


def check_contents(
    samples: Sequence[Sample], pictures: Mapping[str, Picture], findings: Findings
) -> None:
    """Look for one picture under several names, in two splits (a fault) or in one (a note)."""
    for earlier, sample in _in_other_rows(samples, pictures):
        same = (
            f"Line {sample.line}: {sample.filename!r} shows the very picture of line "
            f"{earlier.line}, {earlier.filename!r}"
        )
        if earlier.split != sample.split:
            findings.fault(
                TWO_SPLITS,
                f"{same}, but the splits are {sample.split} and {earlier.split}; a picture belongs "
                f"to one split.",
            )
            continue
        differs = set(earlier.labels) != set(sample.labels)
        labels = "other labels" if differs else "the same labels"
        findings.note("picture-under-two-names", f"{same}, with {labels}.")


def count_sizes(pictures: Mapping[str, Picture]) -> Counter[tuple[int, int]]:
    """Number of readable pictures by width and height."""
    return Counter(picture.size for picture in pictures.values() if picture.problem is None)


def count_forms(pictures: Mapping[str, Picture]) -> Counter[str]:
    """Number of readable pictures by file format and mode."""
    return Counter(picture.form for picture in pictures.values() if picture.problem is None)
