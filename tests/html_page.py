"""Reads a page of HTML as tests ask of it: tags that balance, the text of every element."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "input"}


@dataclass
class Element:
    """An element, its attributes, and all the text inside."""

    tag: str
    attributes: dict[str, str | None]
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def all(self, tag: str, name: str = "") -> list[Element]:
        """The elements inside of a tag and, if given, a class."""
        return [
            element
            for element in self.inside()
            if element.tag == tag and name in ("", *(element.attributes.get("class") or "").split())
        ]

    def texts(self, tag: str, name: str = "") -> list[str]:
        """The text of these elements, white space made one."""
        return [" ".join(element.text.split(" ")).strip() for element in self.all(tag, name)]

    def inside(self) -> Iterator[Element]:
        for child in self.children:
            yield child
            yield from child.inside()


class Page(HTMLParser, Element):
    """A document whose tags balance."""

    def __init__(self, text: str) -> None:
        HTMLParser.__init__(self)
        Element.__init__(self, "", {})
        self.open: list[Element] = [self]
        self.feed(text)
        self.close()
        assert self.open == [self]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data
