"""Images inside Parquet files, as mirrors keep them: any row can be read, by any process."""

from __future__ import annotations

import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from deitkit.data.datasets.cars import CARS_FORMS
from deitkit.data.datasets.class_lists import class_list
from deitkit.data.formats.image_parquet import IMAGE_PARQUET
from deitkit.data.formats.split import TEST_SERVES
from deitkit.data.source import Form, Source
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

CARS = class_list("cars")
(CARS_PARQUET,) = (form for form in CARS_FORMS if "Parquet" in form.name)


def opened(root: Path, split: str = "train", *, form: Form = IMAGE_PARQUET, **settings) -> Source:
    assert form.matches(root)
    return form.open(root, Data(dataset="cars", path=str(root), **settings), split)


def content_of(file: str, row: int) -> bytes:
    return f"{file}:{row}".encode()


def write(path: Path, labels: list[Any], *, names: tuple[str, ...] = (), nested: bool = True, column="image") -> None:
    """Rows whose bytes say where they are; row groups of three."""
    path.parent.mkdir(parents=True, exist_ok=True)
    images: list[Any] = [content_of(path.name, row) for row in range(len(labels))]
    if nested:
        images = [{"bytes": image, "path": f"{row:05d}.jpg"} for row, image in enumerate(images)]
    table = pa.table({column: images, "label": labels})
    if names:
        features = {column: {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=3)


@pytest.mark.parametrize("nested", [True, False])
def test_every_row_of_every_file_is_found(tmp_path, nested):
    sizes = {"data/train-00000-of-00002.parquet": 7, "data/train-00001-of-00002.parquet": 4}
    for name, size in sizes.items():
        write(tmp_path / name, [row % 2 for row in range(size)], names=("cat", "dog"), nested=nested)
    write(tmp_path / "data/test-00000-of-00001.parquet", [1, 0], names=("cat", "dog"), nested=nested)
    train, val = opened(tmp_path), opened(tmp_path, "val")
    expected = [(f"{name}/{row:06d}", content_of(Path(name).name, row)) for name in sizes for row in range(sizes[name])]
    assert list(train.ids) == [image_id for image_id, _ in expected]
    for index in (10, 0, 6, 7, 3, 9, 2):
        assert train.read(index) == expected[index][1]
    assert train.read(-1) == expected[-1][1]
    assert train.class_names == val.class_names == ("cat", "dog")
    assert (train.labels[:3].tolist(), val.labels.tolist()) == ([0, 1, 0], [1, 0])
    with pytest.raises(IndexError):
        train.read(11)


def test_a_source_is_read_by_other_processes(tmp_path):
    write(tmp_path / "train.parquet", [0, 1, 0, 1, 1])
    source = opened(tmp_path)
    assert source.read(4) == b"train.parquet:4"  # the parent has opened the file before it is forked
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map(source.read, range(5)) == [f"train.parquet:{row}".encode() for row in range(5)]
    assert pickle.loads(pickle.dumps(source)).fingerprint == source.fingerprint


def test_the_names_of_a_mirror_become_canonical(tmp_path):
    mirrored = tuple(sorted(name.replace("/", "-").lower() for name in CARS))
    write(tmp_path / "data/train-0.parquet", list(range(196)), names=mirrored)
    write(tmp_path / "data/test-0.parquet", [195, 0], names=mirrored)
    write(tmp_path / "data/contrast-0.parquet", [0], names=mirrored)
    for split, size, notes in (("train", 196, ()), ("val", 2, (TEST_SERVES,))):
        source = opened(tmp_path, split, form=CARS_PARQUET)
        assert (source.class_names, len(source), source.notes) == (CARS, size, notes)
    assert CARS[source.labels[1]].lower().replace("/", "-") == mirrored[0]


def test_numbers_without_names_are_canonical_classes(tmp_path):
    write(tmp_path / "data/train-0.parquet", list(range(196)))
    source = opened(tmp_path, form=CARS_PARQUET)
    assert (source.class_names, source.labels.tolist()) == (CARS, list(range(196)))
    write(tmp_path / "data/train-0.parquet", list(range(1, 197)))
    assert opened(tmp_path, form=CARS_PARQUET).labels.tolist() == list(range(196))


def test_names_of_something_else_are_kept_and_it_is_said(tmp_path):
    write(tmp_path / "train.parquet", [0, 1], names=("cat", "dog"))
    source = opened(tmp_path, form=CARS_PARQUET)
    assert source.class_names == ("cat", "dog")
    assert "no classes of this data set: cat, dog" in source.notes[0]


def test_labels_may_be_text(tmp_path):
    write(tmp_path / "train.parquet", ["dog", "cat", "dog"])
    write(tmp_path / "val.parquet", ["cat"])
    train, val = opened(tmp_path), opened(tmp_path, "val")
    assert (train.class_names, train.labels.tolist(), val.labels.tolist()) == (("cat", "dog"), [1, 0, 1], [0])


def test_known_data_are_measured_on_test_and_trained_on_the_rest(tmp_path):
    for name, labels in (("train", [0, 1]), ("validation", [1]), ("test", [0, 0, 1])):
        write(tmp_path / f"default/{name}/0000.parquet", labels, names=CARS)
    known = [len(opened(tmp_path, split, form=CARS_PARQUET)) for split in ("train", "val")]
    assert known == [3, 3]
    assert [len(opened(tmp_path, split)) for split in ("train", "val")] == [2, 1]


def test_without_another_split_a_fraction_is_held_out(tmp_path):
    write(tmp_path / "rows.parquet", [0, 1] * 10)
    root = tmp_path / "rows.parquet"
    train, val = (opened(root, split, val_fraction=0.2) for split in ("train", "val"))
    assert (len(train), len(val)) == (16, 4)
    assert not {*train.ids} & {*val.ids}
    with pytest.raises(DeitkitError, match="no validation images"):
        opened(root, "val")


def test_a_test_split_alone_is_enough_to_evaluate_on(tmp_path):
    write(tmp_path / "test-0.parquet", [1, 0], names=CARS)
    assert opened(tmp_path, "val", form=CARS_PARQUET).labels.tolist() == [1, 0]
    with pytest.raises(DeitkitError, match="no training images"):
        opened(tmp_path, form=CARS_PARQUET)


def test_columns_can_be_named(tmp_path):
    table = pa.table({"photo": [{"bytes": b"a"}], "image": [{"bytes": b"b"}], "breed": ["x"], "label": [3]})
    parquet.write_table(table, tmp_path / "train.parquet")
    source = opened(tmp_path, image_column="image", label_column="breed")
    assert (source.read(0), source.class_names) == (b"b", ("x",))
    for settings in ({"image_column": "breed"}, {"label_column": "nothing"}):
        with pytest.raises(DeitkitError, match=f"no column of .* '{next(iter(settings.values()))}'") as caught:
            opened(tmp_path, **settings)
        assert caught.value.choices == ("photo", "image", "breed", "label")


def test_tables_without_images_are_left_to_other_forms(tmp_path):
    parquet.write_table(pa.table({"path": ["a.jpg"], "label": [0]}), tmp_path / "train.parquet")
    write(tmp_path / "val.index.parquet", [0])
    write(tmp_path / "trains/train.parquet", [0])
    assert not IMAGE_PARQUET.matches(tmp_path)
    assert not IMAGE_PARQUET.matches(tmp_path / "nowhere")
    (tmp_path / "x.csv").touch()
    assert not IMAGE_PARQUET.matches(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1, 2], r"2 rows: row 1 \(-1\), row 2 \(2\)"),
        ([0, None, 1], r"1 rows: row 1 \(None\)"),
        ([0.5, 1.0], "neither whole numbers nor text, but double"),
        ([[0], [1]], "neither whole numbers nor text, but list"),
    ],
)
def test_wrong_labels_are_named(tmp_path, labels, message):
    write(tmp_path / "train.parquet", labels, names=("cat", "dog"))
    with pytest.raises(DeitkitError, match=message):
        opened(tmp_path)


def test_a_class_that_training_lacks_is_named(tmp_path):
    write(tmp_path / "train.parquet", ["cat", "dog"])
    write(tmp_path / "val.parquet", ["cat", "cow"])
    with pytest.raises(DeitkitError, match=r"no class of the training images\n.*row 1 \('cow'\)"):
        opened(tmp_path, "val")


def test_a_cut_file_and_a_missing_image_are_named(tmp_path):
    path = tmp_path / "train.parquet"
    parquet.write_table(pa.table({"image": [{"bytes": None, "path": "x.jpg"}, {"bytes": b"a"}], "label": [0, 1]}), path)
    with pytest.raises(DeitkitError, match=r"train\.parquet/000000 .* has no image"):
        opened(tmp_path).read(0)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DeitkitError, match=r"cannot read .*train\.parquet"):
        opened(tmp_path)
    parquet.write_table(pa.table({"image": [b""], "label": [0]}).slice(0, 0), path)
    with pytest.raises(DeitkitError, match="has no rows"):
        opened(tmp_path)
    write(path, [0, 1])
    write(tmp_path / "test.parquet", [0, 1])
    with pytest.raises(DeitkitError, match="split of its own"):
        opened(tmp_path, val_fraction=0.1)
