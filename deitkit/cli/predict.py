"""`deitkit predict`: a model's classes for image files, one row an image."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, ComputeOptions, ModelRef, Overwrite, output_option, workers_or_default
from deitkit.cli.progress import Progress
from deitkit.errors import DeitkitError
from deitkit.files import output_file

if TYPE_CHECKING:
    from deitkit.predictions.classify import ClassifiedImage

MANY = 1000  # images: the table of so many is left to a file
Images = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGES...", help="Image files, folders of them, patterns; - is a list on stdin."),
]


@dataclass(frozen=True)
class AnswerOptions:
    """How answers are shown and kept."""

    output: Annotated[str, output_option("Write the answers: .csv, .jsonl, .json or .parquet.")] = ""
    overwrite: Overwrite = False
    sort_into: Annotated[str, typer.Option("--sort-into", metavar="DIR", help="Copy each image into DIR/CLASS.")] = ""
    heads: Annotated[bool, typer.Option("--heads", help="Show every head's best classes.")] = False
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Print a JSON object an image and line.")] = False
    as_json: AsJson = False


def predict(
    model: ModelRef,
    answers: AnswerOptions,
    images: Images = None,
    list_file: Annotated[str, typer.Option("--list", metavar="FILE", help="A file of paths, one a line.")] = "",
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes of each head.")] = 5,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images at once.")] = 64,
    *,
    compute: ComputeOptions,
) -> None:
    """Classify images: one row each, with a mark where the heads disagree.

    An image that cannot be read is named, and the others are answered; the exit code is 2 then.

    Example: deitkit predict examples/digits --model runs/quickstart/student_32
    Example: deitkit predict photos --model runs/mine -o answers.csv --sort-into sorted
    Example: deitkit predict --list paths.txt --model runs/mine@best --top 3 -o answers.parquet
    """
    from deitkit.data.formats.listing import named_images

    target = output_file(answers.output, overwrite=answers.overwrite) if answers.output else None
    paths = named_images(_names(images or [], list_file))
    from deitkit.models.load import load_classifier  # what is named wrongly is told before it
    from deitkit.predictions.classify import classified
    from deitkit.predictions.write import format_of, refuse_filled

    if target:
        format_of(target)
    if answers.sort_into:
        refuse_filled(Path(answers.sort_into))
    found = classified(
        load_classifier(model), paths, top=top, batch_size=batch_size, device=compute.device,
        workers=workers_or_default(compute.workers),
    )  # fmt: skip
    with _takers(answers, target, model, len(paths)) as takers:
        problems = _hand_out(found, takers, len(paths))
    if problems:
        what = f"{len(problems):,} of {len(paths):,} images cannot be read; the others are answered"
        raise DeitkitError(what, problems=problems[:10], remedy="take them out, or mend them")


def _names(images: list[str], list_file: str) -> list[str]:
    """What is named on the command line, on stdin and in the list.

    Raises:
        DeitkitError: nothing is, or the list cannot be read.
    """
    names = [name for name in images if name != "-"]
    if "-" in images:
        names += [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if list_file:
        try:
            text = Path(list_file).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise DeitkitError(
                f"{list_file} cannot be read: {error.strerror}", value=list_file, remedy="name a text file of paths"
            ) from error
        names += [line for line in text.splitlines() if line.strip()]
    if not names:
        raise DeitkitError("no image is named", remedy="deitkit predict IMAGES... --model RUN, or --list FILE")
    return names


def _hand_out(
    found: Iterator[ClassifiedImage], takers: list[Callable[[ClassifiedImage], Any]], total: int
) -> list[str]:
    """Give each answer to all that take it; the problems of those that could not be read."""
    problems = []
    with Progress() as progress:
        if total > MANY // 10:
            progress.begin("classifying", total=total)
        for image in found:
            for take in takers:
                take(image)
            if image.problem:
                problems.append(image.problem)
            if total > MANY // 10:
                progress.advance(1)
    return problems


@contextlib.contextmanager
def _takers(
    answers: AnswerOptions, target: Path | None, model: str, total: int
) -> Iterator[list[Callable[[ClassifiedImage], Any]]]:
    """Who takes an answer: a file, folders, and stdout as text or for a program."""
    from deitkit.predictions.write import WRITERS, sort_into, writing

    kinds = [kind for kind, on in (("csv", answers.csv), ("jsonl", answers.jsonl), ("json", answers.as_json)) if on]
    if kinds[1:]:
        raise DeitkitError("stdout is written in one format", choices=("--csv", "--jsonl", "--json"))
    with contextlib.ExitStack() as stack:
        takers: list[Callable[[ClassifiedImage], Any]] = []
        if target:
            takers.append(stack.enter_context(writing(target)))
        if answers.sort_into:
            takers.append(lambda image: sort_into(Path(answers.sort_into), image))
        if kinds:
            takers.append(stack.enter_context(WRITERS[kinds[0]](sys.stdout)))
            yield takers
            return
        rows: list[list[Any]] = []
        yield [
            *takers,
            lambda image: rows.extend(rows_of(image, every_head=answers.heads)) if len(rows) < MANY else None,
        ]
    columns = ["image", "head", "class", "confidence"] if answers.heads else ["image", "class", "confidence", "heads"]
    footer = f"The first {MANY:,} of {total:,}; -o answers.csv keeps all." if total > MANY else ""
    render.print_table(f"Predictions of {model}", columns, rows[:MANY], footer=footer)


def rows_of(image: ClassifiedImage, *, every_head: bool) -> list[list[Any]]:
    """An answer's rows on the screen: one, or with `--heads` one for each guess of each head."""
    if image.problem:
        return [[image.path, "cannot be read", "", ""]]
    if every_head:
        return [
            [
                image.path if rank == head_rank == 0 else "",
                head if rank == 0 else "",
                guess.name,
                f"{guess.confidence:.1%}",
            ]
            for head_rank, (head, guesses) in enumerate(image.heads.items())
            for rank, guess in enumerate(guesses)
        ]
    best = image.decision
    other = ""
    if image.heads_disagree:
        other = "differ: " + ", ".join(
            f"{head} {image.heads[head][0].name} {image.heads[head][0].confidence:.0%}"
            for head in ("class", "distillation")
        )
    return [[image.path, best.name if best else "", f"{best.confidence:.1%}" if best else "", other]]
