"""`deitkit data verify`: every image decoded, and what is wrong said, listed and answered by the exit code."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.data.shared import (
    data_of,
    data_values,
    open_splits,
    short_name,
    spread_of,
)
from deitkit.cli.options import AsJson, DataPath, NameOrPath, Overwrite, Set, ValFraction, Workers, output_option
from deitkit.cli.progress import Progress
from deitkit.files import output_folder, write_atomic

if TYPE_CHECKING:
    from deitkit.data.check.verify import Copy, ImageFinding, Verification

LISTED = 10  # of each kind on the terminal; a report lists all


def verify(
    name: NameOrPath, data: DataPath = "", val_fraction: ValFraction = None, sets: Set = None,
    output: Annotated[str, output_option("A folder for the report, as JSON and CSV.")] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Odd images and duplicates are not clean either.")] = False,
    overwrite: Overwrite = False, workers: Workers = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Decode every image: what cannot be read, what is odd, which images are there twice or in two splits.

    Exit code 0: clean. 2: unreadable images, or the same image in two splits or under two labels; with --strict also
    odd images (grey, CMYK, 16 bits, wrong extension, ...) and duplicates within a split.

    Example: deitkit data verify digits
    Example: deitkit data verify photos --strict
    Example: deitkit data verify photos -o reports
    """
    stem = f"verify-{short_name(name)}"
    folder = output_folder(output, stem=stem, overwrite=overwrite) if output else None
    settings = data_of(name, data=data, val_fraction=val_fraction, **data_values(sets))
    opened = open_splits(settings)
    from deitkit.data.check.verify import verify as verify_splits  # what is named wrongly is told before it
    from deitkit.data.views.augment import Reading

    with Progress() as progress:
        progress.begin(f"verifying {name}", total=sum(map(len, opened.sources.values())))
        found = verify_splits(
            opened.sources, reading=Reading.of(settings), problems=opened.problems, progress=progress.advance,
            workers=(os.cpu_count() or 1) if workers is None else workers,
        )  # fmt: skip
    facts = report(found, name=name, strict=strict)
    if folder:
        write_report(found, facts, folder / stem)
    if as_json:
        render.print_json(facts)
    else:
        print_verification(found, facts)
    if not facts["clean"]:
        raise typer.Exit(2)


def report(found: Verification, *, name: str, strict: bool) -> dict[str, Any]:
    """Everything that was found, for JSON."""
    return {
        "name": name,
        "clean": found.is_clean(strict=strict),
        "strict": strict,
        "images": found.images,
        "seconds": found.seconds,
        "images_per_s": found.images / max(found.seconds, 1e-9),
        "splits": {split: {"images": sum(counts.values()), "counts": counts} for split, counts in found.counts.items()},
        "problems": found.problems,
        "leaks": [[copy._asdict() for copy in group] for group in found.leaks],
        "unreadable": found.unreadable,
        "conflicts": [[copy._asdict() for copy in group] for group in found.conflicts],
        "duplicates": [[copy._asdict() for copy in group] for group in found.duplicates],
        "odd": found.odd,
        "smallest": found.smallest and found.smallest._asdict(),
        "largest": found.largest and found.largest._asdict(),
        "notes": found.notes,
    }


def write_report(found: Verification, facts: dict[str, Any], stem: Path) -> None:
    """verify-NAME.json holds everything, verify-NAME.csv one row an image that something is said of."""
    write_atomic(stem.with_name(f"{stem.name}.json"), json.dumps(render.plain(facts), indent=2) + "\n")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["kind", "group", "split", "id", "class", "detail"])
    for number, group in enumerate(found.duplicates):
        writer.writerows([kind_of(group), number, *copy, "the same pixels"] for copy in group)
    writer.writerows(
        [finding.kind, "", finding.split, finding.id, finding.class_name, finding.detail] for finding in found.findings
    )
    write_atomic(stem.with_name(f"{stem.name}.csv"), table.getvalue())
    render.say(f"wrote {stem}.json and .csv")


def kind_of(group: Sequence[Copy]) -> str:
    """What several images with the same pixels are: the worst of it."""
    if len({copy.split for copy in group}) > 1:
        return "leak"
    return "conflict" if len({copy.class_name for copy in group}) > 1 else "duplicate"


def print_verification(found: Verification, facts: dict[str, Any]) -> None:
    """The worst first: leaks, unreadable images, contradicting labels, duplicates, oddities; counts above all."""
    rows = []
    for split, counts in found.counts.items():
        unreadable = sum(finding.split == split for finding in found.unreadable)
        spread = ", ".join(dict.fromkeys(f"{value:g}" for value in spread_of([*counts.values()]).values()))
        rows.append([split, sum(counts.values()), len(counts), spread, unreadable])
    columns = ["split", "images", "classes", "images a class: least, median, most", "unreadable"]
    render.print_table(facts["name"], columns, rows, footer=extremes(found))
    if "test" in found.counts and "val" not in found.counts:
        render.say("no validation split (val): training holds a part of train out, and the test images never choose")
    for problem in found.problems:
        render.say(f"not opened: {problem}")
    for split, name in found.lost_classes:
        render.say(f"no image of class {name!r} in {split} can be read")
    print_groups("The same image in more than one split", found, "leak")
    if found.unreadable:
        bad = [[finding.split, finding.id, finding.detail] for finding in found.unreadable]
        print_some("Images that cannot be read", ["split", "image", "reason"], bad)
    print_groups("The same image under different labels", found, "conflict")
    print_groups("The same image twice", found, "duplicate")
    if found.odd:
        render.print_table(
            "Odd images, which are read nevertheless", ["kind", "images", "for example"], kinds(found.odd)
        )
    if found.notes:
        render.print_table("Notes", ["note"], [[note] for note in found.notes])
    speed = f"{found.images:,} images in {found.seconds:.1f} s ({facts['images_per_s']:,.0f} images/s)"
    render.say(f"{facts['name']} is {'clean' if facts['clean'] else 'not clean'}: {speed}")


def extremes(found: Verification) -> str:
    """`smallest 8 x 8 px: a.png; largest ...`."""
    pairs = [("smallest", found.smallest), ("largest", found.largest)]
    return "; ".join(f"{what} {seen.width} x {seen.height} px: {seen.id}" for what, seen in pairs if seen)


def kinds(findings: Sequence[ImageFinding]) -> list[list[Any]]:
    """Rows of kind, number of findings and the first of them, the most frequent first."""
    by_kind: dict[str, list[ImageFinding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    rows = [[kind, len(same), f"{same[0].id}: {same[0].detail}"] for kind, same in by_kind.items()]
    return sorted(rows, key=lambda row: -row[1])


def print_groups(title: str, found: Verification, kind: str) -> None:
    groups = [group for group in found.duplicates if kind_of(group) == kind]
    rows = [
        [len(group), " = ".join(f"{copy.split}: {copy.id} ({copy.class_name})" for copy in group[:4])]
        for group in groups
    ]
    if rows:
        print_some(title, ["copies", "images"], rows)


def print_some(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """The first rows, and how many more there are."""
    more = len(rows) - LISTED
    footer = f"and {more:,} more: -o FOLDER lists them all" if more > 0 else ""
    render.print_table(f"{title}: {len(rows):,}", columns, rows[:LISTED], footer=footer)
