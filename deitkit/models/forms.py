"""How words for models are written: heads, published models, Python functions and their parts. Looks at no disk."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

ModelKind = Literal["run", "folder", "published", "weights", "exported", "onnx", "python", "predictions", "missing"]

KINDS: dict[ModelKind, str] = {
    "run": "a run", "folder": "a folder", "published": "a published model", "weights": "a weights file",
    "exported": "an exported model",
    "onnx": "an ONNX file", "python": "a Python function", "predictions": "a file of predictions",
    "missing": "nothing that exists",
}  # fmt: skip

TOKEN_HEADS = ("class", "distillation")  # one on each token (Touvron et al. 2020, Sec. 4)
HEADS = (*TOKEN_HEADS, "fused")
METRICS = {"top1": "top-1", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}  # in words
PUBLISHED = ("timm:", "hf-hub:", "hf_hub:", "hub:")
# FILE.py:FUNCTION?NAME=VALUE&NAME=VALUE, or a module in place of the file.
PYTHON = re.compile(r"(?P<place>[^?]+?\.py|[A-Za-z_][\w.]*)(?::(?P<function>[A-Za-z_]\w*))?(?:\?(?P<arguments>.*))?")


def score_of(record: Mapping[str, Any]) -> float:
    """By which an evaluation's line of metrics.jsonl is judged: the decisive head's value of the run's metric, top-1
    where it names none."""
    values: Mapping[str, float] = record[record.get("metric", "top1")]
    return values[decisive_head(values)]


def decisive_head(heads: Iterable[str]) -> str:
    """The head whose decision counts: the fused one, as in the paper, else the class head, else the only one."""
    names = list(heads)
    return next((head for head in ("fused", "class") if head in names), names[0])


def foreign_parts(reference: str) -> tuple[str, ...]:
    """The place of a classifier of another making, its arguments and, last, its name: the file's or the function's."""
    found = PYTHON.fullmatch(reference)
    if found is None:
        return Path(reference).absolute().with_suffix("").parts[1:]
    place = Path(found["place"]).with_suffix("")
    return (*place.parts, *argument_names(found), found["function"] or place.name)


def published_parts(reference: str) -> tuple[str, ...]:
    """The owner of a published model, where there is one, and its name; the revision is left out."""
    return tuple(reference.partition(":")[2].partition("@")[0].split("/"))


def argument_names(found: re.Match[str]) -> list[str]:
    """The values of a function's arguments; of paths only the name."""
    values = (argument.partition("=")[2] for argument in (found["arguments"] or "").split("&"))
    return [Path(value).stem for value in values if value]
