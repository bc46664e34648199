"""A table with the labels of an image in one column, beside images whose folders it leaves out."""

from __future__ import annotations

from pathlib import Path

from raw_archives.images import Truth, save

LABELS = ("crab", "eel", "crab, eel", "crab", "[]", "eel", "['crab', 'eel']", "crab", "eel", "crab")


def write(folder: Path) -> Truth:
    """No split is given; the names lack folder and extension."""
    lines = ["image,depth,labels"]
    truth: Truth = {}
    for number, cell in enumerate(LABELS):
        name = f"dive{number % 2}/{number:03d}.png"
        save(folder / name, number)
        lines.append(f'{number:03d},{number}.5,"{cell}"')
        truth[name] = [each for each in ("crab", "eel") if each in cell], None
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return truth
