"""``report.html``: the results of any task as one page that opens without a network.

A task describes what it found as key figures and sections; ``write_report`` makes the page of them.
"""

from helper_functions.results.report.page import write_report
from helper_functions.results.report.sections import (
    Card,
    Chart,
    Charts,
    ChipGroup,
    Column,
    Gallery,
    KeyFigure,
    Section,
    Sparkline,
    Table,
    Text,
)

__all__ = [
    "Card",
    "Chart",
    "Charts",
    "ChipGroup",
    "Column",
    "Gallery",
    "KeyFigure",
    "Section",
    "Sparkline",
    "Table",
    "Text",
    "write_report",
]
