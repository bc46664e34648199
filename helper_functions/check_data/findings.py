"""Faults and notes of a check, with some examples of each kind."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Finding:
    """How often a kind of fault or note occurs, and the first sentences on it."""

    kind: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Findings:
    """Faults (training fails, or its metrics mean nothing) and notes, by kind, as they are met.

    Args:
        limit: Examples to keep of each kind; the rest is only counted.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.faults: dict[str, Finding] = {}
        self.notes: dict[str, Finding] = {}

    def fault(self, kind: str, sentence: str) -> None:
        """Add a fault; the kind is a word or two, joined by hyphens."""
        self._add(self.faults, kind, sentence)

    def note(self, kind: str, sentence: str) -> None:
        """Add a note."""
        self._add(self.notes, kind, sentence)

    def _add(self, findings: dict[str, Finding], kind: str, sentence: str) -> None:
        finding = findings.setdefault(kind, Finding(kind))
        finding.count += 1
        if len(finding.examples) < self.limit:
            finding.examples.append(sentence)
