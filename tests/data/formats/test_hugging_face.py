"""Data written by the real `datasets` library, read without decoding, and the hub where it cannot be reached."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.data.formats import arrow, hugging_face
from deitkit.data.formats.arrow import encoded
from deitkit.data.formats.hugging_face import SAVED, open_hub
from deitkit.data.views.augment import decode
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data

datasets = pytest.importorskip("datasets", reason="the optional dependency `datasets` is not installed")


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()


@pytest.fixture
def jpegs(shared_data) -> list[Path]:
    return sorted((shared_data / "flowers102/jpg").glob("*.jpg"))[:7]


def pixels(count: int, *, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(count, 6, 5, 3), dtype=np.uint8)


def table(count: int, *, names=("cat", "dog"), seed: int = 0, **columns):
    """Images of random pixels with labels 0, 1, 0, ..."""
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=list(names)))
    images = [Image.fromarray(image) for image in pixels(count, seed=seed)]
    return datasets.Dataset.from_dict(
        {"image": images, "label": [row % len(names) for row in range(count)]} | columns, features=features
    )


def opened(root: Path, split: str = "train", **settings):
    assert SAVED.matches(root)
    return SAVED.open(root, Data(dataset="folder", path=str(root), **{"split_rule": "place", **settings}), split)


def shown(source, index: int) -> np.ndarray:
    return np.asarray(decode(source.read(index), source.ids[index]))


# Saved on disk


def test_original_bytes_come_back_from_several_files(tmp_path, jpegs):
    features = datasets.Features(picture=datasets.Image(), kind=datasets.ClassLabel(names=["b", "a", "unused"]))
    columns = {"picture": [str(path) for path in jpegs], "kind": [row % 2 for row in range(7)]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved", num_shards=3)
    source = opened(tmp_path / "saved")
    assert [source.read(row) for row in range(7)] == [path.read_bytes() for path in jpegs]
    assert source.read(-1) == jpegs[-1].read_bytes()
    assert source.class_names == ("b", "a", "unused")
    assert source.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert list(source.ids)[:2] == ["train/000000", "train/000001"]
    assert source.path(0) is None
    with pytest.raises(IndexError):
        source.read(7)


@pytest.mark.parametrize("val", ["validation", "test"])
def test_splits_keep_their_names_in_ids(tmp_path, val):
    parts = datasets.DatasetDict({"train": table(6), val: table(4, seed=1)})
    parts.save_to_disk(tmp_path / "saved")
    source = opened(tmp_path / "saved", "val")
    assert (source.split, len(source), source.ids[3]) == ("val", 4, f"{val}/000003")
    assert np.array_equal(shown(source, 3), pixels(4, seed=1)[3])
    with pytest.raises(DeitkitError, match=r"split of its own: (val|test)"):
        opened(tmp_path / "saved", val_fraction=0.5)


def test_a_part_is_held_out_where_there_is_no_other_split(tmp_path):
    table(20).save_to_disk(tmp_path / "saved")
    train, val = (opened(tmp_path / "saved", split, val_fraction=0.2) for split in ("train", "val"))
    assert (np.bincount(train.labels).tolist(), np.bincount(val.labels).tolist()) == ([8, 8], [2, 2])
    assert sorted([*train.ids, *val.ids]) == [f"train/{row:06d}" for row in range(20)]
    with pytest.raises(DeitkitError, match="no validation images"):
        opened(tmp_path / "saved", "val")


def test_a_test_split_without_labels_is_left_out(tmp_path):
    hidden = table(4).remove_columns("label").add_column("label", [-1] * 4).cast(table(1).features)
    datasets.DatasetDict(train=table(6), test=hidden).save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=table(6), test=table(4).remove_columns("label")).save_to_disk(tmp_path / "two")
    for root in (tmp_path / "one", tmp_path / "two"):
        source = opened(root, "val", val_fraction=0.5)
        assert source.ids[0].startswith("train/")
        assert source.notes[0] == "test has no labels and is left out"


def test_labels_may_be_text_or_numbers_and_are_matched_by_name(tmp_path):
    features = datasets.Features(image=datasets.Image(), species=datasets.Value("string"), n=datasets.Value("int32"))
    images = [Image.fromarray(image) for image in pixels(3)]
    train = {"image": images, "species": ["fox", "ant", "fox"], "n": [10, 9, 9]}
    test = {"image": images[:1], "species": ["fox"], "n": [10]}
    parts = {
        name: datasets.Dataset.from_dict(rows, features=features)
        for name, rows in {"train": train, "test": test}.items()
    }
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert opened(tmp_path / "saved").class_names == ("ant", "fox")
    val = opened(tmp_path / "saved", "val")
    assert val.labels.tolist() == [1]
    assert val.notes[0].startswith("1 classes have no images in test of ")
    numbers = opened(tmp_path / "saved", label_column="n")
    assert (numbers.class_names, numbers.labels.tolist()) == (("9", "10"), [1, 0, 0])


def test_class_labels_in_another_order_are_matched_by_name(tmp_path):
    parts = datasets.DatasetDict(train=table(4), test=table(4, names=("dog", "cat")))
    parts.save_to_disk(tmp_path / "saved")
    assert opened(tmp_path / "saved", "val").labels.tolist() == [1, 0, 1, 0]


def test_fine_labels_go_before_coarse_ones(tmp_path):
    names = {"coarse_label": ["plant", "animal"], "fine_label": ["oak", "elm", "ape"]}
    features = datasets.Features(
        img=datasets.Image(), **{key: datasets.ClassLabel(names=values) for key, values in names.items()}
    )
    rows = {"img": [Image.fromarray(i) for i in pixels(3)], "coarse_label": [0, 0, 1], "fine_label": [0, 1, 2]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved")
    assert opened(tmp_path / "saved").class_names == ("oak", "elm", "ape")
    assert opened(tmp_path / "saved", label_column="coarse_label").class_names == ("plant", "animal")


@pytest.mark.parametrize("channels_first", [False, True])
def test_stored_arrays_become_images(tmp_path, channels_first):
    stored = pixels(4)
    arrays = np.moveaxis(stored, -1, 1) if channels_first else stored
    features = datasets.Features(
        x=datasets.Array3D(shape=arrays.shape[1:], dtype="uint8"), y=datasets.ClassLabel(num_classes=2)
    )
    datasets.Dataset.from_dict({"x": arrays, "y": [0, 1, 1, 0]}, features=features).save_to_disk(tmp_path / "saved")
    source = opened(tmp_path / "saved")
    assert all(np.array_equal(shown(source, row), stored[row]) for row in range(4))
    assert source.class_names == ("0", "1")


def test_images_of_which_only_the_path_is_stored_are_read_there(tmp_path, jpegs):
    """As in the library's cache of a folder of images, whose files stay where they are."""
    for index, path in enumerate(jpegs):
        (tmp_path / "folder" / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "folder" / "ab"[index % 2])
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), cache_dir=str(tmp_path / "cache"))
    source = hugging_face._open(loaded, Data(dataset="hf:x", split_rule="place"), "train", where="hf:x")
    stored = sorted((tmp_path / "folder").rglob("*.jpg"))
    assert sorted(source.read(index) for index in range(7)) == sorted(path.read_bytes() for path in stored)
    assert {source.path(index) for index in range(7)} == set(stored)
    source.path(0).unlink()
    with pytest.raises(DeitkitError, match="No such file"):
        source.read(0)


