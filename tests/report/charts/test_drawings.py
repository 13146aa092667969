"""Drawings of the page: they say what the figure holds, at the right places, and are valid whatever the names."""

from __future__ import annotations

import itertools
import math
import re
from xml.etree import ElementTree as ET

import pytest

from deitkit.analysis.report import AnyFigure, Bars, Cloud, Curves, Matrix, Panels, Points, Reference, Series
from deitkit.report.charts.axes import Scale, named_ticks, number, round_values
from deitkit.report.charts.drawings import drawing, points
from deitkit.report.training import MOST, overlaid, training_figures

BAD = "<b>\"a\" & 'b'</b>"
FIGURES: dict[str, AnyFigure] = {
    "matrix": Matrix("m", BAD, (BAD, "b"), ((0.0, 12.5), (-3.0, math.nan)), BAD, references=((None, 9.0), (None, None)),
                     x_label=BAD, y_label=BAD, diverging=True),
    "curves": Curves("c", BAD, BAD, BAD, (BAD, "b", "c"), (Series(BAD, (0.5, None, 0.9), (None, None, 0.2)),),
                     (Reference(BAD, 0.06, 0, 1),), (-1.0, 1.0)),
    "points": Points("p", BAD, BAD, BAD, (Cloud(BAD, (1.0, 2.0), (3.0, math.nan), (BAD, "b")),), diagonal=True),
    "log": Points("p", "", "x", "y", (Cloud("a", (0.0, 10.0, 1000.0), (1.0, 2.0, 3.0)),), log_x=True, joined=True),
    "bars": Bars("b", BAD, BAD, BAD, (BAD, "b"), (Series(BAD, (1.0, None)), Series("c", (-2.0, 3.0), (0.5, 0.5)))),
    "a point": Points("p", "", "x", "y", (Cloud("", (5.0,), (7.0,)),), joined=True),
    "nothing": Points("p", "", "x", "y", ()),
    "no bars": Bars("b", "", "x", "y", (), ()),
    "equal values": Curves("c", "", "x", "y", ("a", "b"), (Series("a", (0.0, 0.0)),)),
}  # fmt: skip


def parse(figure: AnyFigure) -> ET.Element:
    drawn = drawing(figure, "key")
    assert drawn is not None
    return ET.fromstring(drawn.svg)


@pytest.mark.parametrize("kind", FIGURES)
def test_a_drawing_is_valid_and_its_numbers_are_numbers(kind: str) -> None:
    root = parse(FIGURES[kind])
    assert root.find("title") is not None and root.find("desc") is not None
    text = ET.tostring(root, encoding="unicode")
    assert not re.search(r'"[^"]*\b(nan|inf)\b[^"]*"', text)
    for element in root.iter("rect"):
        assert float(element.attrib["width"]) >= 0 and float(element.attrib["height"]) >= 0


@pytest.mark.parametrize("kind", ["matrix", "curves", "points", "bars"])
def test_names_with_markup_are_words(kind: str) -> None:
    root = parse(FIGURES[kind])
    assert root.find("title") is not None and root.findtext("title") == BAD
    assert not list(root.iter("b"))


@pytest.mark.parametrize("kind", FIGURES)
def test_everything_drawn_is_inside(kind: str) -> None:
    root = parse(FIGURES[kind])
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    for element in [*root.iter("text"), *root.iter("rect")]:
        assert -1 <= float(element.attrib["x"]) <= width + 1 and -1 <= float(element.attrib["y"]) <= height + 1


def test_a_matrix_says_values_and_published_ones_and_shades_by_size() -> None:
    root = parse(Matrix("m", "", ("a", "b"), ((0.0, 10.0), (20.0, 5.0)), "%", ((None, 9.0), (None, None))))
    assert {element.text for element in root.iter("text")} >= {"0.0", "10.0", "20.0", "5.0", "(9.0)", "a", "b"}
    assert [element.attrib["fill-opacity"] for element in root.iter("rect")] == ["0.00", "0.50", "1.00", "0.25"]


