"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): python and binary batches, npz, image folders. Fine labels only.

Pickles are checked against the published sums before they are read, and then may hold arrays and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deitkit.data.datasets.class_lists import class_list
from deitkit.data.formats.annotated import AGAIN
from deitkit.data.formats.canonical import KnownClasses, canonical_folder, canonical_names
from deitkit.data.formats.image_parquet import canonical_parquet
from deitkit.data.formats.split import TEST_SERVES, refuse_fraction
from deitkit.data.source import Form, Images, Indices, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

PIXELS = 3 * 32 * 32
# How the arrays of an npz archive are called, in lower case; {} is the split.
PIXEL_KEYS = ("x_{}", "{}_x", "{}_images", "images_{}", "{}_data", "data_{}")
LABEL_KEYS = ("y_{}", "{}_y", "{}_labels", "labels_{}", "{}_fine_labels")
# The five trees of CIFAR-100 as some mirrors, and the data set's own page, call them.
ALSO = {name: f"{name}_tree" for name in ("maple", "oak", "palm", "pine", "willow")}


@dataclass(frozen=True, kw_only=True)
class PixelImages(Images):
    """Images of one array: pixels [N, 3072] are all red, all green, then all blue values of 32 x 32 pixels."""

    pixels: npt.NDArray[np.uint8]

    def read(self, index: int) -> bytes:
        """A PPM file: a header, then the pixels themselves."""
        rows = self.pixels[index].reshape(3, 32, 32).transpose(1, 2, 0)
        return b"P6 32 32 255\n" + bytes(rows.tobytes())


@dataclass(frozen=True)
class CifarLayout:
    """The published files of one of the two; a binary record is `label_bytes`, the last one fine, then its pixels."""

    dataset: str
    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels_key: str
    names_key: str
    binary_folder: str
    binary_names: str
    label_bytes: int

    def files(self, split: str) -> tuple[str, ...]:
        return self.train if split == "train" else (self.test,)


CIFAR10 = CifarLayout(
    dataset="cifar10",
    folder="cifar-10-batches-py",
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    meta="batches.meta",
    labels_key="labels",
    names_key="label_names",
    binary_folder="cifar-10-batches-bin",
    binary_names="batches.meta.txt",
    label_bytes=1,
)
CIFAR100 = CifarLayout(
    dataset="cifar100",
    folder="cifar-100-python",
    train=("train",),
    test="test",
    meta="meta",
    labels_key="fine_labels",
    names_key="fine_label_names",
    binary_folder="cifar-100-binary",
    binary_names="fine_label_names.txt",
    label_bytes=2,
)


def published_md5s(layout: CifarLayout) -> dict[str, str]:
    """File name -> md5, as torchvision keeps them."""
    from torchvision import datasets

    known = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[layout.dataset]
    return {**dict(known.train_list), **dict(known.test_list), known.meta["filename"]: known.meta["md5"]}


def open_python(root: Path, data: schema.Data, split: str, *, layout: CifarLayout) -> Source:
    """One split of the python batches, in their order.

    Raises:
        DeitkitError: a file is missing, is not the published one, or does not hold images and labels.
    """
    folder = _folder(root, layout.folder, layout.test, layout.meta) or root
    files = layout.files(split)
    _require(folder, (*files, layout.meta), layout)
    refuse_fraction(data, root, layout.test)
    sums = published_md5s(layout)
    names = _read_pickle(folder / layout.meta, sums[layout.meta]).get(layout.names_key)
    batches = [(folder / name, _read_pickle(folder / name, sums[name])) for name in files]
    parts = [_batch(path, content, layout.labels_key) for path, content in batches]
    pixels = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    return _images(folder, data, split, names=names or (), labels=labels, pixels=pixels)


