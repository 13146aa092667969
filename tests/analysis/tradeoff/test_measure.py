"""Accuracy against cost: what is undominated, how operations are counted, and what tables and figures say of it."""

from __future__ import annotations

import json
import math
import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deitkit.analysis.draw import draw
from deitkit.analysis.draw.page import page_drawing
from deitkit.analysis.report import AnyFigure, Cloud, Curves, Points, Report, Series, Table
from deitkit.analysis.tradeoff.measure import FOREIGN, Contender, count_macs, fronts, kind_name, pareto_front
from deitkit.analysis.tradeoff.report import stairs, tradeoff_report
from deitkit.catalog import TABLE5
from deitkit.errors import DeitkitError
from deitkit.models.student import build_student
from deitkit.models.throughput import Candidate, Protocol, Speed
from deitkit.recipe.schema import Model

CONDITIONS = Protocol(torch.device("cpu"), 32).conditions()


def contender(name: str, images_per_s: float | None, right: int, **more: Any) -> Contender:
    speed = None if images_per_s is None else Speed(images_per_s, 0.9 * images_per_s, 1.1 * images_per_s, 10, 32, 50.0)
    values = {"kind": "transformer", "size": (32, 32), "parameters": 1_000_000, "macs": 2_000_000, "head": "class"}
    return Contender(**values | {"name": name, "speed": speed, "right": right, "images": 100} | more)


def report_of(*models: Contender, **more: Any) -> Report:
    return tradeoff_report(models, **{"images": "pets/val", "conditions": CONDITIONS} | more)


def table(report: Report, name: str) -> Table:
    return next(each for each in report.tables if each.name == name)


def cells(report: Report, name: str) -> dict[str, dict[str, Any]]:
    found = table(report, name)
    return {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.rows}


def figure(report: Report, name: str) -> Points:
    found = next(each for each in report.figures if each.name == name)
    assert isinstance(found, Points)
    return found


# The front


def test_the_front_of_a_hand_made_case() -> None:
    points = [(100, 0.9), (200, 0.8), (150, 0.8), (300, 0.5), (100, 0.7), (50, 0.9)]
    assert pareto_front(points, more_is_better=True) == [True, True, False, True, False, False]
    assert pareto_front(points, more_is_better=False) == [False, False, False, False, False, True]


def test_equal_models_do_not_dominate_each_other() -> None:
    assert pareto_front([(1.0, 0.5), (1.0, 0.5), (1.0, 0.4)], more_is_better=True) == [True, True, False]
    assert pareto_front([], more_is_better=True) == []


def test_the_front_is_what_is_left_when_all_that_is_dominated_goes() -> None:
    generator = np.random.default_rng(0)
    points = list(zip(generator.integers(0, 12, 60).tolist(), generator.integers(0, 12, 60).tolist(), strict=True))
    # Reference: from the greatest cost down, a model stays if it is the best so far; equal ones stay together.
    best, kept = -1, set()
    for cost in sorted({cost for cost, _ in points}, reverse=True):
        top = max(accuracy for other, accuracy in points if other == cost)
        if top > best:
            best = top
            kept.add((cost, top))
    assert [point in kept for point in points] == pareto_front(points, more_is_better=True)


def test_a_model_of_unknown_cost_is_neither_on_the_front_nor_off_it() -> None:
    models = [contender("a", 100.0, 90), contender("b", None, 99), contender("c", 50.0, 80)]
    assert fronts(models, "throughput") == [True, None, False]
    assert fronts(models, "memory") == [True, None, False]
    assert fronts(models, "parameters") == [False, True, False]


def test_the_edge_goes_through_the_corners_between_undominated_models() -> None:
    assert stairs([(100, 90), (300, 50), (200, 80)]) == [(100, 90), (100, 80), (200, 80), (200, 50), (300, 50)]
    assert stairs([(2, 80), (1, 50)]) == [(1, 50), (2, 50), (2, 80)], "less of the cost is better here"
    assert stairs([(1, 50)]) == [(1, 50)]


# Operations


