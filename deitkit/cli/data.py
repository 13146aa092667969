"""`deitkit data`: list, info and stats, and what its verbs share. Looks at images and changes none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from deitkit.cli import render
from deitkit.errors import DeitkitError, did_you_mean

if TYPE_CHECKING:
    from deitkit.data.sources import Source
    from deitkit.data.statistics import Bar
    from deitkit.schema import Data

Name = Annotated[str, typer.Argument(metavar="NAME|PATH", help="A data set that deitkit knows, or your own images.")]
DataPath = Annotated[str, typer.Option("--data", help="Where the images of a named data set are.")]
ValFraction = Annotated[float | None, typer.Option("--val-fraction", help="Hold this part out where there is no val.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A recipe's value: data.KEY=VALUE.")]
Workers = Annotated[int | None, typer.Option("--workers", "-j", min=0, help="Processes [default: all cores].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

SIZES_SAMPLED = 256  # images whose headers `info` reads, per split
BAR_WIDTH = 40  # characters


def data_of(name: str, *, data: str = "", val_fraction: float | None = None, **more: Any) -> Data:
    """What a person names: a data set of the catalog, `hf:NAME`, or the path of images or of a table of them.

    `data` is where a named data set lies; `more` are other values of a recipe's [data], None where not given.

    Raises:
        DeitkitError: nothing of that name (the nearest is suggested), two places, or a value that cannot be.
    """
    from deitkit.recipe import validate

    values = {"val_fraction": val_fraction, **more, **_named(name, data)}
    values = {key: value for key, value in values.items() if value is not None}
    try:
        return validate({"model": {"name": "deit_tiny"}, "data": values}, name=name, origins={}).data
    except DeitkitError as error:
        raise DeitkitError(f"{name} cannot be read like that", value=name, problems=error.problems) from error


def _named(name: str, data: str) -> dict[str, str]:
    """Data set and path."""
    from deitkit.catalog import DATASETS

    if name in DATASETS and DATASETS[name].bundled and data:
        raise DeitkitError(
            f"{name} is bundled and needs no --data", value=data, remedy=f"name the folder itself: {data}"
        )
    if name in DATASETS or name.startswith("hf:") or (name == "folder" and data):
        return {"dataset": name, "path": data} if data else {"dataset": name}
    if Path(name).expanduser().exists():
        if data:
            raise DeitkitError(f"{name} and --data {data} are two places", value=data, remedy="name one of them")
        return {"dataset": "folder", "path": name}
    is_path = name.startswith((".", "~")) or os.sep in name or bool(Path(name).suffix)
    what = f"{name} does not exist" if is_path else f"unknown data set {name!r}.{did_you_mean(name, DATASETS)}"
    raise DeitkitError(what, value=name, choices=(*DATASETS, "hf:NAME", "a path of your own images"))


def data_values(sets: list[str] | None) -> dict[str, Any]:
    """`--set data.KEY=VALUE` as KEY -> VALUE; only [data] counts where no recipe is used."""
    from deitkit.recipe import parse_override

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
    from deitkit.catalog import DATASETS
    from deitkit.data.sources import SPLITS, NoValidation, open_source

    evaluated_only = data.dataset in DATASETS and not DATASETS[data.dataset].train_size
    sources: dict[str, Source] = {}
    errors: dict[str, DeitkitError] = {}
    for split in ("val",) if evaluated_only else SPLITS:
        try:
            sources[split] = open_source(data, split)
        except DeitkitError as error:
            errors[split] = error
    if not sources:
        raise next(iter(errors.values()))
    if isinstance(errors.get("val"), NoValidation):
        del errors["val"]
    return Splits(sources, [f"{split}: {error.what}" for split, error in errors.items()])


def short_name(name: str) -> str:
    """A data set's name, or the last part of a path, for a file's name."""
    return Path(name).resolve().name if Path(name).exists() else name.replace(":", "-").replace("/", "-")


def list_data(as_json: AsJson = False) -> None:
    """List the data sets that are known, where each is looked for and whether it is here.

    Example: deitkit data list
    """
    from deitkit.catalog import DATASETS

    found = [known_facts(name, data_of(name)) for name in DATASETS]
    if as_json:
        render.print_json(found)
        return
    rows = [
        [row["name"], row["title"], row["train"], row["test"], row["classes"], row["here"], row["place"] or "bundled"]
        for row in found
    ]
    columns = ["name", "data set", "train", "test", "classes", "here", "looked for in"]
    shelf = os.environ.get("DEITKIT_DATA", "not set")
    footer = f"Looked for below $DEITKIT_DATA ({shelf}), then below ./data; --data PATH names any other place."
    render.print_table("Data sets, with their published sizes", columns, rows, footer=footer)
    render.say("next: deitkit data info NAME")


def known_facts(name: str, data: Data) -> dict[str, Any]:
    """What the catalog says of a data set, and where it lies."""
    from deitkit.catalog import DATASETS, published_transfer
    from deitkit.data.sources import find_data, is_available, places

    known, place = DATASETS[data.dataset], find_data(data)
    return {
        "name": name, "title": known.title, "train": known.train_size, "test": known.test_size,
        "classes": known.classes, "source": known.source, "terms": known.terms, "home": known.home,
        "here": is_available(data), "place": place, "places": [] if place is None else places(data),
        "table7": published_transfer(data.dataset),
    }  # fmt: skip


def info(
    name: Name, data: DataPath = "", val_fraction: ValFraction = None, sets: Set = None,
    classes: Annotated[bool, typer.Option("--classes", help="Count the images of every class.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what is known of a data set, and what is here: images per split and class, sizes, terms, results.

    Example: deitkit data info digits
    """
    from deitkit.catalog import DATASETS

    settings = data_of(name, data=data, val_fraction=val_fraction, **data_values(sets))
    facts = known_facts(name, settings) if settings.dataset in DATASETS else {"name": name, "here": True}
    if facts["here"]:
        facts |= found_facts(settings)
    if as_json:
        render.print_json(facts)
        return
    if "title" in facts:
        print_known(facts)
    if facts["here"]:
        print_found(facts, every_class=classes)
    else:
        render.say(f"not here; next: deitkit data download {name}, or --data PATH")