def open_binary(root: Path, data: schema.Data, split: str, *, layout: CifarLayout) -> Source:
    """One split of the binary batches, in their order.

    Raises:
        DeitkitError: a file is missing, is not made of whole records, or has labels that are no class.
    """
    folder = _folder(root, layout.binary_folder, f"{layout.test}.bin", layout.binary_names) or root
    files = tuple(f"{name}.bin" for name in layout.files(split))
    _require(folder, (*files, layout.binary_names), layout)
    refuse_fraction(data, root, layout.test)
    record = layout.label_bytes + PIXELS
    for name in files:
        size = (folder / name).stat().st_size
        if not size or size % record:
            what = f"{folder / name} has {size:,} bytes, which are not records of {record:,} bytes each"
            raise DeitkitError(what, value=folder / name, remedy=AGAIN)
    records = np.concatenate([np.fromfile(folder / name, dtype=np.uint8).reshape(-1, record) for name in files])
    labels = records[:, layout.label_bytes - 1].astype(np.int64)
    names = (folder / layout.binary_names).read_text("utf-8", "replace").split("\n")
    names = [name.strip() for name in names if name.strip()]
    return _images(folder, data, split, names=names, labels=labels, pixels=records[:, layout.label_bytes :])


def open_npz(root: Path, data: schema.Data, split: str, *, layout: CifarLayout) -> Source:
    """One split of an npz archive of NumPy's, as Keras and many scripts keep it: `x_train`, `y_train`, `x_test`, ...

    Raises:
        DeitkitError: it is damaged, lacks the split, or does not hold pixels and labels.
    """
    path = npz_files(root, layout.dataset)[0]
    refuse_fraction(data, root, path.name)
    words = ("train",) if split == "train" else ("test", "val")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = {name.lower(): name for name in archive.files}
            keys = [_key(names, forms, words) for forms in (PIXEL_KEYS, LABEL_KEYS)]
            pixels, labels = (archive[key] if key else None for key in keys)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DeitkitError(f"{path} is no readable npz archive: {error}", value=path, remedy=AGAIN) from error
    if pixels is None or labels is None:
        what = f"{path} has no {' or '.join(words)} images with labels, but {', '.join(names.values())}"
        raise DeitkitError(what, value=path, remedy="call the arrays x_train, y_train, x_test and y_test")
    planes, numbers = _planes(pixels), labels.reshape(-1)
    if planes is None or numbers.dtype.kind not in "iu" or len(numbers) != len(planes):
        what = f"{path} holds {pixels.dtype} images {list(pixels.shape)} and {labels.dtype} labels {list(labels.shape)}"
        remedy = "images are uint8 [N, 32, 32, 3], [N, 3, 32, 32] or [N, 3072], labels whole numbers [N]"
        raise DeitkitError(what, value=path, remedy=remedy)
    classes = class_list(data.dataset)
    return _images(path, data, split, names=classes, labels=numbers.astype(np.int64), pixels=planes)


def npz_files(root: Path, dataset: str) -> list[Path]:
    """The archives in a folder that are called like the data set, by any of its spellings."""
    if not root.is_dir():
        return []
    return [path for path in sorted(root.glob("*.npz")) if "".join(filter(str.isalnum, path.stem.lower())) == dataset]


def _key(names: Mapping[str, str], forms: Sequence[str], words: Sequence[str]) -> str | None:
    """The archive's own name of an array, whichever way it is written."""
    return next((names[key] for word in words for form in forms if (key := form.format(word)) in names), None)


def _planes(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8] | None:
    """Pixels as [N, 3072], all red, all green, then all blue values; None where they are no such images."""
    if pixels.dtype != np.uint8:
        return None
    if pixels.shape[1:] == (32, 32, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    return pixels.reshape(len(pixels), PIXELS) if pixels.shape[1:] in ((3, 32, 32), (PIXELS,)) else None


def _images(
    folder: Path,
    data: schema.Data,
    split: str,
    *,
    names: Sequence[str],
    labels: Indices,
    pixels: npt.NDArray[np.uint8],
) -> Source:
    classes = class_list(data.dataset)
    if canonical_names(names, classes, also=ALSO) != classes:
        what = f"the class names in {folder} are not the {len(classes)} of {data.dataset}: {', '.join(names[:3])} ..."
        raise DeitkitError(what, value=folder, remedy=AGAIN)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes))).tolist()
    if wrong:
        listed = counted("labels", [f"image {index} ({labels[index]})" for index in wrong])
        what = f"{split} labels in {folder} are not 0..{len(classes) - 1}"
        raise DeitkitError(what, value=folder, problems=[listed], remedy=AGAIN)
    return PixelImages(
        dataset=data.dataset,
        split=split,
        class_names=classes,
        labels=labels,
        ids=PackedNames([f"{split}/{index:05d}" for index in range(len(labels))]),
        pixels=np.ascontiguousarray(pixels),
        notes=(TEST_SERVES,) if split == "val" else (),
    )


