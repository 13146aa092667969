"""`deitkit data`: what is listed, said of a data set, verified and measured."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.catalog import DATASETS
from deitkit.cli.app import run
from deitkit.cli.data.shared import data_of, data_values, open_splits, short_name
from deitkit.errors import DeitkitError
from deitkit.recipe.load import load_recipe

Capture = pytest.CaptureFixture[str]


def answer(capsys: Capture, *words: object, code: int = 0) -> Any:
    """What `deitkit data WORDS --json` prints."""
    assert run(["data", *map(str, words), "--json"]) == code
    return json.loads(capsys.readouterr().out)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITKIT_DATA", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, ten images of different sizes in train and four in val, none of them twice."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for class_name in ("cat", "dog"):
            target = tmp_path / "pets" / split / class_name
            target.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(target / f"{index}.png")
    return tmp_path / "pets"


# What is named


def test_a_name_of_the_catalog_may_have_its_own_place() -> None:
    assert (data_of("cars").dataset, data_of("cars").path) == ("cars", None)
    assert data_of("cars", data="/x").path == "/x"
    assert data_of("hf:cifar10").dataset == "hf:cifar10"
    assert data_of("inat18", category="genus", val_fraction=0.1).category == "genus"


def test_a_path_is_a_folder_of_ones_own(folder: Path) -> None:
    assert (data_of(str(folder)).dataset, data_of(str(folder)).path) == ("folder", str(folder))
    assert data_of("folder", data=str(folder)) == data_of(str(folder))
    assert data_of("pets").path == "pets"
    assert data_of("pets", val_fraction=0.25, split_seed=None).val_fraction == 0.25


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("cifar11", {}, "unknown data set 'cifar11'. Did you mean cifar10?"),
        ("flower102", {}, "Did you mean flowers102?"),
        ("folder", {}, "unknown data set 'folder'"),
        ("./nowhere", {}, "./nowhere does not exist"),
        ("images.csv", {}, "images.csv does not exist"),
        ("digits", {"data": "x"}, "bundled"),
        ("pets", {"data": "x"}, "two places"),
        ("cars", {"val_fraction": 2.0}, "data.val_fraction"),
        ("cars", {"categorie": "genus"}, "data.categorie: unknown key. Did you mean data.category?"),
    ],
)
def test_what_cannot_be_named_is_said(name: str, settings: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(DeitkitError) as caught:
        data_of(name, **settings)
    assert message in caught.value.message()


def test_values_of_other_tables_do_not_count_without_a_recipe() -> None:
    assert data_values(["data.category=genus", "data.max_pixels=100"]) == {"category": "genus", "max_pixels": 100}
    with pytest.raises(DeitkitError, match=r"only data\.KEY"):
        data_values(["optim.lr=1"])


def test_names_for_files_are_short(folder: Path) -> None:
    assert [short_name(name) for name in (str(folder), "hf:org/name", "cars")] == ["pets", "hf-org-name", "cars"]


def test_a_folder_without_val_has_one_split_and_a_wrong_val_is_a_problem(folder: Path) -> None:
    assert set(open_splits(data_of(str(folder / "train"))).sources) == {"train"}
    assert open_splits(data_of(str(folder / "train"))).problems == []
    shutil.move(folder / "val/dog", folder / "val/cow")
    opened = open_splits(data_of(str(folder)))
    assert set(opened.sources) == {"train"}
    assert "do not have: cow" in opened.problems[0]
    with pytest.raises(DeitkitError, match="does not exist"):
        open_splits(data_of("cars", data=str(folder / "nowhere")))


# list


def test_every_known_data_set_is_listed_with_its_place(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {row["name"]: row for row in answer(capsys, "list")}
    assert list(rows) == list(DATASETS)
    assert {name for name, row in rows.items() if row["here"]} == {"digits"}
    assert rows["digits"]["place"] is None
    (tmp_path / "shelf/cars").mkdir(parents=True)
    monkeypatch.setenv("DEITKIT_DATA", "shelf")
    cars = {row["name"]: row for row in answer(capsys, "list")}["cars"]
    assert (cars["here"], cars["place"], cars["places"]) == (True, "shelf/cars", ["shelf/cars", "data/cars"])
    assert (cars["train"], cars["test"], cars["classes"]) == (8144, 8041, 196)
    assert run(["data", "list"]) == 0
    assert "DEITKIT_DATA (shelf)" in capsys.readouterr().out


# info


def test_absent_data_are_described_by_what_was_published(capsys: Capture) -> None:
    found = answer(capsys, "info", "cars")
    assert not found["here"]
    assert found["terms"] == "research use"
    assert found["table7"]["deit_base_384"] == 93.3
    assert "splits" not in found
    assert run(["data", "info", "cars"]) == 0
    captured = capsys.readouterr()
    assert "8,144 training and 8,041 test images of 196 classes (Table 6)" in captured.out
    assert "deitkit data download cars" in captured.err


def test_data_that_are_here_are_counted(capsys: Capture, folder: Path) -> None:
    found = answer(capsys, "info", folder)
    train = found["splits"]["train"]
    assert (train["images"], train["classes"], train["counts"]) == (10, 2, {"cat": 5, "dog": 5})
    assert train["images_per_class"] == {"min": 5, "median": 5, "max": 5}
    assert train["sizes"] == {"min": [30, 20], "median": [30, 22], "max": [30, 24]}
    assert train["sizes_looked_at"] == 10
    assert found["splits"]["val"]["images"] == 4
    assert run(["data", "info", str(folder), "--classes"]) == 0
    out = capsys.readouterr().out
    assert "30 x 20, 30 x 22, 30 x 24 (of 10)" in out
    assert any(line.split() == ["dog", "5", "2"] for line in out.splitlines())


def test_a_part_of_a_published_data_set_is_said_to_be_one(capsys: Capture, folder: Path) -> None:
    notes = answer(capsys, "info", "cifar10", "--data", folder)["notes"]
    assert any("has 10 images; Table 6 has 50,000" in note for note in notes)


def test_info_of_real_images_reads_some_headers(capsys: Capture, shared_data: Path) -> None:
    found = answer(capsys, "info", shared_data / "imagenet/sample200")["splits"]
    assert list(found) == ["train"]
    assert found["train"]["sizes_looked_at"] == found["train"]["classes"] == 200


# verify


def test_clean_images_exit_0(capsys: Capture, folder: Path) -> None:
    found = answer(capsys, "verify", folder, "--workers", 0, "--strict")
    assert found["clean"]
    assert found["splits"]["train"] == {"images": 10, "counts": {"cat": 5, "dog": 5}}
    assert run(["data", "verify", str(folder), "-j", "0"]) == 0
    captured = capsys.readouterr()
    assert "is clean: 14 images" in captured.err
    assert "images/s" in captured.err


def test_a_leak_exits_2_and_is_reported(capsys: Capture, folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "train/cat/0.png", folder / "val/dog/leak.png")
    (folder / "train/dog/bad.png").write_bytes(b"")
    found = answer(capsys, "verify", folder, "-j", 0, "-o", tmp_path / "report", code=2)
    written = json.loads((tmp_path / "report/verify-pets.json").read_text())
    assert found == written
    assert [copy["id"] for copy in found["leaks"][0]] == ["train/cat/0.png", "val/dog/leak.png"]
    assert found["unreadable"][0]["detail"] == "the file is empty"
    with (tmp_path / "report/verify-pets.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["kind"], row["id"], row["class"]) for row in rows] == [
        ("leak", "train/cat/0.png", "cat"), ("leak", "val/dog/leak.png", "dog"),
        ("unreadable", "train/dog/bad.png", "dog"),
    ]  # fmt: skip
    assert run(["data", "verify", str(folder), "-j", "0"]) == 2
    captured = capsys.readouterr()
    assert captured.out.index("more than one split: 1") < captured.out.index("cannot be read: 1")
    assert "is not clean" in captured.err
    assert "error:" not in captured.err
    assert not list(Path().glob("verify*"))


def test_odd_images_are_listed_and_only_strictly_unclean(capsys: Capture, folder: Path) -> None:
    Image.new("L", (20, 20)).save(folder / "train/cat/grey.png")
    assert run(["data", "verify", str(folder), "-j", "0"]) == 0
    assert "train/cat/grey.png: grey" in capsys.readouterr().out
    assert run(["data", "verify", str(folder), "-j", "0", "--strict"]) == 2


def test_a_split_that_cannot_be_opened_is_not_clean(capsys: Capture, folder: Path) -> None:
    shutil.move(folder / "val/dog", folder / "val/cow")
    found = answer(capsys, "verify", folder, "-j", 0, code=2)
    assert "do not have: cow" in found["problems"][0]
    assert found["images"] == 10


def test_long_lists_are_cut_on_the_terminal(capsys: Capture, folder: Path) -> None:
    for index in range(15):
        (folder / f"train/cat/bad{index:02d}.png").write_bytes(b"x")
    assert run(["data", "verify", str(folder), "-j", "0"]) == 2
    out = capsys.readouterr().out
    assert "bad09.png" in out
    assert "bad10.png" not in out
    assert "and 5 more: -o FOLDER lists them all" in out


def test_the_pixel_limit_can_be_set(capsys: Capture, folder: Path) -> None:
    found = answer(capsys, "verify", folder, "-j", 0, "--set", "data.max_pixels=690", code=2)
    assert len(found["unreadable"]) == 2


# stats


def test_stats_print_lines_for_a_recipe(capsys: Capture, folder: Path, tmp_path: Path) -> None:
    found = answer(capsys, "stats", folder, "-j", 0)
    pixels = np.concatenate([np.asarray(Image.open(path)).reshape(-1, 3) for path in folder.glob("train/*/*.png")])
    assert found["mean"] == pytest.approx((pixels / 255).mean(axis=0))
    assert found["std"] == pytest.approx((pixels / 255).std(axis=0))
    assert found["sizes"] == {f"30 x {20 + index} px": 2 for index in range(5)}
    assert run(["data", "stats", str(folder), "-j", "0"]) == 0
    out = capsys.readouterr().out
    recipe = tmp_path / "mine.toml"
    recipe.write_text('extends = "pretrain/deit_tiny"\n' + "\n".join(out.splitlines()[:3]) + "\n")
    assert load_recipe(str(recipe)).data.mean == pytest.approx(found["mean"], abs=5e-5)
    assert load_recipe(str(recipe)).data.std == pytest.approx(found["std"], abs=5e-5)


def test_stats_of_some_images_say_of_how_many(capsys: Capture, folder: Path) -> None:
    (folder / "train/cat/0.png").write_bytes(b"x")
    assert run(["data", "stats", str(folder), "-j", "0", "--limit", "4"]) == 0
    captured = capsys.readouterr()
    assert "3 of 10 training images" in captured.out
    assert "1 images cannot be read" in captured.err
