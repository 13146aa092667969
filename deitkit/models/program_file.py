"""The tensors of a `torch.export` program that deitkit exported. The program itself is not run, nor any of its pickles.

torch's own loader executes what such a file holds, so a received one is only read: the network is rebuilt from what it
says of itself.
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.file_signs import ABOUT_FILE

INDEX = "data/weights/model_weights_config.json"
PREFIX = "student.network."  # before timm's names
DTYPES = {1: torch.uint8, 5: torch.int64, 6: torch.float16, 7: torch.float32}  # by the numbers of torch's archive


def read_program(path: Path) -> tuple[dict[str, Tensor], str]:
    """Its tensors under timm's names, and what deitkit wrote of the model.

    Raises:
        DeitkitError: it is damaged, or keeps its tensors as pickles.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            root = archive.namelist()[0].partition("/")[0]
            about = archive.read(f"{root}/extra/{ABOUT_FILE}").decode()
            index: dict[str, Any] = json.loads(archive.read(f"{root}/{INDEX}"))["config"]
            found = {name: _tensor(archive, f"{root}/data/weights/", entry) for name, entry in index.items()}
    # Whatever its kind: of a changed file zipfile, json and torch raise what befits the byte that was changed.
    except Exception as error:
        raise DeitkitError(f"{path} is damaged: {error}", value=str(path), remedy="copy it again") from error
    return {name.removeprefix(PREFIX): value for name, value in found.items()}, about


def _tensor(archive: zipfile.ZipFile, folder: str, entry: dict[str, Any]) -> Tensor:
    """One tensor, of its bytes alone.

    Raises:
        ValueError: it is kept otherwise than row after row.
    """
    about = entry["tensor_meta"]
    shape, strides = ([side["as_int"] for side in about[key]] for key in ("sizes", "strides"))
    rows = [math.prod(shape[place + 1 :]) for place in range(len(shape))]
    if entry["use_pickle"] or strides != rows or about["storage_offset"]["as_int"]:
        raise ValueError(f"{entry['path_name']} is no plain tensor")
    content = bytearray(archive.read(folder + entry["path_name"]))
    numbers = torch.frombuffer(content, dtype=DTYPES[about["dtype"]])
    return numbers[: math.prod(shape)].reshape(shape)
