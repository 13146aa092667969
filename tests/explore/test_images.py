"""Images as files that a browser shows."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.data.source import Files, Images
from deitkit.errors import DeitkitError
from deitkit.explore.images import image_files
from deitkit.predictions.table import Predictions, head_predictions

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Packed(Images):
    """Images without files of their own."""

    contents: dict[str, bytes]

    def read(self, index: int) -> bytes:
        return self.contents[self.ids[index]]


def packed(**contents: bytes) -> Packed:
    ids = [name.replace("_", "/") for name in contents]
    return Packed(
        dataset="hf:owner/pets", split="val", class_names=("cat", "dog"), labels=np.zeros(len(ids), np.int64), ids=ids,
        contents=dict(zip(ids, contents.values(), strict=True)),
    )  # fmt: skip


def answers(source: Images, *rows: int) -> Predictions:
    rows = rows or tuple(range(len(source)))
    return Predictions(
        dataset=source.dataset, split=source.split, fingerprint=source.fingerprint, classifier="a",
        class_names=source.class_names, ids=[source.ids[row] for row in rows], labels=np.zeros(len(rows), np.int64),
        heads={"class": head_predictions("class", np.full((len(rows), 2), 0.5))},
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("JPEG", ".jpg"), ("WEBP", ".webp"), ("GIF", ".gif")])
def test_what_a_browser_shows_is_written_byte_for_byte(tmp_path: Path, kind: str, suffix: str) -> None:
    source = packed(cat_1=encoded(kind))
    path = image_files(answers(source), source, tmp_path)(0)
    assert (path.name, path.read_bytes()) == (f"1{suffix}", encoded(kind))


@pytest.mark.parametrize("kind", ["PPM", "TIFF", "BMP"])
def test_what_browsers_do_not_all_show_becomes_a_png_of_the_same_pixels(tmp_path: Path, kind: str) -> None:
    source = packed(cat_1=encoded(kind))
    with Image.open(image_files(answers(source), source, tmp_path)(0)) as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == PIXELS).all()


def test_an_image_is_written_once_and_each_row_has_its_own(tmp_path: Path) -> None:
    source = packed(cat_1=encoded("PNG"), dog_1=encoded("JPEG"))
    files = image_files(answers(source, 1, 0), source, tmp_path)
    first = files(0)
    assert first.parts[-2:] == ("dog", "1.jpg") and files(1).parts[-2:] == ("cat", "1.png")
    first.write_bytes(b"touched")
    assert files(0).read_bytes() == b"touched"


def test_other_images_of_the_same_ids_are_not_taken_for_these(tmp_path: Path) -> None:
    source = packed(cat_1=encoded("PNG"))
    other = replace(source, class_names=("cow", "dog"))
    assert image_files(answers(source), source, tmp_path)(0) != image_files(answers(other), other, tmp_path)(0)
    with pytest.raises(DeitkitError, match="are not those of the predictions"):
        image_files(answers(source), other, tmp_path)


def test_a_file_of_the_data_set_is_shown_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(encoded("PNG"))
    source = Files(
        dataset="pets", split="val", class_names=("cat", "dog"), labels=np.zeros(1, np.int64), ids=["cat/1.png"],
        root=tmp_path,
    )  # fmt: skip
    assert image_files(answers(source), source, tmp_path / "out")(0) == tmp_path / "cat" / "1.png"
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("")
    source = packed(cat_1=encoded("PNG"))
    with pytest.raises(DeitkitError, match="cannot write"):
        image_files(answers(source), source, tmp_path / "in the way")(0)
