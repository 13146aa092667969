"""The catalog's published numbers against the paper's tables, and what every data set says of itself."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from deitkit.catalog import DATASETS, TABLE5, TABLE7, TABLE7_DATASETS, TABLE10, published_transfer


@pytest.fixture(scope="module")
def paper(shared_facts: Path) -> dict[str, Any]:
    return tomllib.loads((shared_facts / "paper.toml").read_text())


def test_sizes_are_those_of_table_6(paper: dict[str, Any]) -> None:
    assert len(paper["table6"]["rows"]) == 7
    for name, train, test, classes in paper["table6"]["rows"]:
        known = DATASETS[name]
        assert (known.train_size, known.test_size, known.classes, known.source) == (train, test, classes, "Table 6")


def test_transfer_results_are_those_of_table_7(paper: dict[str, Any]) -> None:
    columns = ["flowers102" if name == "flowers" else name for name in paper["table7"]["columns"][1:]]
    assert tuple(columns) == TABLE7_DATASETS
    assert {row[0]: tuple(row[1:]) for row in paper["table7"]["rows"]} == TABLE7


def test_a_data_sets_transfer_results_are_its_column() -> None:
    assert published_transfer("cars") == {
        "deit_base": 92.1, "deit_base_384": 93.3, "deit_base_distilled": 92.9, "deit_base_distilled_384": 93.9
    }  # fmt: skip
    assert set(TABLE7_DATASETS) <= set(DATASETS)
    assert published_transfer("digits") == published_transfer("imagenet_v2") == {}


def test_speeds_and_accuracies_are_those_of_table_5(paper: dict[str, Any]) -> None:
    rows = [
        [row.model, f"{row.millions}M", row.image_size, row.images_per_s, row.imagenet, row.real or -1, row.v2 or -1]
        for row in TABLE5
    ]
    assert rows == paper["table5"]["rows"]


def test_a_published_model_is_told_from_the_others_by_its_family_and_mark() -> None:
    assert len({(row.family, row.mark) for row in TABLE5}) == len(TABLE5)
    assert all(("distilled" in row.model) == (row.family == "DeiT, distilled") for row in TABLE5)
    assert all(row.model.startswith("deit") == row.family.startswith("DeiT") for row in TABLE5)


def test_resolutions_are_those_of_table_10(paper: dict[str, Any]) -> None:
    assert {row.model for row in TABLE10} == {"deit_base"}
    rows = [[row.image_size, row.images_per_s, row.imagenet, row.real, row.v2] for row in TABLE10]
    assert rows == paper["table10"]["rows"]


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_says_its_terms_and_where_it_comes_from(name: str) -> None:
    assert DATASETS[name].terms
    assert DATASETS[name].home.startswith("https://")


def test_published_sizes_agree_with_the_annotation_files(shared_data: Path) -> None:
    labels = (shared_data / "inat/iNaturalist18_val.txt").read_text().splitlines()
    assert len(labels) == DATASETS["inat18"].test_size
    assert len({line.split()[1] for line in labels}) == DATASETS["inat18"].classes
    assert len((shared_data / "imagenet/ilsvrc2012_val_labels.txt").read_text().splitlines()) == 50_000
