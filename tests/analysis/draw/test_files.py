"""Figures: every kind is drawn, its text stays inside, and equal figures are equal bytes."""

from __future__ import annotations

import io
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from deitkit.analysis.draw import draw
from deitkit.analysis.draw.sheet import COLOURS, scale
from deitkit.analysis.report import (
    AnyFigure,
    Bars,
    Cloud,
    Curves,
    Matrix,
    Panel,
    Panels,
    Points,
    PublishedValue,
    Series,
)

LONG = "a run whose name is rather longer than most names are"
TITLE = "A title that says what is to be seen here at such a length that no single line of a figure can hold it"


def rows(height: int, width: int, *, low: float = 0.0) -> tuple[tuple[float, ...], ...]:
    values = np.linspace(low, 50.0, height * width).reshape(height, width)
    return tuple(tuple(row) for row in values.tolist())


def names(count: int, word: str = "class") -> tuple[str, ...]:
    return tuple(f"{word} {number}" for number in range(count))


PHOTO = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
MAP = np.linspace(-1.0, 2.0, 49).reshape(7, 7)
FIGURES: dict[str, AnyFigure] = {
    "matrix": Matrix("m", "Different decisions", ("ground truth", "teacher", "a $ or $$ name", LONG), rows(4, 4), "%"),
    "matrix of a row": Matrix("m", TITLE, (LONG,), rows(1, 3), "%", columns=("a", "b", LONG), x_label="pixels"),
    "matrix around 0": Matrix("m", "", names(12), rows(12, 12, low=-50), "cosine", cell=".2f", diverging=True),
    "matrix of many": Matrix("m", "Confusion", tuple(f"{LONG} {n}" for n in range(102)), rows(102, 102), "images"),
    "matrix without differences": Matrix("m", "", ("a", "b"), ((0.0, 0.0), (0.0, 0.0)), "%"),
    "matrix with gaps": Matrix("m", "", ("a", "b"), ((0.0, float("nan")), (1.0, 0.0)), "%"),
    "curve of a deep model": Curves(
        "c", TITLE, "depth", "cosine", ("embedding", "input", *names(25, "block")),
        (Series("mean and standard deviation", (0.5,) * 27, (None, None, *(0.6,) * 25)),),
        (PublishedValue("paper, before the first layer", 0.06, 0, 1), PublishedValue("after", 0.93, 25, 26)),
        (-1.0, 1.0),
    ),
    "curves of 300 epochs": Curves("c", "", "epoch", "%", names(300, ""), (Series("class", (1.0,) * 300),)),
    "curves with gaps": Curves("c", "", "epoch", "%", names(3), (Series("a", (None, 1.0, 2.0)),)),
    "a dozen curves": Curves("c", "", "block", "%", names(3), tuple(Series(LONG, (n, 1.0, 2.0)) for n in range(12))),
    "points": Points(
        "p", TITLE, "images/s", "top-1 (%)",
        (Cloud("DeiT", (2500.0, 940.0, 290.0), (72.0, 79.0, 81.0), (LONG, "b", LONG)), Cloud("x", (1.0,), (1.0,))),
        joined=True, log_x=True,
    ),
    "calibration": Points("p", "", "confidence", "accuracy", (Cloud("a", (0.2, 0.9), (0.4, 0.8)),), diagonal=True),
    "points of one name": Points("p", "", "x", "y", (Cloud("", (1.0, 1.0), (2.0, 2.0), (LONG, LONG)),)),
    "bars": Bars("b", TITLE, "head", "ECE (%)", ("class", "fused"), (Series("a", (1.0, None)), Series("b", (2.0, 3)))),
    "bars with whiskers": Bars("b", "", "class", "%", names(40), (Series("a", (-1.0,) * 40, (0.5,) * 40),)),
    "pictures": Panels("a", TITLE, ((Panel("image", PHOTO), Panel(LONG, MAP)), (Panel("b", -MAP),)), "share"),
    "pictures around 0": Panels("a", "", ((Panel("a", MAP), Panel("b", MAP / 2)),), "difference", diverging=True),
    "pictures of own scales": Panels("a", "", ((Panel("a", MAP), Panel("b", MAP * 9)),), "norm", shared=False),
    "48 pictures": Panels("a", "", tuple(tuple(Panel(f"{r}.{c}", MAP) for c in range(12)) for r in range(4)), "share"),
    "photos": Panels("a", "", ((Panel("a", PHOTO),),)),
    "no points": Points("p", "", "x", "y", ()),
    "no bars": Bars("b", "", "x", "y", (), ()),
}  # fmt: skip


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"))


@pytest.mark.parametrize("kind", FIGURES)
def test_nothing_is_cut_at_the_edge(kind: str) -> None:
    drawn = pixels(draw(FIGURES[kind], "png"))
    edge = np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]])
    assert (edge == 255).all()
    assert (drawn < 128).any()


@pytest.mark.parametrize("kind", ["matrix", "curve of a deep model", "points", "bars", "pictures"])
def test_equal_figures_are_equal_bytes(kind: str) -> None:
    for suffix in ("png", "svg"):
        assert draw(FIGURES[kind], suffix) == draw(FIGURES[kind], suffix)
    ET.fromstring(draw(FIGURES[kind], "svg"))


def texts(figure: AnyFigure) -> list[str]:
    """What stands in a figure: matplotlib notes each text as a comment above its outlines."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.fromstring(draw(figure, "svg"), parser)
    return [(element.text or "").strip() for element in root.iter() if element.tag is ET.Comment]


def test_a_small_matrix_says_its_numbers_and_a_large_one_its_shades_only() -> None:
    small = texts(Matrix("m", "", names(2), ((12.3, 45.6), (0.0, 7.8)), "%"))
    assert {"12.3", "45.6", "0.0", "7.8"} <= set(small)
    large = texts(Matrix("m", "", names(30), tuple((0.125,) * 30 for _ in range(30)), "%", cell=".3f"))
    assert "0.125" not in large
    assert 10 <= sum(text.startswith("class") for text in large) <= 60, "some of the names are left out, not all"


def test_dollars_in_a_name_are_no_formula() -> None:
    assert "a $ or $$ name" in texts(FIGURES["matrix"])


def test_axes_carry_their_names_and_units() -> None:
    for kind, words in {
        "points": {"images/s", "top-1 (%)"}, "bars": {"head", "ECE (%)"}, "pictures": {"share"},
        "matrix of a row": {"pixels", "%"},
    }.items():  # fmt: skip
        assert words <= set(texts(FIGURES[kind])), kind


def test_a_scale_of_a_picture_of_its_own_is_said() -> None:
    assert {"-1 to 2", "-9 to 18"} <= set(texts(FIGURES["pictures of own scales"]))


def test_shades_are_centred_where_they_diverge_and_begin_at_0_where_nothing_is_negative() -> None:
    assert scale([np.array([-1.0, 3.0])], diverging=True) == (-3.0, 3.0)
    assert scale([np.array([2.0, 3.0])], diverging=False) == (0.0, 3.0)
    assert scale([np.array([-2.0, np.nan, 3.0])], diverging=False) == (-2.0, 3.0)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_every_colour_of_a_series_is_seen_on_white() -> None:
    assert len(set(COLOURS)) == len(COLOURS)
    assert all(1.05 / (luminance(colour) + 0.05) > 2 for colour in COLOURS)