def test_bars_are_as_high_as_their_values() -> None:
    root = parse(Bars("b", "", "x", "y", ("a", "b", "c"), (Series("s", (1.0, 4.0, -2.0)),)))
    heights = [float(element.attrib["height"]) for element in root.iter("rect")]
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.3) and heights[2] == pytest.approx(2 * heights[0], abs=0.3)
    tops = [float(element.attrib["y"]) for element in root.iter("rect")]
    assert tops[2] == pytest.approx(tops[0] + heights[0], abs=0.2), "what is negative hangs from 0"


def test_a_gap_in_a_curve_is_no_line() -> None:
    figure = Curves("c", "", "x", "y", tuple("abcde"), (Series("s", (1.0, 2.0, None, 3.0, 4.0)),))
    assert sum(element.attrib.get("class") == "l" for element in parse(figure).iter("path")) == 2


def test_large_figures_and_pictures_are_left_to_their_files() -> None:
    names = tuple(map(str, range(300)))
    for figure in (
        Matrix("m", "", names, tuple((0.0,) * 300 for _ in names), "%"),
        Bars("b", "", "", "", names, (Series("", (0.0,) * 300),)),
        Points("p", "", "", "", (Cloud("", (0.0,) * 900, (0.0,) * 900),)), Panels("p", "", ()),
    ):  # fmt: skip
        assert drawing(figure, "key") is None


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.2, 87.3), (-0.3, 0.2), (1e-6, 1.3e-3), (5.0, 5.0), (0, 0)])
def test_ticks_are_round_and_hold_the_values(low: float, high: float) -> None:
    values = round_values(low, high, 4)
    assert values[0] <= low + 1e-12 and values[-1] >= high - 1e-12 and 2 <= len(values) <= 10
    steps = {float(f"{after - before:.3g}") for before, after in itertools.pairwise(values)}
    (step,) = steps
    assert f"{step:e}"[0] in "125"


def test_a_logarithmic_scale_gives_equal_ratios_equal_lengths() -> None:
    scale = Scale(1.0, 1000.0, 0.0, 300.0, log=True)
    assert [scale(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])
    assert {"1", "10", "100", "1,000"} <= {text for _, text in scale.ticks(5)}
    assert all(text in number(value) for value, text in scale.ticks(5))


def test_names_along_an_axis_do_not_overlap() -> None:
    shown, slanted = named_ticks([str(epoch) for epoch in range(300)], range(300), 400)
    assert not slanted and len(shown) <= 25 and shown[1][0] % 5 == 0
    shown, slanted = named_ticks([f"a rather long name of a class {n}" for n in range(300)], range(300), 400)
    assert slanted and len(shown) <= 24


def test_names_of_near_points_stand_apart() -> None:
    names = tuple(f"model {n}" for n in range(6))
    root = parse(Points("p", "", "x", "y", (Cloud("", (1.0, 1.01, 1.02, 1.0, 1.01, 9.0), (5.0,) * 6, names),)))
    places = [(float(e.attrib["x"]), float(e.attrib["y"])) for e in root.iter("text") if e.text in names]
    assert len(set(places)) == 6
    assert len({y for x, y in places if x < 200}) >= 4


def test_a_spread_of_a_bar_is_drawn() -> None:
    figure = Bars("b", "", "x", "y", ("a", "b"), (Series("s", (1.0, 2.0), (0.5, None)),))
    assert sum("V" in element.attrib["d"] for element in parse(figure).iter("path")) == 1


# Curves of a training


def test_long_trainings_are_averaged_to_few_points() -> None:
    lines = [{"step": n, "epoch": n / 1000, "loss": float(n % 2)} for n in range(7_000)]
    (figure,) = training_figures(lines)
    (cloud,) = figure.clouds
    assert len(cloud.x) <= MOST and cloud.x[-1] == lines[-1]["epoch"]
    assert all(value == pytest.approx(0.5, abs=0.05) for value in cloud.y)
    assert len(points(figure, "key").svg) < 10_000


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
