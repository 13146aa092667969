"""Drawings of the page: they say what the figure holds, at the right places, and are valid whatever the names."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from deitkit.analysis.draw.page import VARIABLES, page_drawing
from deitkit.analysis.draw.sheet import COLOURS
from deitkit.analysis.report import AnyFigure, Bars, Cloud, Curves, Matrix, Panels, Points, PublishedValue, Series
from deitkit.report.training import MOST, overlaid, training_figures

BAD = "<b>\"a\" & 'b'</b>"
FIGURES: dict[str, AnyFigure] = {
    "matrix": Matrix("m", BAD, (BAD, "b"), ((0.0, 12.5), (-3.0, math.nan)), BAD, references=((None, 9.0), (None, None)),
                     x_label=BAD, y_label=BAD, diverging=True),
    "curves": Curves("c", BAD, BAD, BAD, (BAD, "b", "c"), (Series(BAD, (0.5, None, 0.9), (None, None, 0.2)),),
                     (PublishedValue(BAD, 0.06, 0, 1),), (-1.0, 1.0)),
    "points": Points("p", BAD, BAD, BAD, (Cloud(BAD, (1.0, 2.0), (3.0, math.nan), (BAD, "b")),), diagonal=True),
    "log": Points("p", "", "x", "y", (Cloud("a", (0.0, 10.0, 1000.0), (1.0, 2.0, 3.0)),), log_x=True, joined=True),
    "bars": Bars("b", BAD, BAD, BAD, (BAD, "b"), (Series(BAD, (1.0, None)), Series("c", (-2.0, 3.0), (0.5, 0.5)))),
    "a point": Points("p", "", "x", "y", (Cloud("", (5.0,), (7.0,)),), joined=True),
    "nothing": Points("p", "", "x", "y", ()),
    "no bars": Bars("b", "", "x", "y", (), ()),
    "equal values": Curves("c", "", "x", "y", ("a", "b"), (Series("a", (0.0, 0.0)),)),
}  # fmt: skip


def parse(figure: AnyFigure) -> ET.Element:
    drawn = page_drawing(figure, "key")
    assert drawn is not None
    return ET.fromstring(drawn.svg)


def titles(root: ET.Element, tag: str = "use") -> list[str]:
    """What marks say to who points at them."""
    return [str(element.findtext("title")) for element in root.iter(tag) if element.find("title") is not None]


def corners(path: ET.Element) -> list[tuple[float, float]]:
    numbers = [float(number) for number in re.findall(r"-?\d+\.?\d*", path.attrib["d"])]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def size(path: ET.Element) -> tuple[float, float, float]:
    """Width, top and bottom."""
    across, down = zip(*corners(path), strict=True)
    return max(across) - min(across), min(down), max(down)


def place(element: ET.Element) -> tuple[float, float]:
    """Where a text or a mark stands."""
    if "x" in element.attrib:
        return float(element.attrib["x"]), float(element.attrib["y"])
    x, y = re.findall(r"translate\(([\d.]+)[ ,]+([\d.]+)\)", element.attrib["transform"])[0]
    return float(x), float(y)


def said(root: ET.Element, tag: str = "path") -> list[ET.Element]:
    return [element for element in root.iter(tag) if element.find("title") is not None]


@pytest.mark.parametrize("kind", FIGURES)
def test_a_drawing_is_valid_and_its_numbers_are_numbers(kind: str) -> None:
    root = parse(FIGURES[kind])
    assert root.find("title") is not None and root.find("desc") is not None
    text = ET.tostring(root, encoding="unicode")
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', text)
    assert "clip-path" not in text and "xmlns" not in text and "font-family" not in text


@pytest.mark.parametrize("kind", ["matrix", "curves", "points", "bars"])
def test_names_with_markup_are_words(kind: str) -> None:
    root = parse(FIGURES[kind])
    assert root.find("title") is not None and root.findtext("title") == BAD
    assert not list(root.iter("b"))


@pytest.mark.parametrize("kind", FIGURES)
def test_everything_drawn_is_inside(kind: str) -> None:
    root = parse(FIGURES[kind])
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    places = [place(each) for tag in ("text", "use") for each in root.iter(tag)]
    places += [place for path in root.iter("path") if "id" not in path.attrib for place in corners(path)]
    assert places
    assert all(-1 <= x <= width + 1 and -1 <= y <= height + 1 for x, y in places)


@pytest.mark.parametrize("kind", FIGURES)
def test_every_colour_is_the_pages(kind: str) -> None:
    drawn = page_drawing(FIGURES[kind], "key")
    assert drawn is not None
    svg = re.sub("<(title|desc|text)[^>]*>[^<]*", "", drawn.svg)
    assert not re.search(r'#[0-9a-f]{3,6}\b|rgb|"black|"white|url\(', svg.replace('href="#key', ""))
    assert re.search(r"var\(--(s0|quiet|heat)\)", svg)


def test_each_palette_has_a_colour_for_every_number() -> None:
    import deitkit.report as package

    for theme in ("light", "dark"):
        css = (Path(package.__file__).parent / f"template/{theme}.css").read_text()
        assert re.findall(r"--s(\d+):", css) == [str(number) for number in range(len(COLOURS))]
        assert {name for name in VARIABLES.values() if name[4:-1] not in css} == set()


@pytest.mark.parametrize("kind", FIGURES)
def test_ids_are_the_drawings_own(kind: str) -> None:
    ids = [element.attrib["id"] for element in parse(FIGURES[kind]).iter() if "id" in element.attrib]
    assert len(set(ids)) == len(ids)
    assert all(each.startswith("key-") for each in ids)
    used = {element.attrib["href"] for element in parse(FIGURES[kind]).iter("use")}
    assert used <= {f"#{each}" for each in ids}


def test_every_mark_says_its_value() -> None:
    line = (Series("s", (1.0, None, 3.0)), Series("t", (4.0, 5.0, 6.5)))
    assert titles(parse(Curves("c", "", "x", "y", ("a", "b", "c"), line))) == [
        "s, a: 1", "s, c: 3", "t, a: 4", "t, b: 5", "t, c: 6.5"
    ]  # fmt: skip
    cloud = Cloud("DeiT", (0.0, 2500.0, math.nan, 3.0), (1.0, 72.123456, 1.0, 4.0), ("", "tiny", "", "base"))
    assert titles(parse(Points("p", "", "images/s", "%", (cloud,), log_x=True))) == [
        "tiny: 2,500 images/s, 72.1235 %", "base: 3 images/s, 4 %"
    ]  # fmt: skip
    assert titles(parse(FIGURES["bars"]), "path") == [f"{BAD}, {BAD}: 1", f"c, {BAD}: -2", "c, b: 3"]
    assert titles(parse(FIGURES["matrix"]), "path") == [f"{BAD}, {BAD}: 0.0", f"{BAD}, b: 12.5", f"b, {BAD}: -3.0"]


def test_long_lines_have_no_marks_in_the_drawing_nor_in_its_legend() -> None:
    many = tuple(float(number) for number in range(100))
    assert not list(parse(Points("p", "", "x", "y", (Cloud("a", many, many),), joined=True)).iter("use"))
    dots = parse(Points("p", "", "x", "y", (Cloud("a", many, many),)))
    assert len(list(dots.iter("use"))) == 101
    assert not [path for path in dots.iter("path") if "var(--s0)" in path.get("style", "")], "no line is drawn"


def test_what_others_published_is_grey_and_dashed_on_a_page() -> None:
    root = parse(
        Curves("c", "", "x", "y", ("a", "b"), (Series("ours", (1.0, 2.0)), Series("paper", (2.0, 3.0), published=True)))
    )
    styles = [path.attrib["style"] for path in root.iter("path") if "dasharray" in path.get("style", "")]
    assert len(styles) == 2, "the line, and the legend's"
    assert all("var(--quiet)" in style for style in styles)


def test_a_matrix_says_values_and_published_ones_and_shades_by_size() -> None:
    root = parse(Matrix("m", "", ("a", "b"), ((0.0, 10.0), (20.0, 5.0)), "%", ((None, 9.0), (None, None))))
    assert {element.text for element in root.iter("text")} >= {"0.0", "10.0", "20.0", "5.0", "(9.0)", "a", "b"}
    shares = [re.findall(r"fill-opacity:([\d.]+)", path.attrib["style"]) for path in said(root)]
    assert [float(share[0]) if share else 1.0 for share in shares] == [0.001, 0.5, 1.0, 0.25]
    words = {str(element.text): element.get("style", "") for element in root.iter("text")}
    assert "var(--on)" in words["20.0"]
    assert "fill" not in words["5.0"]


def test_bars_are_as_high_as_their_values() -> None:
    root = parse(Bars("b", "", "x", "y", ("a", "b", "c"), (Series("s", (1.0, 4.0, -2.0)),)))
    (one, four, below) = (size(path) for path in said(root))
    assert four[2] - four[1] == pytest.approx(4 * (one[2] - one[1]), abs=0.3)
    assert below[2] - below[1] == pytest.approx(2 * (one[2] - one[1]), abs=0.3)
    assert below[1] == pytest.approx(one[2], abs=0.2), "what is negative hangs from 0"


def test_a_gap_in_a_curve_is_no_line() -> None:
    figure = Curves("c", "", "x", "y", tuple("abcde"), (Series("s", (1.0, 2.0, None, 3.0, 4.0)),))
    lines = [path.attrib["d"] for path in parse(figure).iter("path") if "stroke:var(--s0)" in path.get("style", "")]
    assert lines[0].count("M") == 2


def test_large_figures_and_pictures_are_left_to_their_files() -> None:
    names = tuple(map(str, range(300)))
    for figure in (
        Matrix("m", "", names, tuple((0.0,) * 300 for _ in names), "%"),
        Bars("b", "", "", "", names, (Series("", (0.0,) * 300),)),
        Points("p", "", "", "", (Cloud("", (0.0,) * 900, (0.0,) * 900),)), Panels("p", "", ()),
    ):  # fmt: skip
        assert page_drawing(figure, "key") is None


@pytest.mark.parametrize("word", ["", "a rather long name of a class "])
def test_names_along_an_axis_do_not_overlap(word: str) -> None:
    names = tuple(f"{word}{number}" for number in range(300))
    drawn = page_drawing(Curves("c", "", "x", "y", names, (Series("s", (1.0,) * 300),)), "key")
    assert drawn is not None and drawn.wide
    root = ET.fromstring(drawn.svg)
    shown = [each for each in root.iter("text") if re.match(f"{word[:15]}(\\d+$|.*…$)", str(each.text))]
    places = [place(each)[0] for each in shown if place(each)[1] > 180]
    assert 5 <= len(places) <= 40
    gaps = [after - before for before, after in itertools.pairwise(sorted(places))]
    assert min(gaps) > 11, "wider than a line is high"


def test_names_of_near_points_stand_apart() -> None:
    names = tuple(f"model {n}" for n in range(6))
    root = parse(Points("p", "", "x", "y", (Cloud("", (1.0, 1.01, 1.02, 1.0, 1.01, 9.0), (5.0,) * 6, names),)))
    places = [place(each) for each in root.iter("text") if each.text in names]
    assert len(set(places)) == 6
    assert len({y for x, y in places if x < 200}) >= 4


def test_a_spread_of_a_bar_is_drawn() -> None:
    figure = Bars("b", "", "x", "y", ("a", "b"), (Series("s", (1.0, 2.0), (0.5, None)),))
    dark = [path for path in parse(figure).iter("path") if path.get("style") == "stroke:var(--quiet)"]
    (whisker,) = [path for path in dark if "id" not in path.attrib and size(path)[0] == 0]
    _, top, bottom = size(whisker)
    assert bottom - top > 5


# Curves of a training


def test_long_trainings_are_averaged_to_few_points() -> None:
    lines = [{"step": n, "epoch": n / 1000, "loss": float(n % 2)} for n in range(7_000)]
    (figure,) = training_figures(lines)
    (cloud,) = figure.clouds
    assert len(cloud.x) <= MOST and cloud.x[-1] == lines[-1]["epoch"]
    assert all(value == pytest.approx(0.5, abs=0.05) for value in cloud.y)
    drawn = page_drawing(figure, "key")
    assert drawn is not None and len(drawn.svg) < 10_000


def test_what_was_not_logged_is_not_drawn_and_what_is_not_finite_is_left_out() -> None:
    assert training_figures([]) == []
    lines = [{"epoch": 1.0, "loss": math.nan}, {"epoch": 2.0, "loss": 1.5, "lr": None}, {"loss": 3.0}]
    (figure,) = training_figures(lines)
    assert (figure.name, figure.clouds[0].x, figure.clouds[0].y) == ("loss", (2.0,), (1.5,))


def test_several_runs_are_overlaid_by_the_head_that_counts() -> None:
    runs = {
        "plain": [{"epoch": 1.0, "top1": {"class": 0.5}}],
        "distilled": [{"epoch": 1.0, "top1": {"class": 0.5, "distillation": 0.6, "fused": 0.7}}],
    }
    (figure,) = overlaid(runs)
    assert [(cloud.label, cloud.y) for cloud in figure.clouds] == [("plain", (50.0,)), ("distilled", (70.0,))]
