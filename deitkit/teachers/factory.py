"""Teachers that a Python function makes: `module:function`, `file.py:function`, `file.py:function?weights=PATH`.

THE CODE IS EXECUTED, with all the rights of whoever runs deitkit. What stands behind `?`, joined by `&`, is given to
the function as keyword arguments, as text. (In a shell, put quotes around it.)

The function returns a torch module or any callable: images [B, 3, H, W] -> scores [B, K]. What is known of it may stand
as attributes of what it returns: `class_names`, `mean`, `std`, `image_size`, `channels`, `input`, `scores`, as in a
recipe's [teacher]. Attributes that are tensors are taken for the network's own and not read.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from deitkit.errors import DeitkitError, did_you_mean
from deitkit.models.code import refuse_unasked
from deitkit.models.forms import PYTHON
from deitkit.recipe import schema
from deitkit.teachers.classifier import Raw, hash_state, say_own
from deitkit.teachers.facts import Said, digest, read_said

HOW = "module:function, file.py:function or 'file.py:function?weights=PATH'"


@dataclass(frozen=True)
class Factory:
    """A factory's reference, taken apart."""

    place: str
    function: str
    arguments: dict[str, str]


class FactoryNetwork(nn.Module):
    """What a factory returned. A callable may answer with anything that torch makes a tensor of."""

    def __init__(self, made: Callable[[Tensor], Any], reference: str) -> None:
        super().__init__()
        self.made = made  # a module is registered, and so moved to the device
        self.reference = reference

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> scores [B, K].

        Raises:
            DeitkitError: it raises itself, or answers with no array.
        """
        try:
            answer = self.made(images)
            scores = getattr(answer, "logits", answer)
            if isinstance(scores, Tensor):
                return scores
            return torch.as_tensor(scores).to(images.device)
        except (Exception, SystemExit) as error:  # the user's code may raise anything, and may want to exit
            raise DeitkitError(
                f"teacher {self.reference} fails on images {tuple(images.shape)}: {type(error).__name__}: {error}",
                value=self.reference,
                problems=_last_line(error),
                remedy="it is called with float images [B, 3, H, W], normalised as it says, and returns scores [B, K]",
            ) from error


def open_factory(reference: str, spec: schema.TeacherTable, *, size: tuple[int, int] | None) -> Raw:
    """Execute the function and take what it returns.

    Raises:
        DeitkitError: there is no such function, it fails, or returns no module.
    """
    refuse_unasked(reference)
    parts = parse(reference)
    with _importable(parts.place):
        module = _load(parts, reference)
        made = _call(_function(module, parts, reference), parts, reference)
    if isinstance(made, type) or not callable(made):
        raise DeitkitError(
            f"teacher {reference} returns {'the class ' if isinstance(made, type) else ''}"
            f"{getattr(made, '__name__', type(made).__name__)}: no torch module, and nothing that can be called",
            value=reference,
            remedy=f"let {parts.function} return an nn.Module, or a callable: images [B, 3, H, W] -> scores [B, K]",
        )
    is_module = isinstance(made, nn.Module)
    if is_module and any(isinstance(parameter, nn.UninitializedParameter) for parameter in made.parameters()):
        raise DeitkitError(
            f"teacher {reference} has parameters without values", value=reference, remedy="load its weights"
        )
    making = _making(module, parts)
    return Raw(
        network=FactoryNetwork(made, reference),
        said=read_said(_attributes(made), reference=reference),
        identity=hash_state(made, **making) if is_module else digest(making),
        parameters=sum(parameter.numel() for parameter in made.parameters()) if is_module else None,
        notes=(f"the code of {parts.place} was executed",),
    )


def parse(reference: str) -> Factory:
    """`file.py:function?weights=PATH` taken apart.

    Raises:
        DeitkitError: it has another form.
    """
    found = PYTHON.fullmatch(reference)
    if found is None or found["function"] is None:
        place = found["place"] if found else reference
        raise DeitkitError(
            f"teacher {reference}: which function?",
            value=reference,
            choices=[f"{place}:{name}" for name in _functions(Path(place))],
            remedy=HOW,
        )
    pairs = [part.partition("=") for part in (found["arguments"] or "").split("&") if part]
    if any(not name.isidentifier() or not equals for name, equals, _ in pairs):
        raise DeitkitError(f"teacher {reference}: arguments are NAME=VALUE", value=reference, remedy=HOW)
    return Factory(found["place"], found["function"], {name: value for name, _, value in pairs})


def _load(parts: Factory, reference: str) -> ModuleType:
    """Import the module, or execute the file; never twice under one name."""
    try:
        if not parts.place.endswith(".py"):
            return importlib.import_module(parts.place)
        path = Path(parts.place).resolve()
        if not path.is_file():
            raise DeitkitError(f"teacher {reference}: {parts.place} does not exist", value=reference, remedy=HOW)
        name = f"deitkit_teacher_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
        plan = importlib.util.spec_from_file_location(name, path)
        if plan is None or plan.loader is None:
            raise ImportError(f"{path} is no Python file")
        module = importlib.util.module_from_spec(plan)
        sys.modules[name] = module  # dataclasses look their module up
        plan.loader.exec_module(module)
        return module
    except DeitkitError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything, and may want to exit
        raise DeitkitError(
            f"teacher {reference}: {parts.place} cannot be imported: {type(error).__name__}: {error}",
            value=reference,
            problems=_last_line(error),
            remedy=f"`python -c 'import {parts.place}'` must work; a file is named with its ending: file.py:function"
            if not parts.place.endswith(".py")
            else "mend the file",
        ) from error


def _function(module: ModuleType, parts: Factory, reference: str) -> Callable[..., Any]:
    function = getattr(module, parts.function, None)
    if callable(function):
        return function  # type: ignore[no-any-return]
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    raise DeitkitError(
        f"{parts.place} has no function {parts.function}.{did_you_mean(parts.function, names)}",
        value=reference,
        choices=[f"{parts.place}:{name}" for name in _functions(Path(parts.place))],
        remedy=HOW,
    )


def _call(function: Callable[..., Any], parts: Factory, reference: str) -> Any:
    try:
        return function(**parts.arguments)
    except DeitkitError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything, and may want to exit
        given = ", ".join(f"{name}={value!r}" for name, value in parts.arguments.items())
        raise DeitkitError(
            f"teacher {reference}: {parts.function}({given}) raises {type(error).__name__}: {error}",
            value=reference,
            problems=_last_line(error),
            remedy="its arguments stand behind a question mark: 'file.py:function?weights=PATH'",
        ) from error


@contextlib.contextmanager
def _importable(place: str) -> Iterator[None]:
    """What lies beside the file, or here, can be imported meanwhile."""
    folder = str(Path(place).resolve().parent if place.endswith(".py") else Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _functions(path: Path) -> list[str]:
    """The public functions of a file, which is not executed."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return []
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def _attributes(made: Any) -> dict[str, Any]:
    """What stands in the attributes; the network's own tensors, modules and methods are not meant."""
    found = {name: getattr(made, name, None) for name in Said.model_fields}
    own = (Tensor, nn.Module)
    return say_own({name: value for name, value in found.items() if not isinstance(value, own) and not callable(value)})


def _making(module: ModuleType, parts: Factory) -> dict[str, Any]:
    """What a factory's product depends on besides its weights: the source, and the arguments; files by content."""
    source = getattr(module, "__file__", None)
    return {
        "function": parts.function,
        "source": _content(source) if source else parts.place,
        "arguments": {name: _content(value) for name, value in parts.arguments.items()},
    }


def _content(value: str) -> str:
    """A file's sha256; other text as it is."""
    path = Path(value)
    if not path.is_file():
        return value
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _last_line(error: BaseException) -> list[str]:
    """Where it happened."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frames[-1].filename).name}:{frames[-1].lineno}: {frames[-1].line}"] if frames else []
