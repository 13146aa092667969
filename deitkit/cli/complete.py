"""What the shell offers for a value: recipes, data sets, runs and models, keys of --set, closed choices.

A key is pressed and somebody waits, so nothing here imports pydantic or torch: recipes are found by their files and
the schema is read as text. A test holds the keys that are read so against the schema itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deitkit.cli.early import DEVICES
from deitkit.models.export.wanted import PRECISION_NAMES
from deitkit.recipe.keys import recipe_keys
from deitkit.recipe.resolve import FREEZE
from deitkit.recipe.shipped import recipe_names, recipe_root, sweep_names

MOST_FOLDERS = 200  # in which runs are looked for: a folder of images may stand beside them
Offer = tuple[str, str]  # a value, and what it is


def attach(command: Any) -> None:
    """Give each parameter of a verb what it may be completed to, by its name."""
    for parameter in command.params:
        if offers := OFFERS.get(parameter.name or ""):
            parameter._custom_shell_complete = _completer(offers)


def _completer(offers: Callable[[str], Iterator[Offer]]) -> Callable[[Any, Any, str], list[Any]]:
    def complete(context: Any, parameter: Any, incomplete: str) -> list[Any]:
        from typer._click.shell_completion import CompletionItem

        return [
            CompletionItem(value, help=words) for value, words in offers(incomplete) if value.startswith(incomplete)
        ]

    return complete


def recipes(incomplete: str) -> Iterator[Offer]:
    """The shipped recipes, each with its title; files are left to the shell."""
    for name in recipe_names():
        if name.startswith(incomplete):
            with open(recipe_root() / f"{name}.toml", encoding="utf-8") as file:
                yield name, file.readline().lstrip("# ").strip()


def sweeps(incomplete: str) -> Iterator[Offer]:
    """The shipped sweeps; files are left to the shell."""
    yield from ((name, "a sweep") for name in sweep_names())


def datasets(incomplete: str) -> Iterator[Offer]:
    from deitkit.catalog import DATASETS

    yield from ((name, known.title) for name, known in DATASETS.items())
    yield "folder", "images of your own"


def runs(incomplete: str) -> Iterator[Offer]:
    """Runs in ./runs, and in the folder that was begun."""
    begun = incomplete.rpartition("/")[0]
    for root in dict.fromkeys(["runs", begun] if begun else ["runs"]):
        for pattern in ("*/recipe.toml", "*/*/recipe.toml"):
            for path in sorted(Path(root).glob(pattern))[:MOST_FOLDERS]:
                yield path.parent.as_posix(), "a run"


def references(incomplete: str) -> Iterator[Offer]:
    """Runs; behind RUN@ its checkpoints, behind RUN: its heads; published models that recipes name."""
    place, sign = re.split(r"[@:]", incomplete)[0], re.search("[@:]", incomplete)
    if sign and (Path(place) / "recipe.toml").is_file():
        from deitkit.models.forms import HEADS

        words = _checkpoints(Path(place)) if sign[0] == "@" else HEADS
        yield from ((f"{place}{sign[0]}{word}", "") for word in words)
        return
    yield from runs(incomplete)
    if incomplete.startswith(("t", "h")) or not incomplete:
        yield from ((name, "published weights") for name in sorted(_published()))


def _checkpoints(run: Path) -> Iterator[str]:
    for path in sorted(run.glob("checkpoints/*/manifest.json")):
        yield path.parent.name.removeprefix("step-").lstrip("0") or "0"
    if (run / "model_ema").is_dir():
        yield "ema"


def _published() -> set[str]:
    """Published models that are named in the shipped recipes."""
    texts = (path.read_text(encoding="utf-8") for path in recipe_root().rglob("*.toml"))
    return {name for text in texts for name in re.findall(r'"((?:timm|hf-hub):[^"]+)"', text)}


# Keys of a recipe


def settings(incomplete: str) -> Iterator[Offer]:
    """KEY= for each key of a recipe; behind it, its values where they are closed."""
    name, is_set, _ = incomplete.partition("=")
    keys = recipe_keys()
    if is_set:
        choices = keys[name].choices if name in keys else ()
        yield from ((f"{name}={choice}", "") for choice in choices)
        return
    for key, known in keys.items():
        yield f"{key}=", f"{known.words or 'default'} [{known.default}]"


def trackers(incomplete: str) -> Iterator[Offer]:
    """The next of several with commas."""
    from deitkit.trackers.registry import TRACKERS

    before = incomplete[: incomplete.rfind(",") + 1]
    yield from ((f"{before}{name}", "") for name in TRACKERS if name not in before.split(","))


def _closed(*choices: str) -> Callable[[str], Iterator[Offer]]:
    return lambda incomplete: iter([(choice, "") for choice in choices])


# A verb's parameter -> what may stand there.
OFFERS: dict[str, Callable[[str], Iterator[Offer]]] = {
    "recipe": recipes, "recipes": recipes, "first": recipes, "second": recipes,
    "dataset": datasets, "name": datasets, "source": datasets,
    "run": runs,
    "runs": references, "model": references, "models": references, "start": references, "teacher": references,
    "baseline": references, "control": references,
    "sets": settings,
    "device": _closed(*DEVICES),
    "split": _closed("train", "val", "test"),
    "mode": _closed("bicubic", "bilinear", "nearest", "bicubic-antialias"),
    "amp": _closed("bf16", "fp16"),
    "fusion": _closed("softmax", "average_logits"),
    "labels": _closed("hard", "soft"),
    "precision": _closed(*PRECISION_NAMES),
    "log": trackers,
    "freeze": _closed(*FREEZE),
    "sweep_file": sweeps,
}  # fmt: skip
