"""Figures as SVG inside a page of HTML: the page's colours in light, in dark and on paper, and words for every mark.

matplotlib draws them as it draws the files; its SVG is then made the page's: stand-in colours become the page's
variables, marks say their values to who points at them, and what the page says once is left out. What is too large for
a page is not drawn.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import matplotlib as mpl
from markupsafe import Markup

from deitkit.analysis.draw import draw_figure
from deitkit.analysis.draw.canvas import COLD, GRID, GROUND, HEAT, INK, NO_INKS, ON, PAGE, QUIET, Canvas, Inks
from deitkit.analysis.draw.grids import STRONG
from deitkit.analysis.draw.plots import is_wide
from deitkit.analysis.draw.sheet import COLOURS
from deitkit.analysis.report import AnyFigure, Bars, Curves, Matrix, Panels, Points

__all__ = ["STRONG", "PageDrawing", "page_drawing"]
MOST_CELLS, MOST_BARS, MOST_POINTS = 25, 60, 600
WIDE = 450.0  # points of 1/72 inch from which a matrix takes the whole width
ENLARGED = 1.5  # pixels for a point of 1/72 inch, at most
# What matplotlib draws -> what the page's style sheet calls it, in light and in dark.
VARIABLES = {colour: f"var(--s{number})" for number, colour in enumerate(COLOURS)} | {
    INK: "var(--ink)", QUIET: "var(--quiet)", GRID: "var(--grid)", GROUND: "var(--ground)", ON: "var(--on)",
    HEAT: "var(--heat)", COLD: "var(--cold)",
}  # fmt: skip
SAID_BY_PAGE = (
    "fill:none", "stroke-width:0.8", "font-family", f"font-size:{PAGE.size}px", f"fill:{VARIABLES[INK]}",
    "stroke-linecap", "stroke-linejoin", "stroke-dashoffset", "text-anchor:start",
)  # fmt: skip


@dataclass(frozen=True)
class PageDrawing:
    """A figure to be put into a page; `wide` ones take its whole width. `note` stands below."""

    key: str
    title: str
    svg: Markup
    wide: bool = False
    note: str = ""


def page_drawing(figure: AnyFigure, key: str, *, inks: Inks = NO_INKS) -> PageDrawing | None:
    """The figure for a page, or None where it is too large for that or made of pictures.

    `key` is the page's own for this figure: all ids begin with it. `inks` are the numbers that names of series have in
    other figures of the page, and so their colours.
    """
    if not _fits(figure):
        return None
    canvas, file = Canvas(PAGE, inks), io.StringIO()
    with mpl.rc_context(dict(PAGE.style)):
        draw_figure(figure, canvas).savefig(file, format="svg", transparent=True, metadata={"Date": None})
    root = _bare(ET.fromstring(file.getvalue()))
    width = float(root.attrib["viewBox"].split()[2])
    for group, texts in canvas.said.items():
        _say(root, group, texts)
    _tidy(root)
    _name_parts(root, key)
    svg = _framed(root, key, title=figure.title, summary=_summary(figure))
    wide = is_wide(figure) if isinstance(figure, (Curves, Bars)) else width > WIDE
    note = (
        "; ".join(part for part in (figure.unit, figure.references_title) if part) if isinstance(figure, Matrix) else ""
    )
    return PageDrawing(key, figure.title, svg, wide, note)


def _fits(figure: AnyFigure) -> bool:
    if isinstance(figure, Matrix):
        return 0 < max(len(figure.labels), len(figure.columns or figure.labels)) <= MOST_CELLS
    if isinstance(figure, Points):
        return sum(len(cloud.x) for cloud in figure.clouds) <= MOST_POINTS
    if isinstance(figure, Bars):
        return len(figure.ticks) * len(figure.series) <= MOST_BARS
    return not isinstance(figure, Panels)


# matplotlib's SVG, made the page's


def _bare(root: ET.Element) -> ET.Element:
    """The same tree without name spaces, metadata, clipping (nothing lies outside of the axes) and blanks."""
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        element.attrib.pop("clip-path", None)
        element.tail = None
        if element.tag != "text":
            element.text = None
    for parent in root.iter():
        for child in list(parent):
            if child.tag in ("metadata", "style", "clipPath") or (child.tag == "path" and not child.get("d")):
                parent.remove(child)
    return root


def _say(root: ET.Element, group: str, texts: Sequence[str]) -> None:
    """Each mark of a group of matplotlib's says its text."""
    (found,) = (element for element in root.iter("g") if element.get("id") == group)
    marks = list(found.iter("use")) or list(found.iter("path"))
    for mark, text in zip(marks, texts, strict=True):
        ET.SubElement(mark, "title").text = text


