"""What a model's heads read of every image, [N, D] a token, kept beside the model's predictions. Compares nothing.

One `.npy` a token, and `.embeddings.json`, written last: which weights, protocol and images they are of. Where any of
that is another, or the header is missing, they are made anew. Legend: N images, B batch, D width.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, with_config
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from typing_extensions import TypedDict

from deitkit.data.open import Source, open_source
from deitkit.data.views.augment import Reading
from deitkit.distributed import pick_device
from deitkit.errors import DeitkitError
from deitkit.files import saving, write_atomic
from deitkit.models.load import LoadedModel, load_model
from deitkit.models.reference import EMA, Reference
from deitkit.models.student import TOKEN_NAMES, Student
from deitkit.predictions.predict import evaluation_loader
from deitkit.predictions.table import predictions_path
from deitkit.recipe.schema import Data
from deitkit.records import read_json

FEATURES = "features"  # of a model without a class token: pooled, as its one head reads them
FORMAT = 1
SUFFIX = ".embeddings.json"

Arrays = dict[str, NDArray[np.float32]]
Kept = tuple[Arrays, set[int]]  # arrays of the images that could be read; the rows of the source that they leave out
Progress = Callable[[int, int], None]  # (images done, images in all)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What a classifier's heads read of N images: `tokens` "class" and perhaps "distillation", or "features"; [N, D].

    Tokens are after the final norm, and dropout is off. Arrays of `token_embeddings` are memory-mapped, for reading.
    `fingerprint` is the whole source's; `weights` a sha256 over the model's tensors and protocol.
    """

    classifier: str
    ids: list[str]
    tokens: Arrays
    dataset: str = ""
    split: str = ""
    fingerprint: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        wrong = {name: array.shape for name, array in self.tokens.items() if array.shape[:-1] != (len(self.ids),)}
        if wrong:
            raise ValueError(f"{len(self.ids)} image ids, but other shapes than [N, D]: {wrong}")


def embed(student: Student, images: Tensor) -> dict[str, Tensor]:
    """images [B, 3, H, W], normalised -> what each head reads: "class" and "distillation", or "features"; each [B, D].

    Raises:
        DeitkitError: the network has no such vector (not of timm's usual form).
    """
    network = student.network
    features = network.forward_features(images)
    if student.distilled:
        return {name: features[:, place] for place, name in enumerate(TOKEN_NAMES)}
    pooled = network.forward_head(features, pre_logits=True)
    if not isinstance(pooled, Tensor) or pooled.ndim != 2:
        what = f"{student.architecture} has no vector that its head reads, so there are no embeddings"
        raise DeitkitError(what, value=student.architecture, remedy="choose a DeiT, a ViT or a usual convnet")
    reads_token = isinstance(network, VisionTransformer) and network.global_pool == "token"
    return {TOKEN_NAMES[0] if reads_token else FEATURES: pooled}


def token_embeddings(
    reference: str,
    settings: Data,
    split: str,
    *,
    data: str = "",
    device: str = "auto",
    progress: Progress | None = None,
    model: LoadedModel | None = None,
) -> Embeddings:
    """A model's embeddings of a split: found where they are kept, or made, batch by batch, and kept.

    `reference` is what `load_model` reads, or what `model` was read from; `data` the folder that a user named in place
    of the run's own. Unreadable images are an error, or left out where `settings` say so. `progress` is called after
    each batch, and not where they are found.

    Raises:
        DeitkitError: there is no such model, an image cannot be read, or the weights have diverged.
    """
    model, source = model or load_model(reference), open_source(settings, split)
    path, about = embeddings_path(reference, settings.dataset, split, data=data), _about(model, source)
    found = _find(path, about)
    if found is None:
        batches = _batches(model, source, Reading.of(settings), device=pick_device(device), progress=progress)
        found = _keep(path, about, batches, images=len(source))
    return _of(reference, source, found, about)


def kept_embeddings(reference: str, settings: Data, split: str, *, model: LoadedModel) -> Embeddings | None:
    """As `token_embeddings` of this model where they are kept; None where they would have to be made."""
    path = embeddings_path(reference, settings.dataset, split)
    if not path.is_file():
        return None
    source = open_source(settings, split)
    about = _about(model, source)
    found = _find(path, about)
    return None if found is None else _of(reference, source, found, about)


def _about(model: LoadedModel, source: Source) -> dict[str, Any]:
    """What embeddings are of: other weights, another protocol or other images make them anew."""
    return {
        "format": FORMAT,
        "weights": weights_identity(model),
        "dataset": source.dataset,
        "split": source.split,
        "fingerprint": source.fingerprint,
    }


def _of(reference: str, source: Source, found: Kept, about: Mapping[str, Any]) -> Embeddings:
    tokens, left_out = found
    ids = [image_id for index, image_id in enumerate(source.ids) if index not in left_out]
    name = Reference.parse(reference).short(1)
    return Embeddings(name, ids, tokens, source.dataset, source.split, source.fingerprint, about["weights"])


