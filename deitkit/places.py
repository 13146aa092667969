"""What a reference to a model is, by its form alone, and where its predictions are kept. Opens nothing, needs no torch.

A run or a model folder keeps its own. A published model (timm:NAME, hf-hub:OWNER/NAME) and a classifier of another
making (an ONNX file, a Python function) have no folder: theirs lie in the working folder, under their names.
"""

from __future__ import annotations

import re
from pathlib import Path

PUBLISHED = ("timm:", "hf-hub:", "hf_hub:", "hub:")
FILE = re.compile(r"(?P<place>[^?]+\.py)(?::(?P<function>\w+))?(?:\?(?P<arguments>.*))?")
MODULE = re.compile(r"(?P<place>[A-Za-z_][\w.]*):(?P<function>[A-Za-z_]\w*)(?:\?(?P<arguments>.*))?")


def is_foreign(reference: str) -> bool:
    """Whether it is an ONNX file or a Python function, whose code is executed when it is opened.

    `RUN:HEAD` looks like a module's function; a folder of that name tells them apart.
    """
    if reference.startswith(PUBLISHED):
        return False
    if reference.endswith(".onnx") or FILE.fullmatch(reference):
        return True
    module = MODULE.fullmatch(reference)
    return module is not None and not Path(module["place"]).exists()


def foreign_parts(reference: str) -> tuple[str, ...]:
    """The place of a classifier of another making, its arguments and, last, its name: the file's or the function's."""
    found = FILE.fullmatch(reference) or MODULE.fullmatch(reference)
    if found is None:
        return Path(reference).absolute().with_suffix("").parts[1:]
    place = Path(found["place"]).with_suffix("")
    return (*place.parts, *_arguments(found), found["function"] or place.name)


def published_parts(reference: str) -> tuple[str, ...]:
    """The owner of a published model, where there is one, and its name; the revision is left out."""
    return tuple(reference.partition(":")[2].partition("@")[0].split("/"))


def local_folder(reference: str) -> Path:
    """A model's own folder, or the one in the working folder that has its name, and its arguments."""
    if reference.startswith(PUBLISHED):
        return Path(published_parts(reference)[-1])
    if not is_foreign(reference):
        return Path(reference)
    found = FILE.fullmatch(reference) or MODULE.fullmatch(reference)
    return Path("-".join((foreign_parts(reference)[-1], *(_arguments(found) if found else ()))))


def _arguments(found: re.Match[str]) -> list[str]:
    """The values of a function's arguments; of paths only the name."""
    values = (argument.partition("=")[2] for argument in (found["arguments"] or "").split("&"))
    return [Path(value).stem for value in values if value]