def found_facts(data: Data) -> dict[str, Any]:
    """Counts per split and class, image sizes, and what a person should know of the images."""
    from deitkit.data.augment import Reading
    from deitkit.data.sources import size_notes
    from deitkit.data.statistics import sampled_sizes
    from deitkit.data.verify import counts_per_class, notes_of

    opened = open_splits(data)
    splits, notes = {}, [*opened.problems]
    for split, source in opened.sources.items():
        sizes = sampled_sizes(source, limit=SIZES_SAMPLED, reading=Reading.of(data))
        ordered = sizes[(sizes[:, 0] * sizes[:, 1]).argsort(kind="stable"), ::-1].tolist()
        counts = counts_per_class(source)
        splits[split] = {
            "images": len(source), "classes": len(counts), "images_per_class": spread_of(list(counts.values())),
            "counts": counts, "sizes_looked_at": len(sizes), "fingerprint": source.fingerprint,
            "sizes": {"min": ordered[0], "median": ordered[len(ordered) // 2], "max": ordered[-1]} if ordered else {},
        }  # fmt: skip
        notes += [*size_notes(data, source), *notes_of({split: source})]
    return {"splits": splits, "notes": notes}


def spread_of(counts: list[int]) -> dict[str, float]:
    """Fewest, median and most."""
    from statistics import median

    return {"min": min(counts), "median": median(counts), "max": max(counts)}


def print_known(facts: dict[str, Any]) -> None:
    """What was published, as tables."""
    published = f"{facts['train']:,} training and {facts['test']:,} test images of {facts['classes']:,} classes"
    rows = [["published", f"{published} ({facts['source']})"], ["terms", facts["terms"]], ["home", facts["home"]]]
    rows += [["looked for in", ", then ".join(map(str, facts["places"])) or "bundled with scikit-learn"]]
    rows += [["here", facts["here"]]]
    render.print_table(f"{facts['name']}: {facts['title']}", ["", ""], rows)
    if facts["table7"]:
        render.print_table(
            "Published top-1 after transfer (Table 7), %", ["model", "top-1"], [*facts["table7"].items()]
        )


def print_found(facts: dict[str, Any], *, every_class: bool) -> None:
    """What is here, as tables: counts by the split or by the class, sizes, notes."""
    rows = []
    for split, found in facts["splits"].items():
        sizes = [f"{width} x {height}" for width, height in found["sizes"].values()] or ["none readable"]
        spread = [f"{value:g}" for value in found["images_per_class"].values()]
        looked = f"{', '.join(dict.fromkeys(sizes))} (of {found['sizes_looked_at']:,})"
        rows.append([split, found["images"], found["classes"], ", ".join(dict.fromkeys(spread)), looked])
    columns = ["split", "images", "classes", "images a class: least, median, most", "pixels: least, median, most"]
    render.print_table(f"{facts['name']}, as it is here", columns, rows)
    if every_class:
        counts = {split: found["counts"] for split, found in facts["splits"].items()}
        names = dict.fromkeys(name for found in counts.values() for name in found)
        rows = [[name, *(found.get(name, 0) for found in counts.values())] for name in names]
        render.print_table("Images of every class", ["class", *counts], rows)
    if facts["notes"]:
        render.print_table("Notes", ["note"], [[note] for note in facts["notes"]])


def stats(
    name: Name, data: DataPath = "", val_fraction: ValFraction = None, sets: Set = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many images, spread evenly.")] = None,
    workers: Workers = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Measure the training images: mean and standard deviation per channel, histograms of sizes.

    Every pixel of the whole RGB images, from 0 to 1, weighs the same; nothing is resized or cropped.

    Example: deitkit data stats digits
    """
    from deitkit.cli.verify import counting
    from deitkit.data.augment import Reading
    from deitkit.data.sources import open_source
    from deitkit.data.statistics import aspect_histogram, measure, size_histogram, spread

    settings = data_of(name, data=data, val_fraction=val_fraction, **data_values(sets))
    source = open_source(settings, "train")
    with counting(f"measuring {name}", len(spread(len(source), limit))) as progress:
        found = measure(
            source, limit=limit, reading=Reading.of(settings), progress=progress,
            workers=(os.cpu_count() or 1) if workers is None else workers,
        )  # fmt: skip
    if found.unreadable:
        render.say(f"{len(found.unreadable):,} images cannot be read; `deitkit data verify {name}` lists them")
    bars = {"Sizes": size_histogram(found.sizes), "Width : height": aspect_histogram(found.sizes)}
    if as_json:
        facts = {"name": name, "split": "train", "images": found.images, "of": found.total, "mean": found.mean}
        facts |= {"std": found.std, "sizes": dict(bars["Sizes"]), "aspects": dict(bars["Width : height"])}
        render.print_json({**facts, "unreadable": found.unreadable})
        return
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (found.mean, found.std))
    typer.echo(f"[data]\nmean = [{mean}]\nstd = [{std}]\n")
    for what, rows in bars.items():
        print_bars(f"{what} of {found.images:,} of {found.total:,} training images", rows)


def print_bars(title: str, bars: list[Bar]) -> None:
    longest = max(bar.images for bar in bars)
    rows = [[bar.label, bar.images, "█" * round(BAR_WIDTH * bar.images / longest)] for bar in bars]
    render.print_table(title, ["", "images", ""], rows)