def _tidy(root: ET.Element) -> None:
    """The page's colours, short numbers, and no more than that: a page has dozens of drawings."""
    for element in root.iter():
        attributes = element.attrib
        for name in ("d", "x", "y", "transform", "viewBox"):
            if name in attributes:
                digits = 2 if element.tag == "path" and "id" in attributes else 1
                attributes[name] = _short(attributes[name], digits)
        if "style" in attributes:
            attributes["style"] = _style(attributes["style"])
        if attributes.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
            del attributes["transform"]
    for parent in root.iter():
        marks = [child for child in parent if child.tag == "use"]
        styles = {mark.attrib.get("style", "") for mark in marks}
        if len(marks) > 1 and len(styles) == 1 and len(marks) == len(parent):
            parent.set("style", styles.pop())
            for mark in marks:
                mark.attrib.pop("style", None)


def _short(numbers: str, digits: int) -> str:
    rounded = re.sub(r"-?\d+\.\d+", lambda found: f"{round(float(found[0]), digits):g}", numbers)
    return re.sub(r"\s*([MLQCz])\s*", r"\1", rounded).strip()


def _style(css: str) -> str:
    """Colours by the page's names, without what the page's style sheet says of every drawing."""
    parts = [re.sub(r"\s*([:,])\s*", r"\1", part.strip()) for part in css.split(";") if part.strip()]
    named = [re.sub(r"#[0-9a-f]{6}", lambda found: VARIABLES.get(found[0], found[0]), part) for part in parts]
    return ";".join(part for part in named if not part.startswith(SAID_BY_PAGE))


def _name_parts(root: ET.Element, key: str) -> None:
    """Ids of the page's own where something refers to them, none elsewhere; groups that say nothing are left out."""
    used = [element.attrib["href"][1:] for element in root.iter("use")]
    names = {old: f"{key}-{place}" for place, old in enumerate(dict.fromkeys(used))}
    for element in root.iter():
        old = element.attrib.pop("id", "")
        if old in names:
            element.set("id", names[old])
        if "href" in element.attrib:
            element.set("href", f"#{names[element.attrib['href'][1:]]}")
        if not element.attrib.get("style", "-"):
            del element.attrib["style"]
    root[:] = list(_flat(root))


def _flat(element: ET.Element) -> Iterator[ET.Element]:
    """What stands in an element, without groups that have no attribute and definitions of nothing."""
    for child in element:
        if child.tag in ("g", "defs"):
            child[:] = list(_flat(child))
        if child.tag == "g" and not child.attrib:
            yield from child
        elif child.tag != "defs" or len(child):
            yield child


def _framed(root: ET.Element, key: str, *, title: str, summary: str) -> Markup:
    """The whole drawing, with what a screen reader says."""
    width = float(root.attrib["viewBox"].split()[2])
    root.attrib = {
        "viewBox": root.attrib["viewBox"], "style": f"max-width:{ENLARGED * width:.0f}px", "role": "img",
        "aria-labelledby": f"{key}-t {key}-d",
    }  # fmt: skip
    for place, (tag, words) in enumerate((("title", title), ("desc", summary))):
        told = ET.Element(tag, id=f"{key}-{tag[0]}")
        told.text = words
        root.insert(place, told)
    return Markup(ET.tostring(root, encoding="unicode").replace(" />", "/>"))  # words have no bare ">"


def _summary(figure: AnyFigure) -> str:
    """What a figure shows, in words."""
    if isinstance(figure, Panels):
        return ""
    if isinstance(figure, Matrix):
        return f"{len(figure.labels)} by {len(figure.columns or figure.labels)} cells, in {figure.unit}."
    lines: list[tuple[str, Sequence[float | None]]] = []
    if isinstance(figure, Points):
        lines += [(cloud.label, cloud.y) for cloud in figure.clouds]
    else:
        lines += [(line.label, line.values) for line in figure.series]
    told = [
        f"{label or 'values'} from {known[0]:.4g} to {known[-1]:.4g}"
        for label, values in lines
        if (known := [value for value in values if value is not None and math.isfinite(value)])
    ]
    return f"{figure.y_label} by {figure.x_label}: {'; '.join(told)}."
