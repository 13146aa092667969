"""Reading back what deitkit wrote and someone may have changed: one reader for all JSON, by types. Writes nothing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from deitkit.errors import DeitkitError
from deitkit.files import read_regular

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

Kind = TypeVar("Kind")

MOST_JSON = 256 * 2**20  # bytes: far above what deitkit writes into one
MOST_PROBLEMS = 10  # of a file that are named
# A byte of a file's name that is no UTF-8: Python writes half a pair of surrogates, which no other reader takes. They
# are read as whole pairs of a plane that is nobody's.
LONE = re.compile(rb"((?<!\\)(?:\\\\)*(?<!\\ud[89abAB][0-9a-fA-F]{2}))\\u([dD][cC][89a-fA-F][0-9a-fA-F])")


def read_json(path: Path, kind: type[Kind], *, remedy: str) -> Kind:
    """A JSON file that deitkit wrote, as the dataclass, TypedDict or plain type that it must be.

    Types are strict, but for whole numbers where fractions are meant; keys beyond those of the kind pass.

    Raises:
        DeitkitError: missing, no regular file, no JSON, or something of it is of another type or out of bounds; each is
            named by its key.
    """
    return checked_json(read_bounded(path, most=MOST_JSON, remedy=remedy), kind, name=str(path), remedy=remedy)


def read_bounded(path: Path, *, most: int, remedy: str) -> bytes:
    """A regular file of at most so many bytes.

    Raises:
        DeitkitError: missing, larger, a device or a pipe, or the disk refuses.
    """
    try:
        return read_regular(path, limit=most)
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise DeitkitError(f"{path} cannot be read: {reason}", value=str(path), remedy=remedy) from error


def checked_json(content: bytes, kind: type[Kind], *, name: str, remedy: str) -> Kind:
    """JSON as the kind that it must be; `name` says whose.

    Raises:
        DeitkitError: as `read_json`.
    """
    from pydantic import ValidationError

    marked = LONE.sub(rb"\1\\udb80\\u\2", content) if b"\\u" in content else content
    try:
        found: Kind = _reader(cast(Hashable, kind)).validate_json(marked, strict=True)
        return found if marked == content else cast(Kind, _restored(found))
    except ValidationError as error:
        problems = _problems(error)
        reason = problems[0] if len(problems) == 1 else f"{error.error_count()} problems"
        raise DeitkitError(
            f"{name} is damaged: {reason}", value=name, remedy=remedy, problems=problems if problems[1:] else ()
        ) from error
    except DeitkitError as error:  # of a dataclass that checks itself
        raise DeitkitError(f"{name} is damaged: {error.what}", value=name, remedy=remedy) from error


def _restored(value: Any) -> Any:
    """With the bytes of names that `LONE` found back in their place."""
    if isinstance(value, str):
        return "".join(chr(ord(mark) - 0xF0000 + 0xDC00) if 0xF0000 <= ord(mark) < 0xF0100 else mark for mark in value)
    if isinstance(value, dict):
        return {_restored(key): _restored(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_restored, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = {field.name: _restored(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **own)
    return value


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # not for `--help`

    return TypeAdapter(kind)


def _problems(error: ValidationError) -> list[str]:
    """What is wrong, by dotted key; the first ones."""
    import reprlib

    def line(problem: Any) -> str:
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"][0].lower() + problem["msg"][1:]
        if not key:
            return str(message)
        found = "" if problem["type"] == "missing" else f" (got {reprlib.repr(problem['input'])})"
        return f"{key}: {message}{found}"

    listed = error.errors(include_url=False, include_context=False)
    more = [f"and {len(listed) - MOST_PROBLEMS} more"] if len(listed) > MOST_PROBLEMS else []
    return [*map(line, listed[:MOST_PROBLEMS]), *more]
