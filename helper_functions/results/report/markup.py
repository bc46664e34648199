"""Pieces of HTML that several parts of the page use."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from typing import NamedTuple

from PIL import Image

_QUALITY = 80  # of the JPEG


class Chart(NamedTuple):
    """A drawing with what stands around it.

    Attributes:
        svg: The drawing as an element of the page.
        title: Its heading.
        note: HTML below it: how to read it.
    """

    svg: str
    title: str
    note: str


def escape(text: object) -> str:
    """Text for HTML; bytes of a file name that are not UTF-8 become question marks."""
    return html.escape(str(text).encode(errors="replace").decode())


def bar(percent: float) -> str:
    """A thin bar from 0 to 100."""
    return f'<span class="bar"><i style="width:{min(max(percent, 0.0), 100.0):.1f}%"></i></span>'


def chart_grid(charts: Iterable[Chart], kind: str = "charts") -> str:
    """Charts side by side, as many as fit."""
    figures = [
        f"<section><h3>{chart.title}</h3>{chart.svg}{chart.note}</section>" for chart in charts
    ]
    return "\n".join([f'<div class="{kind}">', *figures, "</div>"])


def embedded(picture: Image.Image, alternative: str) -> str:
    """A picture as an element that carries its own bytes."""
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=_QUALITY)
    data = base64.b64encode(jpeg.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/jpeg;base64,{data}" alt="{escape(alternative)}" '
        f'width="{picture.width}" height="{picture.height}">'
    )
