"""Table 4's matrix, against counting by hand and the paper's own numbers; what is compared, and what is refused."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deitkit.analysis.disagreement.pairs import ComparedClassifier
from deitkit.analysis.disagreement.report import compare, disagreement, disagreement_report, find, published_rates
from deitkit.analysis.report import Report, Table
from deitkit.catalog import TABLE4_CLASSIFIERS, TABLE4_MATRIX
from deitkit.errors import DeitkitError
from deitkit.predictions.table import Predictions

MakePredictions = Callable[..., Predictions]
LABELS = np.array([0, 1, 2, 0, 1])


def table_of(report: Report, name: str) -> Table:
    return next(table for table in report.tables if table.name == name)


@pytest.fixture
def family(decided: MakePredictions) -> list[Predictions]:
    """A teacher, a twin and a distilled student of it."""
    heads = {"class": [0, 1, 2, 1, 1], "distillation": [0, 1, 1, 1, 1], "fused": [0, 1, 2, 1, 0]}
    return [
        decided("regnet", {"class": [0, 1, 1, 1, 1]}, LABELS, settings={"family": "convnet"}),
        decided("twin", {"class": [0, 0, 2, 0, 0]}, LABELS, settings={"family": "deit"}),
        decided("student", heads, LABELS),
    ]


def test_disagreement_is_the_share_of_different_decisions() -> None:
    assert disagreement(np.array([0, 1, 2, 3]), np.array([0, 2, 2, 1])) == 0.5


def test_the_matrix_counts_every_pair_and_the_ground_truth() -> None:
    a, b = np.array([0, 1, 2, 1, 1]), np.array([0, 0, 2, 2, 1])
    report = disagreement_report([ComparedClassifier("a", a), ComparedClassifier("b", b)], LABELS)
    matrix, pairs = table_of(report, "matrix"), table_of(report, "pairs")
    assert matrix.columns == ("classifier", "ground truth", "a", "b")
    assert matrix.rows == (("ground truth", 0.0, 0.2, 0.4), ("a", 0.2, 0.0, 0.4), ("b", 0.4, 0.4, 0.0))
    assert [row[:5] for row in pairs.rows] == [
        ("ground truth", "a", 1, 5, 0.2),
        ("ground truth", "b", 2, 5, 0.4),
        ("a", "b", 2, 5, 0.4),
    ]
    assert report.numbers["images"] == 5
    assert report.numbers["accuracy"] == {"a": 0.8, "b": 0.6}
    assert matrix.texts()[1] == ["a", "20.0%", "0.0%", "40.0%"]


def test_pairs_tell_who_is_right_and_how_both_are_wrong() -> None:
    a, b = np.array([0, 1, 1, 1, 2]), np.array([0, 0, 1, 2, 1])
    report = disagreement_report([ComparedClassifier("a", a), ComparedClassifier("b", b)], LABELS)
    # image by image: both right; only a; both wrong, the same; both wrong, differently; only b
    assert table_of(report, "kinds").rows == (("a", "b", 1, 1, 1, 1, 1),)
    (test,) = table_of(report, "mcnemar").rows
    assert test == ("a", "b", 1, 1, 1.0, 1.0, "exact binomial")
    kappa = {row[:2]: row[2:] for row in table_of(report, "kappa").rows}
    assert kappa["a", "b"][0] is not None and kappa["a", "b"][3] is not None
    assert kappa["ground truth", "a"][3:] == (None, None, None)


def test_intervals_hold_the_rate_and_say_how_they_were_drawn() -> None:
    rng = np.random.default_rng(0)
    labels, a, b = rng.integers(4, size=(3, 300))
    report = disagreement_report(
        [ComparedClassifier("a", a), ComparedClassifier("b", b)], labels, resamples=200, seed=7
    )
    for _, _, _, _, rate, low, high, bootstrap_low, bootstrap_high in table_of(report, "pairs").rows:
        assert low < rate < high and bootstrap_low < rate < bootstrap_high
        assert bootstrap_high - bootstrap_low == pytest.approx(high - low, rel=0.25)
    assert report.numbers["bootstrap"] == {"resamples": 200, "seed": 7}
    assert "200 resamples" in report.definitions["interval"] and "seed 7" in report.definitions["interval"]


def test_a_distilled_run_a_twin_and_a_teacher_stand_where_table_4_has_them(family: list[Predictions]) -> None:
    report = compare([replace(each, dataset="imagenet") for each in family])
    names = ("ground truth", "regnet", "twin", "student class", "student distillation", "student fused")
    figure = report.figures[0]
    assert figure.labels == names
    paper = [None if row == column else 100 * TABLE4_MATRIX[row][column] for row in range(6) for column in range(6)]
    assert [value for row in figure.references for value in row] == paper
    assert table_of(report, "pairs").rows[0][-1] == 0.171
    other = compare(family)  # of pets
    assert "paper" not in table_of(other, "pairs").columns and "paper" not in other.definitions
    assert other.figures[0].references_title == ""


def test_one_head_of_a_distilled_model_keeps_its_name_and_its_place(family: list[Predictions]) -> None:
    student = family[2]
    alone = replace(
        student, heads={"distillation": student.heads["distillation"]}, settings={"heads": list(student.heads)}
    )
    figure = compare([replace(each, dataset="imagenet") for each in (family[0], alone)]).figures[0]
    assert figure.labels == ("ground truth", "regnet", "student distillation")
    assert figure.references[0][2] == pytest.approx(100 * TABLE4_MATRIX[0][TABLE4_CLASSIFIERS.index("distillation")])


def test_a_place_in_table_4_that_two_claim_is_nobodys() -> None:
    rates = published_rates(["groundtruth", "deit", "deit", "convnet", ""])
    assert rates[0] == (None, None, None, 0.171, None)
    assert rates[1] == rates[2] == rates[4] == (None,) * 5


def test_classes_are_compared_with_the_teacher_or_with_the_first(family: list[Predictions]) -> None:
    assert "twin not as regnet" in table_of(compare(family), "classes").columns
    report = compare(family, teacher="student")
    assert "twin not as student fused" in table_of(report, "classes").columns
    assert report.numbers["reference"] == "student fused"
    assert report.figures[1].ticks == ("regnet", "twin", "student class", "student distillation")


def test_with_a_teacher_the_heads_show_which_classes_moved(family: list[Predictions]) -> None:
    report = compare(family, teacher="regnet")
    found = report.numbers["moved"]
    assert (found["baseline"], found["student"]) == ("student class", "student distillation")
    assert found["gain"] == pytest.approx(0.2)
    assert table_of(report, "moved").rows[0][0] == "owl"
    assert not [table for table in compare(family).tables if table.name == "moved"]


def test_with_a_baseline_the_last_run_is_seen_from_it(family: list[Predictions]) -> None:
    found = compare(family, teacher="regnet", baseline="twin").numbers["moved"]
    assert (found["baseline"], found["student"], found["teacher"]) == ("twin", "student fused", "regnet")
    assert found["gain"] == pytest.approx((3 - 1) / 5)


def test_two_classifiers_are_compared_class_by_class_on_request(family: list[Predictions]) -> None:
    report = compare(family, between=("regnet", "student distillation"))
    assert all(row[0] == row[1] for row in table_of(report, "between").rows)
    assert report.figures[-1].name == "between"
    with pytest.raises(DeitkitError, match=r"called 'studnet fused'\. Did you mean student fused"):
        compare(family, between=("regnet", "studnet fused"))


def test_a_models_name_stands_for_its_fused_decision(family: list[Predictions]) -> None:
    everyone = [ComparedClassifier(name, LABELS) for name in ("student class", "student fused", "twin")]
    assert find(everyone, "student").name == "student fused"
    assert find(everyone, "student class").name == "student class"
    assert find(everyone, "twin").name == "twin"


def test_a_baseline_without_a_teacher_is_refused(family: list[Predictions]) -> None:
    with pytest.raises(DeitkitError, match="twin is a baseline of what") as caught:
        compare(family, baseline="twin")
    assert caught.value.remedy == "--teacher RUN"


def test_one_classifier_or_none_or_no_image_is_refused(decided: MakePredictions) -> None:
    with pytest.raises(DeitkitError, match="a alone has nobody to disagree with") as caught:
        compare([decided("a", {"class": [0, 1, 1, 0, 1]}, LABELS)])
    assert "deitkit evaluate" in caught.value.remedy
    with pytest.raises(DeitkitError, match="no classifier"):
        disagreement_report([], LABELS)
    with pytest.raises(DeitkitError, match="no image"):
        disagreement_report([ComparedClassifier("a", LABELS[:0]), ComparedClassifier("b", LABELS[:0])], LABELS[:0])


def test_one_distilled_model_is_compared_with_itself(family: list[Predictions]) -> None:
    assert len(table_of(compare(family[2:]), "kinds").rows) == 3


def test_arrays_of_other_lengths_and_equal_names_are_refused() -> None:
    with pytest.raises(DeitkitError, match="different numbers of images") as caught:
        disagreement_report([ComparedClassifier("a", LABELS), ComparedClassifier("b", LABELS[:4])], LABELS)
    assert caught.value.problems == ("labels: 5", "a: 5", "b: 4")
    with pytest.raises(DeitkitError, match="names of their own"):
        disagreement_report([ComparedClassifier("a", LABELS), ComparedClassifier("a", LABELS)], LABELS)
    with pytest.raises(DeitkitError, match="names of their own"):
        disagreement_report([ComparedClassifier("a", LABELS), ComparedClassifier("ground truth", LABELS)], LABELS)


def test_a_report_without_published_values_speaks_of_none() -> None:
    report = disagreement_report([ComparedClassifier("mine", LABELS), ComparedClassifier("yours", LABELS)], LABELS)
    assert report.figures[0].references_title == ""


def test_a_report_is_json_also_where_measures_are_not_defined(decided: MakePredictions) -> None:
    report = compare([decided("a", {"class": LABELS}, LABELS), decided("b", {"class": LABELS}, LABELS)])
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    kappas = next(table for table in found["tables"] if table["name"] == "kappa")["rows"]
    assert kappas[-1][5] is None


def test_the_catalogs_table_4_is_the_papers(shared_facts: Path) -> None:
    table4 = tomllib.loads((shared_facts / "paper.toml").read_text())["table4"]
    assert tuple(table4["classifiers"]) == TABLE4_CLASSIFIERS
    assert tuple(map(tuple, table4["matrix"])) == TABLE4_MATRIX