def embeddings_path(reference: str, dataset: str, split: str, *, data: str = "") -> Path:
    """The header's place, beside the predictions of the same images; the arrays lie beside it."""
    parsed = Reference.parse(reference)
    stem = predictions_path(parsed.model, dataset, split, data=data).with_suffix("")
    step = f"@{parsed.checkpoint}" if parsed.checkpoint not in ("", EMA) else ""
    return stem.with_name(f"{stem.name}{step}{SUFFIX}")


def weights_identity(model: LoadedModel) -> str:
    """sha256 over the model's tensors and over how it wants its images; what it calls its classes does not count."""
    info = model.info
    protocol = [info.size, info.mean, info.std, info.crop_ratio, info.interpolation, info.exif_orientation]
    if info.backend != "pil":  # said only where it differs, so that what earlier versions kept stays good
        protocol.append(info.backend)
    digest = hashlib.sha256(json.dumps([model.student.architecture, *protocol]).encode())
    for name, tensor in sorted(model.student.network.state_dict().items()):
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.view(-1).view(torch.uint8).numpy().data if array.numel() else b"")
    return digest.hexdigest()


# Making and keeping


@torch.inference_mode()
def _batches(
    model: LoadedModel, source: Source, reading: Reading, *, device: torch.device, progress: Progress | None
) -> Iterator[tuple[list[int], Arrays]]:
    """Batch by batch, the images that can be read and their embeddings."""
    student = model.student.eval().to(device)
    loader = evaluation_loader(source, model.info, device=device, reading=reading)
    for number, (indices, images, _) in enumerate(loader, 1):
        if len(images):
            arrays = {name: vectors.float().cpu().numpy() for name, vectors in embed(student, images).items()}
            if not all(np.isfinite(array).all() for array in arrays.values()):
                what = f"the embeddings of {model.origin} are not finite"
                raise DeitkitError(what, remedy="the weights have diverged: take an earlier checkpoint")
            yield indices.tolist(), arrays
        if progress is not None:
            progress(min(number * loader.batch_size, len(source)), len(source))


@with_config(ConfigDict(extra="allow"))
class _Header(TypedDict):
    """`widths` by token; `left_out` are the source's rows that could not be read."""

    rows: int
    widths: dict[str, int]
    left_out: list[int]


def _find(path: Path, about: Mapping[str, Any]) -> Kept | None:
    """What is kept, or None where that is not whole, or of another model, protocol or source."""
    try:
        header = read_json(path, _Header, remedy="it is made anew")
        tokens = {token: np.load(_array_path(path, token), mmap_mode="r") for token in header["widths"]}
        shapes = {token: (header["rows"], width) for token, width in header["widths"].items()}
        is_whole = {token: array.shape for token, array in tokens.items()} == shapes
        return (tokens, set(header["left_out"])) if is_whole and about.items() <= header.items() else None
    except (OSError, ValueError, EOFError, DeitkitError):  # absent, cut short, or no header of ours
        return None


def _keep(path: Path, about: Mapping[str, Any], batches: Iterable[tuple[list[int], Arrays]], *, images: int) -> Kept:
    """Write each batch as it comes, beside the place; rename when all are there. The header goes first, comes last."""
    columns: dict[str, _Rows] = {}
    seen: set[int] = set()
    try:
        for indices, arrays in batches:
            seen.update(indices)
            for token, rows in arrays.items():
                if token not in columns:
                    columns[token] = _Rows(_array_path(path, token), rows.shape[1])
                columns[token].add(rows)
        if not columns:
            raise DeitkitError("no image can be read", remedy="deitkit data verify says why")
        left_out = set(range(images)) - seen
        with saving(path):
            path.unlink(missing_ok=True)
            for column in columns.values():
                column.finish()
            widths = {token: column.width for token, column in columns.items()}
            header = {**about, "rows": len(seen), "widths": widths, "left_out": sorted(left_out)}
            write_atomic(path, json.dumps(header, indent=2) + "\n")
    finally:
        for column in columns.values():
            column.discard()
    return {token: np.load(column.path, mmap_mode="r") for token, column in columns.items()}, left_out


def _array_path(header: Path, token: str) -> Path:
    return header.with_name(f"{header.name.removesuffix(SUFFIX)}.{token}.npy")


class _Rows:
    """An `.npy` of float32 rows whose number is known at the end: numpy leaves room for it in the header."""

    def __init__(self, path: Path, width: int) -> None:
        self.path, self.width, self.count = path, width, 0
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._temporary, "wb")  # noqa: SIM115  (open from batch to batch)
            self._start = self._write_header()

    def add(self, rows: NDArray[np.float32]) -> None:
        """rows [B, D]."""
        with saving(self.path):
            self._file.write(np.ascontiguousarray(rows, dtype="<f4").data)
        self.count += len(rows)

    def finish(self) -> None:
        """Say how many rows there are, and put the file into its place."""
        self._file.seek(0)
        if self._write_header() != self._start:
            raise RuntimeError("numpy's header has grown into the rows")
        self._file.flush()
        os.fsync(self._file.fileno())
        os.replace(self._temporary, self.path)

    def discard(self) -> None:
        """Leave nothing beside the place."""
        try:
            with saving(self.path):
                self._file.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    def _write_header(self) -> int:
        about = {"descr": "<f4", "fortran_order": False, "shape": (self.count, self.width)}
        np.lib.format.write_array_header_1_0(self._file, about)
        return self._file.tell()
