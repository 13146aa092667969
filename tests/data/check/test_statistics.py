"""Statistics against numpy on the decoded pixels, and against the values published for CIFAR."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.data.check.statistics import (
    SIDE_EDGES,
    aspect_histogram,
    measure,
    moments,
    sampled_sizes,
    size_histogram,
    spread,
)
from deitkit.data.open import open_source
from deitkit.data.views.augment import Reading, decode
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data


def images_of(root: Path):
    return open_source(Data(dataset="folder", path=str(root), validate_on="train"), "train")


@pytest.mark.parametrize("workers", [0, 2])
def test_mean_and_std_are_those_of_all_pixels_together(image_folder, workers):
    source = images_of(image_folder({"a": 9, "b": 4}))
    seen = []
    found = measure(source, workers=workers, progress=seen.append)
    pixels = np.concatenate([np.asarray(decode(source.read(i), "")).reshape(-1, 3) for i in range(13)]) / 255
    assert found.mean == pytest.approx(pixels.mean(axis=0), abs=1e-12)
    assert found.std == pytest.approx(pixels.std(axis=0), abs=1e-12)
    assert (found.images, found.total, sum(seen), found.unreadable) == (13, 13, 13, ())
    assert found.sizes[:9].tolist() == [[20 + index, 30 - index % 7] for index in range(9)]


def test_moments_of_a_constant_are_exact():
    counts = np.zeros((3, 256), dtype=np.int64)
    counts[:, 51] = 10**15
    assert moments(counts) == (pytest.approx((0.2, 0.2, 0.2), abs=1e-15), (0.0, 0.0, 0.0))


def test_cifar100_is_near_its_published_values(shared_data, tmp_path):
    with tarfile.open(shared_data / "cifar100/cifar100-subset-png.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    found = measure(images_of(next(path.parent for path in tmp_path.rglob("train"))))
    assert found.images == 2000
    # Published for all 50,000 images; the mean of 2,000 images' means is off by about 0.2 / sqrt(2,000).
    assert found.mean == pytest.approx((0.5071, 0.4865, 0.4409), abs=0.015)
    assert found.std == pytest.approx((0.2673, 0.2564, 0.2762), abs=0.01)
    assert size_histogram(found.sizes) == [("32 x 32 px", 2000)]
    assert aspect_histogram(found.sizes) == [("square", 2000)]


def test_unreadable_images_are_left_out_and_named(image_folder):
    root = image_folder({"a": 3, "b": 3})
    (root / "a/001.png").write_bytes(b"no image")
    found = measure(images_of(root))
    assert found.unreadable == (str(root / "a/001.png"),)
    assert found.images == 5
    assert len(sampled_sizes(images_of(root), limit=10)) == 5
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DeitkitError, match="none of 6 images can be read"):
        measure(images_of(root))


def test_a_limit_takes_images_at_even_distances(image_folder):
    assert spread(10, None) == spread(10, 10) == spread(10, 11) == list(range(10))
    assert spread(10, 5) == [0, 2, 4, 6, 8]
    assert len(set(spread(1_281_167, 1000))) == 1000
    assert max(np.diff(spread(1000, 7))) - min(np.diff(spread(1000, 7))) <= 1
    source = images_of(image_folder({"a": 6, "b": 6}))
    found = measure(source, limit=3)
    assert (found.images, found.total) == (3, 12)
    assert found.sizes.tolist() == sampled_sizes(source, limit=3).tolist()


def test_sizes_follow_the_orientation_tag_where_it_is_honoured(tmp_path):
    turned = Image.new("RGB", (30, 20))
    exif = turned.getexif()
    exif[0x0112] = 6
    for name in "ab":
        (tmp_path / name).mkdir()
        buffer = io.BytesIO()
        turned.save(buffer, "JPEG", exif=exif)
        (tmp_path / name / "x.jpg").write_bytes(buffer.getvalue())
    for honoured, size in ((False, [20, 30]), (True, [30, 20])):
        reading = Reading(exif_orientation=honoured)
        assert sampled_sizes(images_of(tmp_path), limit=1, reading=reading).tolist() == [size]
        assert measure(images_of(tmp_path), reading=reading).sizes.tolist() == [size, size]


def test_many_sizes_are_classed_by_the_short_side():
    sides = np.array([1, 2, 3, 31, 32, 33, 47, 48, 500, 70_000])
    bars = size_histogram(np.stack([sides, sides + 5], axis=1))
    assert sum(bar.images for bar in bars) == len(sides)
    by_label = dict(bars)
    assert by_label["short side 32-47 px"] == 3
    assert by_label["short side 24-31 px"] == 1
    assert by_label["short side 64-95 px"] == 0
    assert bars[0].label == "short side 1 px"
    assert bars[-1] == ("short side 24576 and more px", 1)
    assert list(SIDE_EDGES) == sorted(set(SIDE_EDGES))


def test_aspects_are_width_to_height():
    sizes = np.array([[100, 100], [375, 500], [500, 375], [10, 100], [100, 10], [100, 150], [100, 101]])
    assert dict(aspect_histogram(sizes)) == {
        "below 1:3": 1, "3:4 to 1:1": 1, "square": 1, "1:1 to 4:3": 1, "4:3 to 2:1": 2, "3:1 and above": 1
    }  # fmt: skip