def test_a_pickled_source_is_small_and_reads_in_other_processes(tmp_path):
    table(40).save_to_disk(tmp_path / "saved")
    source = opened(tmp_path / "saved")
    here = source.read(39)
    again = pickle.loads(pickle.dumps(source))
    assert again.read(39) == here and again.fingerprint == source.fingerprint
    assert len(pickle.dumps(source)) < 2_000
    script = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).read(39)); "
    script += "assert 'datasets' not in sys.modules and 'torch' not in sys.modules"
    fresh = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(source), capture_output=True, check=True)
    assert fresh.stdout == here
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(source.read, [39, 0, 39]) == [here, source.read(0), here]


# What is wrong


def test_pixels_that_are_none_are_refused():
    assert np.asarray(Image.open(io.BytesIO(encoded([[0, 255], [7, 8]])))).tolist() == [[0, 255], [7, 8]]
    for values in ([[0.5]], [[256]], [[-1]], [1, 2], [[[[1]]]], [["a"]], np.zeros((2, 2, 5))):
        with pytest.raises(ValueError, match="no 8-bit pixels"):
            encoded(values)


@pytest.mark.parametrize(
    ("build", "settings", "message"),
    [
        (lambda: table(2).rename_column("label", "answer").cast_column("answer", datasets.Value("int64")), {},
         "no label column that is known"),
        (lambda: table(2).remove_columns("image"), {}, "no image column that is known"),
        (lambda: table(2), {"label_column": "lable"}, "no such column. Did you mean label"),
        (lambda: table(2), {"label_column": "image"}, "neither names nor whole numbers"),
        (lambda: table(3, label=[0, None, 1]), {}, "1 images in train of .* have no label: train/000001"),
        (lambda: table(3, image=[None] * 3), {}, "cannot read image train/000000 of folder: it is empty"),
        (lambda: table(2, label=[0, 0]), {}, "only one class, 'cat'"),
        (lambda: datasets.DatasetDict(one=table(2), two=table(2)), {}, "no splits of known names, but one, two"),
        (lambda: datasets.DatasetDict(test=table(2)), {}, "has no training images: there is test"),
        (lambda: table(0), {}, "cannot be read as data saved"),
    ],
)  # fmt: skip
def test_wrong_data_are_an_error_that_helps(tmp_path, build, settings, message):
    build().save_to_disk(tmp_path / "saved")
    with pytest.raises(DeitkitError, match=message) as caught:
        opened(tmp_path / "saved", **settings).read(0)
    assert caught.value.remedy


