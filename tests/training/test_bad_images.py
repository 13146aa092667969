"""Runs on images of which some cannot be read: found before the first step, or in the middle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import deitkit
from deitkit.data.check import scan as scanning
from deitkit.data.check.background import Background
from deitkit.data.check.left_out import left_out_of
from deitkit.data.open import open_source
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data, Recipe
from deitkit.runs.folder import Run
from deitkit.training import bad_images
from deitkit.training.bad_images import StoppedByImage
from deitkit.training.fit import train_run
from tests.training.test_fit import Crash, CrashAt, Hears, assert_equal, comparable, tiny

DAMAGED_INSIDE = b"\0" * 8  # instead of pixels: header and end of the file stay


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """120 digits as an image folder of two classes, 12 of them to judge by."""
    source = open_source(Data(dataset="digits"), "train")
    for index in range(120):
        place = tmp_path / "digits" / ("val" if index < 12 else "train") / str(source.labels[index] % 2)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index:03d}.png").write_bytes(source.read(index))
    return tmp_path / "digits"


def image(root: Path, number: int) -> Path:
    return next(root.rglob(f"{number:03d}.png"))


def damage_inside(path: Path) -> None:
    """Header and end stay as they are."""
    whole = path.read_bytes()
    start = whole.index(b"IDAT") + 8
    path.write_bytes(whole[:start] + DAMAGED_INSIDE + whole[start + len(DAMAGED_INSIDE) :])


def recipe_for(root: Path, *, epochs: int = 2, **data: Any) -> Recipe:
    return tiny(
        data={"dataset": "folder", "path": str(root), **data},
        stream={"batch_size": 24, "repeats": 1, "mix_group": 4}, train={"epochs": epochs},
    )  # fmt: skip


def test_one_unreadable_image_is_left_out_said_and_kept_with_the_run(digits: Path, tmp_path: Path) -> None:
    image(digits, 50).write_bytes(b"")
    hears = Hears()
    run = train_run(recipe_for(digits), tmp_path / "run", observer=hears).run
    (left,) = left_out_of(run.path).images
    assert left.id.endswith("050.png") and left.reason == "the file is empty"
    assert any(text.startswith("left out: 1 image that cannot be read") for text in hears.said)
    assert "unreadable" not in (run.result() or {})


def test_a_run_without_an_image_is_the_run_on_a_folder_that_never_had_it(digits: Path, tmp_path: Path) -> None:
    image(digits, 50).write_bytes(b"")
    left_out = train_run(recipe_for(digits), tmp_path / "left_out").run
    image(digits, 50).unlink()
    never = train_run(recipe_for(digits), tmp_path / "never").run
    assert_equal(comparable(left_out), comparable(never))


def test_a_resumed_run_does_without_what_it_began_without_though_it_was_mended(digits: Path, tmp_path: Path) -> None:
    whole = image(digits, 50).read_bytes()
    image(digits, 50).write_bytes(b"")
    unbroken = train_run(recipe_for(digits), tmp_path / "unbroken").run
    with pytest.raises(Crash):
        train_run(recipe_for(digits), tmp_path / "run", observer=CrashAt(5))
    image(digits, 50).write_bytes(whole)
    hears = Hears()
    resumed = train_run(recipe_for(digits), tmp_path / "run", resume=True, observer=hears).run
    assert any("can be read now that the run began without" in text for text in hears.said)
    assert_equal(comparable(resumed), comparable(unbroken))


def test_too_many_stop_before_anything_is_written(digits: Path, tmp_path: Path) -> None:
    for number in (50, 51, 52):
        image(digits, number).write_bytes(b"")
    with pytest.raises(DeitkitError, match=r"3 of 120 images cannot be read, 2\.5%"):
        train_run(recipe_for(digits), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = train_run(recipe_for(digits, on_bad_image="leave_out"), tmp_path / "run").run
    assert len(left_out_of(run.path).images) == 3


class Breaks(CrashAt):
    """Damages images after a step."""

    def __init__(self, after: int, *paths: Path) -> None:
        super().__init__(-1)
        self.after, self.paths, self.said = after, paths, list[str]()

    def step(self, step: int, sums: Any) -> None:
        if step == self.after:
            for path in self.paths:
                damage_inside(path)

    def say(self, text: str) -> None:
        self.said.append(text)


def test_an_image_that_breaks_in_the_middle_ends_a_strict_run_saved_and_it_goes_on_without(
    digits: Path, tmp_path: Path
) -> None:
    recipe = recipe_for(digits, epochs=4, on_bad_image="error")
    breaks = Breaks(5, *sorted((digits / "train").rglob("*.png"))[:10])
    with pytest.raises(StoppedByImage, match="cannot read image"):
        train_run(recipe, tmp_path / "run", observer=breaks)
    run, hears = Run(tmp_path / "run"), Hears()
    with pytest.raises(DeitkitError, match="10 of the images cannot be read that could"):
        train_run(recipe, run.path, resume=True)
    train_run(recipe_for(digits, epochs=4, on_bad_image="replace"), run.path, resume=True, observer=hears)
    assert any("resuming" in text and "step 5" in text for text in hears.said)  # nothing was lost
    result = json.loads((run.path / "result.json").read_text())
    assert result["step"] == 16 and len(result["unreadable"]) == 10


def test_one_that_breaks_in_the_middle_is_stood_in_for_and_named_more_stop(digits: Path, tmp_path: Path) -> None:
    broken = sorted((digits / "train").rglob("*.png"))
    one = Breaks(1, broken[0])
    run = train_run(recipe_for(digits, epochs=4), tmp_path / "one", observer=one).run
    assert [Path(name) for name in (run.result() or {})["unreadable"]] == [broken[0]]
    assert any(text.startswith("1 images cannot be read, others stand in for them") for text in one.said)
    with pytest.raises(StoppedByImage, match=r"of 120 images cannot be read, [\d.]+%"):
        train_run(recipe_for(digits, epochs=4), tmp_path / "more", observer=Breaks(1, *broken[1:9]))


def test_of_many_images_those_damaged_inside_are_found_beside_the_training(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Quick(Background):
        """Is done before the first step: a busy machine may not give it a turn in so short a run."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self._process.join(timeout=60)

    monkeypatch.setattr(scanning, "DECODED_BYTES", 0)
    monkeypatch.setattr(bad_images, "Background", Quick)
    damage_inside(image(digits, 5))  # a validation image: training itself would meet it after an epoch
    hears = Hears()
    run = train_run(recipe_for(digits), tmp_path / "run", observer=hears).run
    assert any("beside the training: 1 image that cannot be read" in text for text in hears.said)
    left = left_out_of(run.path)
    assert left.is_whole and left.images == ()


def test_a_program_is_told_by_the_logger_what_is_left_out(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image(digits, 50).write_bytes(b"")
    said: list[str] = []
    monkeypatch.setattr("deitkit.training.observer.logger.info", said.append)
    deitkit.train(recipe_for(digits, epochs=1), tmp_path / "run", device="cpu")
    assert any(text.startswith("left out: 1 image that cannot be read") for text in said)


def test_a_run_that_was_killed_before_it_kept_what_it_does_without_looks_again(digits: Path, tmp_path: Path) -> None:
    image(digits, 50).write_bytes(b"")
    unbroken = train_run(recipe_for(digits), tmp_path / "unbroken").run
    with pytest.raises(Crash):
        train_run(recipe_for(digits), tmp_path / "run", observer=CrashAt(1))
    (tmp_path / "run" / "left_out.json").unlink()
    resumed = train_run(recipe_for(digits), tmp_path / "run", resume=True).run
    assert_equal(comparable(resumed), comparable(unbroken))
    assert left_out_of(resumed.path) == left_out_of(unbroken.path)
