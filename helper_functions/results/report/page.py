"""The page: one file that holds its style, its script and its images."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from helper_functions.results.overlays import write_image
from helper_functions.results.report import Charts, Gallery, KeyFigure, Section
from helper_functions.runtime.files import make_folder, write_atomically
from helper_functions.runtime.text import printable

_HERE = Path(__file__).parent
_QUALITY = 80  # of the JPEGs
_SIDE = 360  # of an image of a card at most, in pixels


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _digest(text: str) -> str:
    """Return the hash by which a content security policy knows a script or a style."""
    return _base64(hashlib.sha256(text.encode()).digest())


def _jpeg(image: Image.Image) -> bytes:
    """Shrink an image and encode it."""
    small, jpeg = image.copy(), io.BytesIO()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    small.save(jpeg, "JPEG", quality=_QUALITY)
    return jpeg.getvalue()


def _setting(value: object) -> str:
    """Write the value of a setting in words."""
    if value is None or isinstance(value, bool):
        return {None: "not set", True: "on", False: "off"}[value]
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return " ".join(map(str, value))
    return str(value)


def _visible(value: object) -> object:
    """Return what the page shows of a value; bytes of a name that are not UTF-8 become "?"."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return printable(value.encode(errors="replace").decode())


def _write_bytes(path: Path, content: bytes) -> None:
    write_atomically(path, lambda file: file.write(content))


def _write_figures(folder: Path, sections: Sequence[Section]) -> None:
    """Write the charts and the originals of cards as PNG."""
    make_folder(folder)
    for section in sections:
        for chart in section.charts if isinstance(section, Charts) else ():
            if chart.figure is not None:
                _write_bytes(folder / f"{chart.name}.png", chart.png)
        for card in section.cards if isinstance(section, Gallery) else ():
            if card.original is not None:
                write_image(folder / f"{card.name}.png", card.original)


def write_report(
    path: Path,
    *,
    title: str,
    subtitle: str,
    key_figures: Sequence[KeyFigure],
    sections: Sequence[Section],
    settings: Mapping[str, object],
) -> None:
    """Write the report as one HTML file, and its figures as PNG into ``figures`` beside it.

    The page may fetch nothing and run only its own script, even if a name got past the escaping.

    Args:
        path: The HTML file.
        title: Its heading.
        subtitle: Below it, such as the files that were read.
        key_figures: The numbers at its head.
        sections: In their order.
        settings: The settings of the run.
    """
    pages = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(base64=_base64, digest=_digest, jpeg=_jpeg, setting=_setting)
    text = pages.get_template("report.html").render(
        title=title,
        subtitle=subtitle,
        key_figures=key_figures,
        sections=sections,
        settings=settings,
        style=(_HERE / "report.css").read_text(encoding="utf-8"),
        script=(_HERE / "report.js").read_text(encoding="utf-8"),
    )
    _write_figures(path.parent / "figures", sections)
    _write_bytes(path, text.lstrip().encode())