def test_a_class_of_val_that_train_lacks_is_an_error(tmp_path):
    parts = datasets.DatasetDict(train=table(4), test=table(4, names=("cat", "cow")))
    parts.save_to_disk(tmp_path / "saved")
    with pytest.raises(DeitkitError, match="classes that the training images do not have: cow"):
        opened(tmp_path / "saved", "val")


def test_damaged_files_are_named(tmp_path):
    root = tmp_path / "saved"
    table(4).save_to_disk(root)
    file = next(root.glob("*.arrow"))
    source = opened(root)
    content = file.read_bytes()
    file.write_bytes(content[:40])
    with pytest.raises(DeitkitError, match="saved"):
        opened(root)
    file.unlink()
    arrow.mapped.cache_clear()
    with pytest.raises(DeitkitError, match=r"cannot read .*\.arrow"):
        source.read(0)
    (root / "state.json").write_text("{")
    with pytest.raises(DeitkitError, match="cannot be read as data saved by `datasets`"):
        opened(root)
    assert not SAVED.matches(tmp_path)


def test_without_the_library_the_remedy_installs_it(tmp_path, monkeypatch):
    table(2).save_to_disk(tmp_path / "saved")
    monkeypatch.setitem(sys.modules, "datasets", None)
    for open_it in (lambda: opened(tmp_path / "saved"), lambda: open_hub(Data(dataset="hf:a/b"), "train")):
        with pytest.raises(DeitkitError, match="not installed") as caught:
            open_it()
        assert caught.value.remedy == "pip install 'deitkit[hf]'"


def test_a_library_that_executes_other_peoples_code_is_refused(monkeypatch):
    monkeypatch.setattr(datasets, "__version__", "3.6.0")
    with pytest.raises(DeitkitError, match=r"datasets 3\.6\.0 is too old"):
        open_hub(Data(dataset="hf:a/b"), "train")


# By name


def offline(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Runs code in a fresh Python whose cache is `home` and which may not use the network."""
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    prelude = (
        "from deitkit.recipe.schema import Data\nfrom deitkit.errors import DeitkitError\n"
        "from deitkit.data.formats.hugging_face import open_hub\n"
    )
    return subprocess.run([sys.executable, "-c", prelude + code], env=environment, capture_output=True, text=True)


def test_without_network_and_cache_the_error_has_the_two_commands(tmp_path):
    result = offline(
        "try: open_hub(Data(dataset='hf:own/er:big'), 'val')\nexcept DeitkitError as e: print(e)", tmp_path
    )
    assert "hf:own/er:big cannot be loaded: Couldn't reach" in result.stdout, result.stderr
    assert "load_dataset('own/er', 'big').save_to_disk('FOLDER')" in result.stdout
    assert "hf download --repo-type dataset own/er --local-dir FOLDER" in result.stdout
    assert "--data FOLDER" in result.stdout


def test_cached_data_of_the_hub_are_read_without_network(tmp_path):
    """The library's own cache of a data set, put where it keeps those of `owner/flowers`."""
    for name in ("train", "test"):
        table(6, seed=len(name)).to_parquet(tmp_path / f"{name}.parquet")
    files = {name: str(tmp_path / f"{name}.parquet") for name in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    built = Path(loaded["train"].cache_files[0]["filename"]).parent
    place = tmp_path / "home/datasets/owner___flowers/default/0.0.0/abc"
    shutil.copytree(built, place)
    for file in place.glob("*.arrow"):
        file.rename(place / file.name.replace("parquet-", "flowers-"))
    info = json.loads((place / "dataset_info.json").read_text())
    info |= {"dataset_name": "flowers", "config_name": "default", "builder_name": "parquet"}
    (place / "dataset_info.json").write_text(json.dumps(info))
    code = (
        "source = open_hub(Data(dataset='hf:owner/flowers', split_rule='place'), 'val')\n"
        "print(source.dataset, source.split, len(source), source.class_names, source.ids[5], len(source.read(5)))"
    )
    result = offline(code, tmp_path / "home")
    undecoded = table(6, seed=4).cast_column("image", datasets.Image(decode=False))
    expected = len(undecoded[5]["image"]["bytes"])
    assert result.stdout.strip() == f"hf:owner/flowers val 6 ('cat', 'dog') test/000005 {expected}", result.stderr


def test_name_and_configuration_are_told_apart(monkeypatch):
    asked = []

    def load(*words, **options):
        asked.append((words, options))
        raise ValueError("BuilderConfig 'big' not found. Available: ['small']")

    monkeypatch.setattr(datasets, "load_dataset", load)
    for dataset in ("hf:name", "hf:owner/name", "hf:owner/name:big"):
        with pytest.raises(DeitkitError, match=r"cannot be loaded: .*Available: \['small'\]"):
            open_hub(Data(dataset=dataset), "train")
    assert [words for words, _ in asked] == [("name", None), ("owner/name", None), ("owner/name", "big")]
    assert all(not options.get("trust_remote_code") for _, options in asked)


def test_a_folder_of_that_name_is_not_taken_for_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    with pytest.raises(DeitkitError, match="meant to be on the hub"):
        open_hub(Data(dataset="hf:cifar10"), "train")
