"""``report.html``: the result of a validation as one page that opens without a network.

``page`` puts the parts together: ``findings`` (sentences), ``table`` (classes), ``charts`` and
``lookalikes`` (drawn once, as SVG for the page and as PNG beside it), ``pictures``.
"""

from helper_functions.results.report.page import write_report

__all__ = ["write_report"]
