"""What becomes of unreadable images: few of one's own are left out, more stop, and a run goes on as it began."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deitkit.data.check.left_out import (
    LeftOut,
    left_out_of,
    remember_left_out,
    scan_data,
    settle,
)
from deitkit.data.check.scan import BadImage, Scan
from deitkit.data.open import open_source
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

Folder = Callable[..., Path]


def own(**values: str) -> Data:
    return Data(dataset="folder", path="photos of mine", **values)


def bad(*names: str, split: str = "train") -> tuple[BadImage, ...]:
    return tuple(BadImage(split, name, name.split("/")[0], "the file is empty") for name in names)


def found(*names: str, images: int = 1_000, lost: tuple[tuple[str, str], ...] = ()) -> Scan:
    return Scan({"train": images, "val": 100}, bad(*names), lost_classes=lost)


def test_few_of_ones_own_are_left_out_and_each_is_named() -> None:
    left = settle(own(), found("a/1.jpg", "b/2.jpg"))
    assert left.images == bad("a/1.jpg", "b/2.jpg")
    assert left.messages == (
        "left out: 2 images that cannot be read: a/1.jpg (the file is empty), b/2.jpg (the file is empty)",
    )


def test_more_than_one_in_a_hundred_stop_with_their_names_and_what_to_do() -> None:
    names = [f"a/{number}.jpg" for number in range(12)]
    with pytest.raises(DeitkitError, match=r"12 of 1,100 images cannot be read, 1\.1%: more than 1%") as caught:
        settle(own(), found(*names))
    assert caught.value.problems[0] == "a/0.jpg: the file is empty" and caught.value.problems[-1] == "and 2 more"
    assert "deitkit data verify 'photos of mine'" in caught.value.remedy
    assert "--set data.on_bad_image=leave_out" in caught.value.remedy
    assert len(settle(own(on_bad_image="leave_out"), found(*names)).images) == 12


def test_a_class_without_a_readable_image_stops_unless_it_is_wanted_so() -> None:
    look = found("rare/1.jpg", lost=(("train", "rare"),))
    with pytest.raises(DeitkitError, match="1 of 1,100 images cannot be read") as caught:
        settle(own(), look)
    assert "1 classes have no readable image: rare" in caught.value.problems
    assert "no image of class rare in train can be read" in settle(own(on_bad_image="leave_out"), look).messages


def test_nothing_is_trained_on_nothing() -> None:
    with pytest.raises(DeitkitError) as caught:
        settle(own(on_bad_image="leave_out"), found("a/1.jpg", "a/2.jpg", images=2))
    assert "leave_out" not in caught.value.remedy


def test_one_is_an_error_where_the_recipe_says_so_and_others_stand_in_where_it_says_that() -> None:
    with pytest.raises(DeitkitError, match=r"1 of 1,100 images cannot be read, 0\.1%\n"):
        settle(own(on_bad_image="error"), found("a/1.jpg"))
    replacing = settle(own(on_bad_image="replace"), found(*(f"a/{number}.jpg" for number in range(500))))
    assert replacing.images == () and "training shows others instead of 500 images" in replacing.messages[0]


@pytest.mark.parametrize(
    ("data", "is_looked_at"),
    [
        (Data(dataset="digits"), False),
        (Data(dataset="digits", on_bad_image="replace"), False),
        (Data(dataset="digits", on_bad_image="leave_out"), True),
    ],
)
def test_published_images_are_looked_at_only_on_request(data: Data, is_looked_at: bool) -> None:
    assert (scan_data(data) is not None) is is_looked_at
    assert data.bad_images == ("error" if data.on_bad_image == "auto" else data.on_bad_image)


def test_a_resumed_run_goes_without_what_it_began_without_and_says_what_is_otherwise() -> None:
    before = LeftOut(bad("a/1.jpg", "a/2.jpg"))
    left = settle(own(), found("a/2.jpg", "b/3.jpg"), before)
    assert (left.images, left.later) == (before.images, bad("b/3.jpg"))
    said = "\n".join(left.messages)
    assert "left out as before: 2 images" in said
    assert "1 images can be read now that the run began without: it goes on without them: a/1.jpg" in said
    assert "others stand in for images that could be read when the run began: 1 image" in said and "b/3.jpg" in said


def test_a_resumed_run_that_allows_none_stops_at_one_that_broke_since() -> None:
    before = LeftOut(bad("a/1.jpg"))
    assert settle(own(on_bad_image="error"), found("a/1.jpg"), before).images == before.images
    with pytest.raises(DeitkitError, match="1 of the images cannot be read that could") as caught:
        settle(own(on_bad_image="error"), found("a/1.jpg", "a/2.jpg"), before)
    assert "--resume --set data.on_bad_image=replace" in caught.value.remedy


def test_a_run_that_knows_of_none_leaves_none_out() -> None:
    assert settle(own(), found("a/1.jpg"), LeftOut()).images == ()
    assert settle(Data(dataset="digits"), None, None) == LeftOut()


def test_what_is_left_out_is_kept_as_it_was_odd_names_too(tmp_path: Path) -> None:
    odd = LeftOut(bad("a/caf\udce9 \U0001f600 \n.jpg", "b/\u00e9.jpg", split="val"), is_whole=False)
    remember_left_out(odd, tmp_path)
    assert left_out_of(tmp_path) == odd
    assert left_out_of(tmp_path / "older") == LeftOut()
    (tmp_path / "left_out.json").write_text('{"is_whole": 1}')
    with pytest.raises(DeitkitError, match=r"left_out\.json is damaged"):
        left_out_of(tmp_path)


def test_only_the_named_images_are_left_out_the_held_out_stay_where_they_are(image_folder: Folder) -> None:
    root = image_folder({"a": 20, "b": 20})
    data = Data(dataset="folder", path=str(root))
    train, val = open_source(data, "train"), open_source(data, "val")
    gone = [train.ids[3], train.ids[17]]
    for name in gone:
        (root / name).write_bytes(b"")
    left = settle(data.model_copy(update={"on_bad_image": "leave_out"}), scan_data(data))
    assert [*left.without(train).ids] == [name for name in train.ids if name not in gone]
    assert [*left.without(open_source(data, "val")).ids] == [*val.ids]


def test_a_picture_under_two_labels_is_said_before_training(image_folder: Folder) -> None:
    root = image_folder({"a": 20, "b": 20})
    (root / "b/copy.png").write_bytes((root / "a/001.png").read_bytes())
    data = Data(dataset="folder", path=str(root), validate_on="train")
    (said,) = settle(data, scan_data(data)).messages
    assert said.startswith("1 pictures have several labels") and "a/001.png (a) = b/copy.png (b)" in said