class Known(nn.Module):
    """A convolution and a linear layer, counted by hand below."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1)
        self.linear = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.linear(self.convolution(images).mean(dim=(2, 3)))
        return answers


def test_operations_are_those_counted_by_hand() -> None:
    by_hand = 3 * 3 * 3 * 8 * (10 // 2) * (6 // 2) + 8 * 5
    assert count_macs(Candidate("known", Known(), (10, 6))) == by_hand
    assert count_macs(Candidate("none", nn.Flatten(), (10, 6))) is None


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("deit_tiny", Model(name="deit_tiny")), ("deit_tiny_distilled", Model(name="deit_tiny", distilled=True)),
        ("regnety_040", Model(name="timm:regnety_040")),
    ],
)  # fmt: skip
def test_operations_are_those_of_the_known_models(shared_facts: Path, name: str, model: Model) -> None:
    facts = tomllib.loads((shared_facts / "paper.toml").read_text())
    student = build_student(model, 1000)
    assert sum(parameter.numel() for parameter in student.parameters()) == facts["parameters"][name]
    found = count_macs(Candidate(name, student, (224, 224)))
    assert found is not None and found / 1e9 == pytest.approx(facts["gmacs"][name], abs=6e-4)


def test_operations_are_counted_in_evaluation_mode_and_once() -> None:
    student = build_student(Model(name="deit_nano", image_size=16, drop_path=0.5), 10).train()
    counted = {count_macs(Candidate("nano", student, (16, 16))) for _ in range(3)}
    assert len(counted) == 1 and not student.training


def test_a_size_that_a_network_cannot_take_is_refused() -> None:
    with pytest.raises(DeitkitError, match="model cannot run at 2x2 px") as caught:
        count_macs(Candidate("model", nn.Conv2d(3, 8, 7), (2, 2)))
    assert "larger" in caught.value.remedy


# The report


def test_a_table_says_what_every_model_costs_and_decides() -> None:
    student = contender("student", 200.0, 80, kind="transformer, distilled", head="fused", macs=3_500_000_000)
    report = report_of(contender("teacher", 100.0, 90), student, contender("slow", 50.0, 85))
    found = cells(report, "models")
    assert list(found) == ["student", "teacher", "slow"], "the fastest first"
    assert found["student"] == {
        "model": "student", "size": "32", "parameters": 1_000_000, "GMACs": 3.5, "images/s": 200.0, "MiB": 50.0,
        "top1": 0.8, "front": "yes",
    }  # fmt: skip
    assert (found["teacher"]["front"], found["slow"]["front"]) == ("yes", "no")
    assert report.numbers["front"] == ["student", "teacher"]
    speeds = cells(report, "speed")["teacher"]
    assert (speeds["quartile 1"], speeds["quartile 3"]) == pytest.approx((90.0, 110.0))
    assert (speeds["batch"], speeds["blocks"]) == (32, 10)


def test_intervals_are_wilsons_and_stand_in_table_and_figure() -> None:
    report = report_of(contender("a", 100.0, 90, kind="convnet or other"))
    p, n, z = 0.9, 100, 1.959964
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    row = cells(report, "accuracy")["a"]
    assert (row["low"], row["high"]) == pytest.approx((middle - half, middle + half), abs=1e-6)
    assert (row["kind"], row["head"], row["right"]) == ("convnet or other", "class", 90)
    (cloud,) = figure(report, "models").clouds
    assert cloud.intervals == (pytest.approx((100 * (middle - half), 100 * (middle + half)), abs=1e-4),)


def test_kinds_have_marks_of_their_own_and_the_front_is_a_line() -> None:
    plain, distilled = (kind_name(transformer=True, distilled=each) for each in (False, True))
    models = [
        contender("plain", 100.0, 80, kind=plain), contender("distilled", 90.0, 85, kind=distilled),
        contender("file", 10.0, 85, kind=FOREIGN), contender("unknown", None, 99, kind=FOREIGN),
    ]  # fmt: skip
    clouds = figure(report_of(*models), "models").clouds
    assert {cloud.label: cloud.names for cloud in clouds} == {
        distilled: ("distilled",), plain: ("plain",), FOREIGN: ("file",), "Pareto front": (),
    }  # fmt: skip
    assert [cloud.line for cloud in clouds] == [False, False, False, True]
    assert list(zip(clouds[-1].x, clouds[-1].y, strict=True)) == [(90.0, 85.0), (90.0, 80.0), (100.0, 80.0)]


def test_a_single_model_is_a_point_and_none_is_refused() -> None:
    report = report_of(contender("alone", 100.0, 80))
    assert [cloud.label for cloud in figure(report, "models").clouds] == ["transformer"]
    assert report.numbers["front"] == ["alone"]
    with pytest.raises(DeitkitError, match="no model was given"):
        report_of()


def test_without_speed_accuracy_stands_against_parameters() -> None:
    models = [contender("small", None, 80, parameters=5), contender("large", None, 79, parameters=9)]
    report = report_of(*models, cost="parameters", conditions=None)
    assert [row["front"] for row in cells(report, "models").values()] == ["yes", "no"]
    assert figure(report, "models").clouds[0].x == (5e-6, 9e-6)
    assert {each.name for each in report.tables} == {"models", "accuracy"}
    assert not {"images/s", "MiB", "measured on"} & set(report.definitions)


def test_what_was_measured_on_what_is_said() -> None:
    told = report_of(contender("a", 100.0, 80)).definitions
    assert CONDITIONS["device"] in told["measured on"] and "batches of 32" in told["measured on"]
    assert "3 s each" in told["images/s"] and "V100" in told["images/s"]


def test_published_speeds_have_a_figure_and_a_table_of_their_own() -> None:
    report = report_of(contender("a", 100.0, 80), published=True)
    assert [each.name for each in report.figures] == ["models", "published"]
    clouds = figure(report, "published").clouds
    assert all(cloud.published for cloud in clouds) and not figure(report, "models").clouds[0].published
    shown = {(x, y) for cloud in clouds for x, y in zip(cloud.x, cloud.y, strict=True)}
    assert shown == {(row.images_per_s, row.imagenet) for row in TABLE5}
    assert "V100" in figure(report, "published").x_label and "V100" in table(report, "published").title
    rows = cells(report, "published")
    assert rows["efficientnet_b7"]["v2"] is None and rows["deit_base_distilled"]["top1"] == 83.4
    assert rows["deit_base_distilled_384_1000ep"]["front"] == "yes" and rows["resnet50"]["front"] == "no"


def test_a_report_survives_json_and_is_drawn_on_a_page() -> None:
    report = report_of(contender("a", 100.0, 80), contender("b", 50.0, 90, kind=FOREIGN), published=True)
    again = Report.from_dict(json.loads(json.dumps(report.as_dict())))
    assert again.figures == report.figures and again.tables == report.tables
    for each in again.figures:
        drawn = page_drawing(each, "key")
        assert drawn is not None
        assert ("var(--s0)" in drawn.svg) == (each.name != "published"), "what others published is grey"


# What its figures need of the drawings


def page_of(figure: AnyFigure) -> ET.Element:
    drawn = page_drawing(figure, "key")
    assert drawn is not None
    return ET.fromstring(drawn.svg)


def words_of(figure: AnyFigure) -> set[str]:
    """What stands in the SVG file: matplotlib notes each text as a comment above its outlines."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))
    root = ET.fromstring(draw(figure, "svg"), parser)
    return {(element.text or "").strip() for element in root.iter() if element.tag is ET.Comment}


