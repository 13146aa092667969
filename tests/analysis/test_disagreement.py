"""Table 4's matrix, against counting by hand, scipy's intervals and the paper's own numbers."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from deitkit.analysis.disagreement import (
    Classifier,
    compare,
    disagreement,
    disagreement_report,
    published_rates,
    wilson_interval,
)
from deitkit.catalog import TABLE4_CLASSIFIERS, TABLE4_MATRIX
from deitkit.errors import DeitkitError
from deitkit.predictions import Predictions

MakePredictions = Callable[..., Predictions]
LABELS = np.array([0, 1, 2, 0, 1])


def test_disagreement_is_the_share_of_different_decisions() -> None:
    assert disagreement(np.array([0, 1, 2, 3]), np.array([0, 2, 2, 1])) == 0.5


@pytest.mark.parametrize(("count", "total"), [(0, 360), (1, 7), (83, 360), (360, 360), (8_550, 50_000)])
def test_the_interval_is_wilsons(count: int, total: int) -> None:
    expected = binomtest(count, total).proportion_ci(0.95, method="wilson")
    interval = wilson_interval(count, total)
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


def test_the_matrix_counts_every_pair_and_the_ground_truth() -> None:
    a, b = np.array([0, 1, 2, 1, 1]), np.array([0, 0, 2, 2, 1])
    report = disagreement_report([Classifier("a", a), Classifier("b", b)], LABELS)
    matrix, pairs = report.tables
    assert matrix.columns == ("classifier", "ground truth", "a", "b")
    assert matrix.rows == (("ground truth", 0.0, 0.2, 0.4), ("a", 0.2, 0.0, 0.4), ("b", 0.4, 0.4, 0.0))
    assert [row[:5] for row in pairs.rows] == [
        ("ground truth", "a", 1, 5, 0.2),
        ("ground truth", "b", 2, 5, 0.4),
        ("a", "b", 2, 5, 0.4),
    ]
    assert report.numbers == {"images": 5, "accuracy": {"a": 0.8, "b": 0.6}}
    assert matrix.texts()[1] == ["a", "20.0%", "0.0%", "40.0%"]


def test_a_distilled_run_a_twin_and_a_teacher_stand_where_table_4_has_them(decided: MakePredictions) -> None:
    report = compare(
        [
            decided("regnet", {"class": LABELS}, LABELS, settings={"family": "convnet"}),
            decided("twin", {"class": LABELS}, LABELS, settings={"family": "deit"}),
            decided("student", {"class": LABELS, "distillation": LABELS, "fused": LABELS}, LABELS),
        ]
    )
    names = ("ground truth", "regnet", "twin", "student class", "student distillation", "student fused")
    (figure,) = report.figures
    assert figure.labels == names
    paper = [None if row == column else 100 * TABLE4_MATRIX[row][column] for row in range(6) for column in range(6)]
    assert [value for row in figure.references for value in row] == paper
    assert report.tables[1].rows[0][-1] == 0.171


def test_a_place_in_table_4_that_two_claim_is_nobodys() -> None:
    rates = published_rates(["groundtruth", "deit", "deit", "convnet", ""])
    assert rates[0] == (None, None, None, 0.171, None)
    assert rates[1] == rates[2] == rates[4] == (None,) * 5


def test_one_classifier_is_compared_with_the_ground_truth_and_none_is_an_error() -> None:
    assert len(disagreement_report([Classifier("a", LABELS)], LABELS).tables[1].rows) == 1
    with pytest.raises(DeitkitError, match="no classifier"):
        disagreement_report([], LABELS)
    with pytest.raises(DeitkitError, match="no image"):
        disagreement_report([Classifier("a", LABELS[:0])], LABELS[:0])


def test_a_report_without_published_values_speaks_of_none() -> None:
    (figure,) = disagreement_report([Classifier("mine", LABELS)], LABELS).figures
    assert figure.references_title == ""


def test_a_report_is_json(decided: MakePredictions) -> None:
    report = compare([decided("a", {"class": [0, 1, 1, 0, 1]}, LABELS)])
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["tables"][1]["rows"][0][2] == 1


def test_the_catalogs_table_4_is_the_papers(shared_facts: Path) -> None:
    table4 = tomllib.loads((shared_facts / "paper.toml").read_text())["table4"]
    assert tuple(table4["classifiers"]) == TABLE4_CLASSIFIERS
    assert tuple(map(tuple, table4["matrix"])) == TABLE4_MATRIX
