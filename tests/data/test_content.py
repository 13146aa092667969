"""What images are: other bytes under the same names are named."""

from __future__ import annotations

from pathlib import Path

from deitkit.data.content import content_differences, content_of
from deitkit.data.open import open_source
from deitkit.recipe.schema import Data


def test_other_pixels_under_the_same_name_are_named(image_folder) -> None:
    root: Path = image_folder({"a": 6, "b": 6})
    source = open_source(Data(dataset="folder", path=str(root), val_fraction=0.25), "train")
    before = content_of(source, whole=True)
    assert content_differences(before, content_of(source, whole=True), source) == []
    changed = source.path(3)
    assert changed is not None
    changed.write_bytes(changed.read_bytes() + b"!")
    (said,) = content_differences(before, content_of(source), source)
    assert source.ids[3] in said


def test_all_images_are_compared_where_both_sides_know_all(image_folder) -> None:
    root: Path = image_folder({"a": 2, "b": 2})
    source = open_source(Data(dataset="folder", path=str(root), val_fraction=0.5), "train")
    before = content_of(source, whole=True)
    assert content_differences({**before, "all": "0"}, content_of(source), source) == []
    assert content_differences({**before, "all": "0"}, content_of(source, whole=True), source)
