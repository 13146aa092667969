"""A page as a reader's program sees it, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "input", "link"}
INLINE = {"a", "b", "span", "strong", "code", "text"}


@dataclass
class Element:
    """A tag with its attributes and all the text inside it."""

    tag: str
    attributes: dict[str, str]
    inside: tuple[str, ...]
    text: str = ""


@dataclass
class Reader(HTMLParser):
    """Every element in order; `unclosed` are tags that were never closed, or closed in another order."""

    elements: list[Element] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in INLINE:
            self.handle_data(" ")
        element = Element(tag, {name: value or "" for name, value in attrs}, tuple(each.tag for each in self._open))
        self.elements.append(element)
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1].tag == tag:
            self._open.pop()
        else:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, tag: str) -> list[Element]:
        return [element for element in self.elements if element.tag == tag]

    def words(self) -> str:
        """What stands on the page, runs of blanks as one."""
        return " ".join(self.all("body")[0].text.split())


def read(html: str) -> Reader:
    """Parse a whole page."""
    reader = Reader()
    reader.feed(html)
    reader.close()
    reader.unclosed += [element.tag for element in reader._open]
    return reader


def table_of(reader: Reader, caption: str) -> str:
    """The words of the table with that caption."""
    found = [element.text for element in reader.all("table") if caption in element.text]
    assert found, caption
    return " ".join(found[0].split())
