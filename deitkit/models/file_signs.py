"""What a file is by its first bytes, whatever its name: safetensors, a pickle, a program of torch's, or something that
holds no weights.

Reads no tensor.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deitkit.errors import DeitkitError
from deitkit.files import open_regular

WeightsForm = Literal["safetensors", "pickle", "program"]
HEAD_BYTES = 512
ABOUT_FILE = "deitkit.json"  # in a torch.export program
PRODUCER = b"\x12\x07deitkit"  # an ONNX model's producer_name
PICKLES = (b"PK\x03\x04", b"\x80")  # torch's form since 1.6, and the one before it
CONVERT = "convert it where its framework is: safetensors.torch.save_file(state_dict, 'weights.safetensors')"


@dataclass(frozen=True)
class Sign:
    """How files of a kind that deitkit does not read begin, in lower case."""

    starts: tuple[bytes, ...]
    what: str
    remedy: str
    at: int = 0  # bytes before the sign


SIGNS = (
    Sign(
        (b"version https://git-lfs.github.com/spec/",), "a Git LFS pointer: it only names the weights",
        "`git lfs pull` in its repository fetches them",
    ),
    Sign(
        (b"<!doctype", b"<html", b"<?xml"), "a web page, saved in place of the file",
        "download the file itself: on the Hugging Face hub its address has /resolve/ in place of /blob/",
    ),
    Sign((b"\x89hdf\r\n",), "an HDF5 file, as Keras writes them", CONVERT),
    Sign((b"gguf",), "a GGUF file, whose weights are quantised", "take the PyTorch or safetensors file of that model"),
    Sign((b"\x1f\x8b", b"7z\xbc\xaf", b"\xfd7zxz", b"bzh"), "a compressed file", "unpack it, and name the file in it"),
    Sign((b"ustar",), "a tar archive", "unpack it, and name the file in it", at=257),
    Sign(
        (b"{",), "a JSON file: a config, or the index of weights in several files",
        "name the folder, or join the parts: safetensors.torch.save_file of their tensors together",
    ),
)  # fmt: skip


def is_program(path: Path) -> bool:
    """Whether it is a torch.export program that deitkit exported: what deitkit says of the model lies in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _any_ends(archive.namelist(), f"/extra/{ABOUT_FILE}")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def is_exported_onnx(path: Path) -> bool:
    """Whether deitkit wrote this ONNX file: its second field, behind the format's version, names who did."""
    try:
        with open_regular(path) as file:
            return PRODUCER in file.read(16)
    except OSError:
        return False


def form_of(path: Path) -> WeightsForm:
    """Whether a file holds safetensors, a program of torch's or a pickle; what looks like neither is taken by its name.

    Raises:
        DeitkitError: it is of another kind; the remedy is that kind's.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if head[8:9] == b"{":  # behind the length of a safetensors header
        return "safetensors"
    if head.startswith(PICKLES[0]):
        if is_program(path):
            return "program"
        _refuse_other_zip(path)
    if head.startswith(PICKLES):
        return "pickle"
    lowered = head.lstrip(b"\xef\xbb\xbf \r\n").lower() if head[:1] in b"\xef \r\n<" else head.lower()
    if not head:
        raise _other(path, "empty: it has no bytes", "copy it again")
    for sign in SIGNS:
        if lowered[sign.at :].startswith(sign.starts):
            raise _other(path, sign.what, sign.remedy)
    return "safetensors" if path.suffix == ".safetensors" else "pickle"


def _refuse_other_zip(path: Path) -> None:
    """Raise where a zip archive has other members than torch.save writes; a damaged one is left to the reader."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    if _any_ends(names, "/constants.pkl"):
        remedy = "save its weights where you trust it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth')"
        raise _other(path, "a TorchScript archive: code, which was not executed", remedy)
    if _any_ends(names, "/models/model.json"):
        remedy = "name what it was exported from, or save its state_dict() where you trust it"
        raise _other(path, "a torch.export program of another making: code, which was not executed", remedy)
    if _any_ends(names, ".npy"):
        raise _other(path, "an npz archive of NumPy's, as JAX models come in", CONVERT)
    if not _any_ends(names, "data.pkl"):
        raise _other(path, "a zip archive without weights of torch's", "unpack it, and name the file in it")


def _any_ends(names: Sequence[str], ending: str) -> bool:
    return any(name.endswith(ending) for name in names)


def _other(path: Path, what: str, remedy: str) -> DeitkitError:
    return DeitkitError(f"{path} is {what}", value=str(path), remedy=remedy)