def test_whole_numbers_have_whole_ticks() -> None:
    layers = Points("p", "", "layer", "y", (Cloud("", (1.0, 2.0, 3.0), (5.0, 6.0, 7.0)),))
    shares = Points("p", "", "share", "y", (Cloud("", (1.0, 1.5, 2.0), (5.0, 6.0, 7.0)),))
    for texts in (lambda each: {str(element.text) for element in page_of(each).iter("text")}, words_of):
        assert {"1", "2", "3"} <= texts(layers)
        assert not [text for text in texts(layers) if re.fullmatch(r"[123]\.\d+", text)]
        assert [text for text in texts(shares) if re.fullmatch(r"1\.\d+", text)]


def test_intervals_are_drawn_inside_of_the_axes() -> None:
    figure = Points("p", "", "x", "y", (Cloud("a", (1.0, 2.5), (50.0, 60.0), intervals=((20.0, 80.0), (60.0, 95.0))),))
    root = page_of(figure)
    whiskers = [element.attrib["d"] for element in root.iter("path") if "opacity" in element.get("style", "")]
    ends = [tuple(map(float, re.findall(r"[ML][\d.]+ ([\d.]+)", each))) for each in whiskers]
    (low, high), (middle, top) = ends
    first, second = (float(element.attrib["y"]) for element in root.iter("use") if element.find("title") is not None)
    assert first == pytest.approx((low + high) / 2, abs=0.2), "50 is half way from 20 to 80"
    assert second == pytest.approx(middle, abs=0.2)
    assert top < high < middle < low
    assert {"20", "90"} <= words_of(figure), "both axes reach the ends of the intervals"


def test_names_keep_off_lines() -> None:
    line = Cloud("a", (1.0, 2.0, 3.0), (5.0, 5.0, 5.0), ("first", "second", "third"))
    flat = Points("p", "", "x", "y", (line, Cloud("b", (1.0, 3.0), (9.0, 1.0))), joined=True)
    root = page_of(flat)
    at = {element.text: (float(element.attrib["x"]), float(element.attrib["y"])) for element in root.iter("text")}
    level = next(float(element.attrib["y"]) for element in root.iter("use") if element.find("title") is not None)
    assert abs(at["second"][1] - 3 - level) > 4, "the line goes through on both sides"


def test_a_band_ends_where_nothing_was_measured() -> None:
    series = Series("s", (1.0, 2.0, None, 3.0, 4.0), (0.5, 0.5, None, 0.5, 0.5))
    root = page_of(Curves("c", "", "x", "y", tuple("abcde"), (series,)))
    assert sum("opacity" in element.get("style", "") for element in root.iter("path")) == 2


def test_published_curves_are_grey() -> None:
    figure = Curves(
        "c", "", "x", "y", ("a", "b"), (Series("ours", (1.0, 2.0)), Series("paper", (2.0, 3.0), published=True))
    )
    drawn = page_drawing(figure, "key")
    assert drawn is not None
    assert "var(--s0)" in drawn.svg
    assert "var(--s1)" not in drawn.svg
    file = draw(figure, "svg").decode()
    assert "#808080" in file and "#d55e00" not in file
