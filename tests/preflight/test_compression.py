"""How files are compressed, against Pillow's own writer."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.data.open import Files
from deitkit.data.views.augment import decode
from deitkit.preflight.compression import Recompressed, compression_of, quality_of

PIXELS = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def images(folder: Path, writers: Sequence[dict[str, object]]) -> Files:
    """One file a writer: Pillow's arguments of `save`."""
    for index, arguments in enumerate(writers):
        Image.fromarray(PIXELS).save(folder / f"{index}", **arguments)  # type: ignore[arg-type]
    return Files(
        dataset="folder", split="val", root=folder, class_names=("a", "b"),
        labels=np.arange(len(writers), dtype=np.int64) % 2, ids=[str(index) for index in range(len(writers))],
    )  # fmt: skip


@pytest.mark.parametrize("quality", [10, 25, 49, 50, 51, 75, 90, 95, 100])
def test_the_quality_is_the_one_that_pillow_wrote(quality: int) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", quality=quality)
    assert quality_of(Image.open(buffer).quantization[0]) == quality  # type: ignore[attr-defined]


def test_small_images_of_quality_75_are_called_lossy(tmp_path: Path) -> None:
    found = compression_of(images(tmp_path, [{"format": "JPEG", "quality": 75, "subsampling": 2}] * 3), range(3))
    assert (found.files, found.jpegs, found.quality, found.sampling, found.side) == (3, 3, 75, "4:2:0", 32)
    assert found.is_lossy and found.is_one_size
    assert "quality about 75" in found.describe() and "4:2:0" in found.describe()


def test_lossless_images_are_not(tmp_path: Path) -> None:
    found = compression_of(images(tmp_path, [{"format": "PNG"}] * 2), range(2))
    assert found.quality is None and not found.is_lossy and "none is a JPEG" in found.describe()


def test_good_jpegs_are_not(tmp_path: Path) -> None:
    found = compression_of(images(tmp_path, [{"format": "JPEG", "quality": 95, "subsampling": 0}] * 2), range(2))
    assert found.sampling == "4:4:4" and not found.is_lossy


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    source = images(tmp_path, [{"format": "JPEG"}, {"format": "JPEG"}])
    (tmp_path / "0").write_bytes(b"nonsense")
    assert compression_of(source, range(2)).files == 1


def test_images_compressed_once_more_are_the_same_images_with_more_loss(tmp_path: Path) -> None:
    source = images(tmp_path, [{"format": "PNG"}] * 2)
    coarse = Recompressed.of(source, 30)
    assert (len(coarse), list(coarse.ids), coarse.path(0)) == (2, list(source.ids), None)
    assert np.array_equal(coarse.labels, source.labels) and coarse.fingerprint != source.fingerprint
    file = coarse.read(1)
    assert quality_of(Image.open(io.BytesIO(file)).quantization[0]) == 30  # type: ignore[attr-defined]
    assert decode(file, "x").size == (32, 32) and not np.array_equal(np.asarray(decode(file, "x")), PIXELS)
