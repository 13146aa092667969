"""`deitkit data`: list, info and stats, and what its verbs share. Looks at images and changes none."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.catalog import DATASETS, published_transfer
from deitkit.cli import render
from deitkit.cli.data.shared import (
    data_of,
    data_values,
    open_splits,
    spread_of,
)
from deitkit.cli.options import AsJson, DataPath, NameOrPath, Set, ValFraction, Workers
from deitkit.cli.progress import Progress
from deitkit.errors import quoted

if TYPE_CHECKING:
    from deitkit.data.check.statistics import Bar
    from deitkit.recipe.schema import Data


SIZES_SAMPLED = 256  # images whose headers `info` reads, per split
BAR_WIDTH = 40  # characters


def list_data(as_json: AsJson = False) -> None:
    """List the data sets that are known, where each is looked for and whether it is here.

    Example: deitkit data list
    Example: deitkit data list --json
    """
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
    from deitkit.data.open import find_data, is_available, places

    known, place = DATASETS[data.dataset], find_data(data)
    return {
        "name": name, "title": known.title, "train": known.train_size, "test": known.test_size,
        "classes": known.classes, "source": known.source, "terms": known.terms, "home": known.home,
        "here": is_available(data), "place": place, "places": [] if place is None else places(data),
        "table7": published_transfer(data.dataset),
    }  # fmt: skip


def info(
    name: NameOrPath, data: DataPath = "", val_fraction: ValFraction = None, sets: Set = None,
    classes: Annotated[bool, typer.Option("--classes", help="Count the images of every class.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Show what is known of a data set, and what is here: images per split and class, sizes, terms, results.

    Example: deitkit data info digits
    Example: deitkit data info photos --classes
    Example: deitkit data info cars --data /data/cars
    """
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
        render.say(f"not here; next: deitkit data download {quoted(name)}, or --data PATH")


def found_facts(data: Data) -> dict[str, Any]:
    """Counts per split and class, image sizes, and what a person should know of the images."""
    from deitkit.data.check.statistics import sampled_sizes
    from deitkit.data.check.verify import counts_per_class, notes_of
    from deitkit.data.open import size_notes
    from deitkit.data.views.augment import Reading

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
    name: NameOrPath, data: DataPath = "", val_fraction: ValFraction = None, sets: Set = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many images, spread evenly.")] = None,
    workers: Workers = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Measure the training images: mean and standard deviation per channel, histograms of sizes.

    Every pixel of the whole RGB images, from 0 to 1, weighs the same; nothing is resized or cropped.

    Example: deitkit data stats digits
    Example: deitkit data stats photos --limit 1000
    Example: deitkit data stats cars --data /data/cars --json
    """
    from deitkit.data.open import open_source

    settings = data_of(name, data=data, val_fraction=val_fraction, **data_values(sets))
    source = open_source(settings, "train")
    from deitkit.data.check.statistics import aspect_histogram, measure, size_histogram, spread
    from deitkit.data.views.augment import Reading

    with Progress() as progress:
        progress.begin(f"measuring {name}", total=len(spread(len(source), limit)))
        found = measure(
            source, limit=limit, reading=Reading.of(settings), progress=progress.advance,
            workers=(os.cpu_count() or 1) if workers is None else workers,
        )  # fmt: skip
    if found.unreadable:
        lists = f"`deitkit data verify {quoted(name)}` lists them"
        render.say(f"{len(found.unreadable):,} images cannot be read; {lists}")
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
