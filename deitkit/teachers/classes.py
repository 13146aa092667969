"""Which output of a classifier is which class of the data: by name, never by position. Runs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deitkit.catalog import DATASETS
from deitkit.errors import DeitkitError, quoted
from deitkit.models.class_names import imagenet_names
from deitkit.recipe import schema
from deitkit.recipe.pick import pick_recipe
from deitkit.teachers.facts import Kind

AS_DATA = "data"
SHOWN = 10


@dataclass(frozen=True)
class Matched:
    """`names` are the classifier's own, in the order of its outputs; `columns` [K] says where each class of the data
    stands among them, None where the orders are the same."""

    names: tuple[str, ...]
    columns: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


def given_names(spec: schema.TeacherTable) -> tuple[str, ...] | None:
    """The class names that the recipe gives, in the order of the teacher's outputs; None for none or "data".

    Raises:
        DeitkitError: the file is missing or no list of names.
    """
    if spec.classes is None or spec.classes == AS_DATA:
        return None
    return tuple(spec.classes) if isinstance(spec.classes, list) else _read_names(Path(spec.classes))


def _read_names(path: Path) -> tuple[str, ...]:
    """A JSON list, or one name a line."""
    try:
        text = path.read_text(encoding="utf-8")
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError) as error:
        raise DeitkitError(
            f"teacher.classes: {path} is no readable list of names: {error}",
            value=str(path),
            remedy='a file with one name a line or a JSON list, a list of names, or "data"',
        ) from error
    return tuple(str(name).strip() for name in names if str(name).strip())


def check_names(names: Sequence[str], outputs: int, *, reference: str) -> None:
    """Refuse names that cannot be those of so many outputs."""
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if len(names) == outputs and not twice:
        return
    wrong = f"{len(names):,} class names for {outputs:,} outputs" if len(names) != outputs else "class names twice"
    raise DeitkitError(
        f"teacher {reference}: {wrong}",
        value=reference,
        problems=[f"twice: {', '.join(twice[:SHOWN])}"] if twice else [],
        remedy="teacher.classes names every output once, in their order",
    )


def match_classes(
    names: tuple[str, ...] | None, class_names: tuple[str, ...], *, outputs: int, reference: str, kind: Kind,
    spec: schema.TeacherTable, data: schema.Data,
) -> Matched:  # fmt: skip
    """Match a classifier's outputs with the data's classes.

    Raises:
        DeitkitError: it lacks some or has others, or nobody says what its outputs are.
    """
    notes: tuple[str, ...] = ()
    if names is None:
        names, notes = _assumed(class_names, outputs=outputs, reference=reference, spec=spec)
    elif spec.classes == AS_DATA:
        notes = ("it names its classes itself, so teacher.classes = data was not needed",)
    if names == class_names:
        return Matched(names, None, notes)
    if set(names) != set(class_names):
        raise _other_classes(names, class_names, reference=reference, kind=kind, data=data)
    number = {name: index for index, name in enumerate(names)}
    permuted = f"its {len(names):,} classes are the data's in another order: its outputs are put in the data's"
    return Matched(names, tuple(number[name] for name in class_names), (*notes, permuted))


def _assumed(
    class_names: tuple[str, ...], *, outputs: int, reference: str, spec: schema.TeacherTable
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names for outputs that have none: the data's where the recipe says so, ImageNet's where it can only be that."""
    if spec.classes == AS_DATA and outputs == len(class_names):
        return class_names, ("its classes are taken to be in the data's order, as teacher.classes says",)
    imagenet = imagenet_names()
    if outputs == len(imagenet) and set(class_names) == set(imagenet):
        return imagenet, ("its 1,000 unnamed outputs are taken as ImageNet's, in the order of the sorted wnids",)
    if outputs != len(class_names):
        raise DeitkitError(
            f"teacher {reference} has {outputs:,} outputs, the data {len(class_names):,} classes "
            f"({_sample(class_names)})",
            value=reference,
            remedy="a teacher answers with one score for each class of the data: train it on these classes, or choose "
            "another",
        )
    raise DeitkitError(
        f"teacher {reference} does not say which class each of its {outputs:,} outputs is",
        value=reference,
        choices=["a list of names", "a file of names", f'"{AS_DATA}"'],
        remedy="name them in the order of its outputs: --set 'teacher.classes=[\"NAME\", ...]', or --set "
        "teacher.classes=FILE (one name a line, or a JSON list); or, if they are in the data's own order "
        f"({_sample(class_names)}), say so: --set teacher.classes={AS_DATA}",
    )


def _other_classes(
    names: tuple[str, ...], class_names: tuple[str, ...], *, reference: str, kind: Kind, data: schema.Data
) -> DeitkitError:
    missing = [name for name in class_names if name not in set(names)]
    extra = [name for name in names if name not in set(class_names)]
    return DeitkitError(
        f"teacher {reference} has other classes: {len(names):,}, the data has {len(class_names):,}",
        value=reference,
        problems=[
            f"{len(part):,} {whose}: {_sample(part, SHOWN)}"
            for part, whose in ((missing, "that it lacks"), (extra, "that only it has"))
            if part
        ],
        remedy=f"fine-tune it on this data first: {finetune_command(reference, data)}"
        if kind == "model"
        else f"train it on exactly these classes: {_sample(class_names, SHOWN)}; or, if only the names differ, give "
        "the data's names in the order of its outputs: --set teacher.classes=FILE",
    )


def finetune_command(reference: str, data: schema.Data) -> str:
    """The command that gives a model this data's classes."""
    known = data.dataset in DATASETS
    recipe = pick_recipe(data.dataset if known and DATASETS[data.dataset].train_size else "folder", image_size=None,
                         distilled=False)  # fmt: skip
    named = "" if data.dataset == "folder" else f" --dataset {quoted(data.dataset)}"
    folder = f" --data {quoted(data.path or 'FOLDER')}" if data.path or data.dataset == "folder" else ""
    return f"deitkit finetune --recipe {quoted(recipe)} --from {quoted(reference)}{named}{folder}"


def _sample(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
