"""What a check has found: faults and notes, by kind, with some examples of each."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Finding:
    """All that was found of one kind.

    Attributes:
        kind: A word or two, joined by hyphens.
        count: How often it was found.
        examples: The first sentences on it.
    """

    kind: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


class Findings:
    """Faults (training fails, or its figures mean nothing) and notes, in the order of discovery.

    Args:
        limit: Examples to keep of each kind; the rest is only counted.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._faults: dict[str, Finding] = {}
        self._notes: dict[str, Finding] = {}

    def fault(self, kind: str, sentence: str) -> None:
        """Add a fault."""
        self._add(self._faults, kind, sentence)

    def note(self, kind: str, sentence: str) -> None:
        """Add a note."""
        self._add(self._notes, kind, sentence)

    def _add(self, found: dict[str, Finding], kind: str, sentence: str) -> None:
        finding = found.setdefault(kind, Finding(kind))
        finding.count += 1
        if len(finding.examples) < self.limit:
            finding.examples.append(sentence)

    @property
    def faults(self) -> list[Finding]:
        """One entry a kind."""
        return list(self._faults.values())

    @property
    def notes(self) -> list[Finding]:
        """One entry a kind."""
        return list(self._notes.values())
