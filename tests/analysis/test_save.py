"""Reports on disk: files that other programs read, each whole or not at all."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from deitkit.analysis.report import Matrix, Panel, Panels, Report, Table
from deitkit.analysis.save import save_report
from deitkit.errors import DeitkitError


@pytest.fixture
def report() -> Report:
    names = ("teacher", "a student with, a comma")
    return Report(
        name="disagreement",
        title="Different decisions",
        definitions={"rate": "the fraction of images"},
        sources=(),
        numbers={"images": 30},
        tables=(
            Table("matrix", "Rates", ("classifier", *names), ((names[0], 0.0, 0.1), (names[1], 1 / 3, None))),
            Table("pairs", "Pairs", ("a", "b"), (names,)),
        ),
        figures=(
            Matrix("matrix", "Different decisions", names, ((0.0, 10.0), (33.3, 0.0)), "%"),
            Panels("maps", "Maps", ((Panel("a", np.eye(3)),),), "share"),
        ),
    )


def test_every_file_is_written_and_readable(report: Report, tmp_path: Path) -> None:
    saved = save_report(report, tmp_path / "reports")
    assert sorted(path.name for path in saved) == [
        "disagreement.json",
        "disagreement_maps.png",
        "disagreement_maps.svg",
        "disagreement_matrix.csv",
        "disagreement_matrix.png",
        "disagreement_matrix.svg",
        "disagreement_pairs.csv",
    ]
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {path.name for path in saved}
    assert json.loads((tmp_path / "reports/disagreement.json").read_text())["pictures"] == ["maps"]
    rows = list(csv.reader((tmp_path / "reports/disagreement_matrix.csv").open(newline="")))
    assert rows[0][2] == "a student with, a comma"
    assert float(rows[2][1]) == 1 / 3 and rows[2][2] == ""
    Image.open(tmp_path / "reports/disagreement_matrix.png").verify()
    ET.parse(tmp_path / "reports/disagreement_matrix.svg")


def test_saving_twice_gives_the_same_bytes(report: Report, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in save_report(report, tmp_path / "first")}
    second = {path.name: path.read_bytes() for path in save_report(report, tmp_path / "second")}
    assert first == second


def test_a_folder_that_cannot_be_written_is_named(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeitkitError, match="cannot write"):
        save_report(report, tmp_path / "file")
