"""What the verbs about data share: which data set is meant, and its splits opened."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from deitkit.catalog import DATASETS
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.files import expanded
from deitkit.recipe.pick import catalog_name

if TYPE_CHECKING:
    from deitkit.data.open import Source
    from deitkit.recipe.schema import Data


def data_of(name: str, *, data: str = "", val_fraction: float | None = None, **more: Any) -> Data:
    """What a person names: a data set of the catalog, `hf:NAME`, or the path of images or of a table of them.

    `data` is where a named data set lies; `more` are other values of a recipe's [data], None where not given.

    Raises:
        DeitkitError: nothing of that name (the nearest is suggested), two places, or a value that cannot be.
    """
    from deitkit.recipe.load import validate

    values = {"val_fraction": val_fraction, **more, **_named(name, data)}
    values = {key: value for key, value in values.items() if value is not None}
    if values.keys().isdisjoint({"val_fraction", "folds"}):  # the images as they lie: training holds a part out
        values.setdefault("validate_on", "train")
    try:
        return validate({"model": {"name": "deit_tiny"}, "data": values}, name=name, origins={}).data
    except DeitkitError as error:
        raise DeitkitError(f"{name} cannot be read like that", value=name, problems=error.problems) from error


def _named(name: str, data: str) -> dict[str, str]:
    """Data set and path."""
    is_path = name.startswith((".", "~")) or os.sep in name or bool(Path(name).suffix)
    if not is_path and not expanded(name).exists():
        name = catalog_name(name)
    if name in DATASETS and DATASETS[name].bundled and data:
        raise DeitkitError(
            f"{name} is bundled and needs no --data", value=data, remedy=f"name the folder itself: {data}"
        )
    if name in DATASETS or name.startswith("hf:") or (name == "folder" and data):
        return {"dataset": name, "path": data} if data else {"dataset": name}
    if expanded(name).exists():
        if data:
            raise DeitkitError(f"{name} and --data {data} are two places", value=data, remedy="name one of them")
        return {"dataset": "folder", "path": name}
    what = f"{name} does not exist" if is_path else f"unknown data set {name!r}.{did_you_mean(name, DATASETS)}"
    raise DeitkitError(what, value=name, choices=(*DATASETS, "hf:NAME", "a path of your own images"))


def data_values(sets: list[str] | None) -> dict[str, Any]:
    """`--set data.KEY=VALUE` as KEY -> VALUE; only [data] counts where no recipe is used."""
    from deitkit.recipe.load import parse_override

    values = dict(parse_override(text) for text in sets or ())
    for key in values:
        if not key.startswith("data."):
            raise DeitkitError(f"--set {key}: only data.KEY counts here", value=key, remedy="--set data.category=genus")
    return {key.removeprefix("data."): value for key, value in values.items()}


class Splits(NamedTuple):
    """The splits that could be opened, and why others could not."""

    sources: dict[str, Source]
    problems: list[str]


def open_splits(data: Data) -> Splits:
    """All splits that the data have.

    Raises:
        DeitkitError: not one can be opened.
    """
    from deitkit.data.open import SPLITS, MissingSplit, NoValidation, open_source

    evaluated_only = data.dataset in DATASETS and not DATASETS[data.dataset].train_size
    sources: dict[str, Source] = {}
    errors: dict[str, DeitkitError] = {}
    wanted = ("val",) if evaluated_only else ("train", "val") if data.dataset in DATASETS else SPLITS
    for split in wanted:
        try:
            sources[split] = open_source(data, split)
        except DeitkitError as error:
            errors[split] = error
    if not sources:
        raise next(iter(errors.values()))
    for split, reason in list(errors.items()):
        if isinstance(reason, NoValidation) or (split == "test" and isinstance(reason, MissingSplit)):
            del errors[split]
    return Splits(sources, [f"{split}: {error.what}" for split, error in errors.items()])


def short_name(name: str) -> str:
    """A data set's name, or the last part of a path, for a file's name."""
    return Path(name).resolve().name if Path(name).exists() else name.replace(":", "-").replace("/", "-")


def spread_of(counts: list[int]) -> dict[str, float]:
    """Fewest, median and most."""
    return {"min": min(counts), "median": median(counts), "max": max(counts)}
