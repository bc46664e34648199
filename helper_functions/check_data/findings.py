"""Faults and notes of a check, with some examples of each kind."""

from __future__ import annotations

from typing import Any


class Findings:
    """Faults (training fails, or its metrics mean nothing) and notes: count and first sentences.

    Args:
        limit: Sentences to keep of each kind; the rest is only counted.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.faults: dict[str, dict[str, Any]] = {}
        self.notes: dict[str, dict[str, Any]] = {}

    def fault(self, kind: str, sentence: str) -> None:
        """Add a fault; the kind is a word or two, joined by hyphens."""
        self._add(self.faults, kind, sentence)

    def note(self, kind: str, sentence: str) -> None:
        """Add a note."""
        self._add(self.notes, kind, sentence)

    def _add(self, findings: dict[str, dict[str, Any]], kind: str, sentence: str) -> None:
        finding = findings.setdefault(kind, {"kind": kind, "count": 0, "examples": []})
        finding["count"] += 1
        if finding["count"] <= self.limit:
            finding["examples"].append(sentence)
