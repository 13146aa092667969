"""Reports on disk: files that other programs read, and figures whose text stays inside."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch
from PIL import Image

from deitkit.analysis.disagreement import Classifier, disagreement_report
from deitkit.analysis.report import Report
from deitkit.analysis.save import draw, save_report
from deitkit.analysis.tokens import tokens_report
from deitkit.errors import DeitkitError
from deitkit.model import Tokens

LABELS = np.arange(30) % 3


@pytest.fixture
def report() -> Report:
    names = ("teacher", "a student with, a comma", "a run whose name is rather longer than most names are")
    return disagreement_report([Classifier(name, np.roll(LABELS, n)) for n, name in enumerate(names)], LABELS)


def test_every_file_is_written_and_readable(report: Report, tmp_path: Path) -> None:
    saved = save_report(report, tmp_path / "reports")
    assert sorted(path.name for path in saved) == [
        "disagreement.json",
        "disagreement_matrix.csv",
        "disagreement_matrix.png",
        "disagreement_matrix.svg",
        "disagreement_pairs.csv",
    ]
    assert {path.name for path in (tmp_path / "reports").iterdir()} == {path.name for path in saved}
    assert json.loads((tmp_path / "reports/disagreement.json").read_text())["numbers"]["images"] == 30
    rows = list(csv.reader((tmp_path / "reports/disagreement_matrix.csv").open(newline="")))
    assert rows[0][3] == "a student with, a comma"
    assert [float(cell) for cell in rows[1][1:]] == list(report.tables[0].rows[0][1:])
    Image.open(tmp_path / "reports/disagreement_matrix.png").verify()
    ET.parse(tmp_path / "reports/disagreement_matrix.svg")


def test_saving_twice_gives_the_same_bytes(report: Report, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in save_report(report, tmp_path / "first")}
    second = {path.name: path.read_bytes() for path in save_report(report, tmp_path / "second")}
    assert first == second


def edge_is_blank(png: bytes, folder: Path) -> bool:
    """True if no ink touches the border, where a cut label would."""
    (folder / "figure.png").write_bytes(png)
    pixels = np.asarray(Image.open(folder / "figure.png").convert("L"))
    return bool((np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]) == 255).all())


def test_no_label_of_a_matrix_is_cut(report: Report, tmp_path: Path) -> None:
    assert edge_is_blank(draw(report.figures[0], "png"), tmp_path)


def test_no_label_of_a_deep_models_curve_is_cut(tmp_path: Path) -> None:
    tokens = Tokens(("class", "distillation"), *(torch.randn(2, 8) for _ in range(2)), torch.randn(24, 2, 5, 8),
                    torch.randn(2, 5, 8))  # fmt: skip
    (figure,) = tokens_report([tokens], classifier="a run with a long name", images="digits/val").figures
    assert edge_is_blank(draw(figure, "png"), tmp_path)


def test_classifiers_that_never_differ_can_be_drawn(tmp_path: Path) -> None:
    (figure,) = disagreement_report([Classifier("a", LABELS)], LABELS).figures
    assert edge_is_blank(draw(figure, "png"), tmp_path)


def test_a_folder_that_cannot_be_written_is_named(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DeitkitError, match="could not be written"):
        save_report(report, tmp_path / "file")