def _batch(path: Path, content: dict[str, Any], key: str) -> tuple[npt.NDArray[np.uint8], Indices]:
    """Pixels [N, 3072] and labels [N] of one batch."""
    pixels, labels = content.get("data"), content.get(key)
    if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and isinstance(labels, list):
        numbers = np.array(labels)
        if pixels.shape == (len(labels), PIXELS) and numbers.dtype.kind == "i":
            return pixels, numbers.astype(np.int64)
    what = f"{path} does not hold data [N, {PIXELS}] with {key} [N]"
    raise DeitkitError(what, value=path, remedy=AGAIN)


def _read_pickle(path: Path, published: str) -> dict[str, Any]:
    """A batch whose sum is the published one: a pickle can run any program, so no other is opened."""
    content = path.read_bytes()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != published:
        raise DeitkitError(
            f"{path} is not the published file, so it is not opened: a pickle can run any program",
            value=path,
            problems=[f"md5 {found}", f"published {published}"],
            remedy="get it again: `deitkit data download` checks what it fetches",
        )
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DeitkitError(f"cannot read {path}: {error}", value=path, remedy=AGAIN) from error
    if not isinstance(batch, dict):
        raise DeitkitError(f"{path} holds no batch but a {type(batch).__name__}", value=path, remedy=AGAIN)
    return batch


class _ArraysOnly(pickle.Unpickler):
    """Makes arrays, numbers, strings, lists and dicts; md5 alone proves little against intent."""

    def find_class(self, module: str, name: str) -> Any:
        array = np.empty(0)
        if (module, name) in (("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")):
            return array.__reduce__()[0]
        if (module, name) in (("numpy", "ndarray"), ("numpy", "dtype")):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it wants {module}.{name}, which is no part of an array")


def _require(folder: Path, names: Sequence[str], layout: CifarLayout) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DeitkitError(
            f"{layout.dataset} in {folder} lacks {', '.join(missing)}",
            value=folder,
            problems=[f"looked for {folder / name}" for name in missing],
            remedy=f"get it again: `deitkit data download {layout.dataset}`",
        )


def _folder(root: Path, name: str, *files: str) -> Path | None:
    """The folder of batches: below the root, or the root itself where it has these files."""
    if (root / name).is_dir():
        return root / name
    return root if all((root / file).is_file() for file in files) else None


def _forms(layout: CifarLayout) -> tuple[Form, ...]:
    classes = KnownClasses(partial(class_list, layout.dataset), numbered_from=0, also=ALSO)
    batches = (*layout.train, layout.test)
    binary = (*(f"{name}.bin" for name in batches), layout.binary_names)
    first = classes.names()[0]
    return (
        Form(
            "python batches",
            f"ROOT/{layout.folder}/{{{', '.join((*batches, layout.meta))}}}",
            lambda root: _folder(root, layout.folder, layout.test, layout.meta) is not None,
            partial(open_python, layout=layout),
        ),
        Form(
            "binary batches",
            f"ROOT/{layout.binary_folder}/{{{', '.join(binary)}}}",
            lambda root: _folder(root, layout.binary_folder, f"{layout.test}.bin", layout.binary_names) is not None,
            partial(open_binary, layout=layout),
        ),
        Form(
            "npz archive",
            f"ROOT/{layout.dataset}.npz with x_train, y_train, x_test, y_test",
            lambda root: bool(npz_files(root, layout.dataset)),
            partial(open_npz, layout=layout),
        ),
        canonical_folder(
            classes,
            tree=f"ROOT/train/{first}/IMAGE ... and ROOT/test/{first}/IMAGE ...",
            below=(".", layout.dataset),
        ),
        canonical_parquet(classes),
    )


CIFAR10_FORMS = _forms(CIFAR10)
CIFAR100_FORMS = _forms(CIFAR100)
