"""`deitkit tape`: record a teacher's answers once for all students, look at them, join them. No mathematics here."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from deitkit.cli import options, render
from deitkit.cli.early import known_models, known_tape, known_tapes
from deitkit.cli.options import AsJson, output_option
from deitkit.cli.progress import Progress
from deitkit.errors import DeitkitError, one_of
from deitkit.recipe.resolve import TrainingOptions, given
from deitkit.recipe.resolve import resolve as resolve_options

if TYPE_CHECKING:
    from deitkit.recipe.schema import Recipe
    from deitkit.tape import Tape
    from deitkit.tape.record import Recorded

LABELS = ("hard", "soft")
TapeFolder = Annotated[Path, typer.Argument(metavar="TAPE", callback=known_tape, help="A tape's folder.")]


@dataclass(frozen=True)
class RecordOptions:
    """What is recorded, and where it goes."""

    epochs: Annotated[
        str, typer.Option("--epochs", metavar="A:B", help="From epoch A to before B [default: the recipe's, all].")
    ] = ""
    labels: Annotated[str, typer.Option("--labels", help="hard or soft [default: as the recipe says].")] = ""
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Soft: keep the K likeliest classes and the rest's mass.")
    ] = None
    output: Annotated[str, output_option("The tape's folder [default: tapes/RECIPE].")] = ""
    strict: Annotated[
        bool, typer.Option("--strict", help="Go on only with the versions and device that began the tape.")
    ] = False


@dataclass(frozen=True)
class AnsweringOptions:
    """Who answers, and for which recipe's views."""

    recipe: options.RecipeName = "distill/deit_tiny"
    teacher: options.TeacherRef = None
    seed: options.Seed = None
    trust_code: options.TrustCode = False


def record(
    images: options.DataOptions,
    what: RecordOptions,
    by: AnsweringOptions,
    compute: options.ComputeOptions,
    as_json: AsJson = False,
) -> None:
    """Record a teacher's answers for every view of a recipe's stream.

    Students of any size, batch size and length learn from them without the teacher, with the same weights to the last
    bit: `deitkit distill --tape DIR`. A repeated command goes on where it stopped. Several machines record a part of
    the --epochs each, into one shared folder or into several for `deitkit tape merge`; several processes: torchrun. A
    student may learn while the recording runs ahead of it.

    Soft labels are logarithms of probabilities in half precision; what that and --top-k lose is measured.

    Example: deitkit tape record --recipe quickstart/student --teacher runs/quickstart/teacher -o tapes/digits
    Example: deitkit tape record --recipe distill/deit_tiny --data /data/imagenet --labels soft --top-k 10
    Example: deitkit tape record --recipe quickstart/student --teacher runs/teacher --epochs 0:50 -o tapes/part
    """
    known_models(by.teacher)
    settled = resolve(by.recipe, given(**vars(images), teacher=by.teacher, seed=by.seed))
    settled = settled.trusted() if by.trust_code else settled
    path = Path(what.output or f"tapes/{settled.name.replace('/', '-')}")
    kind = one_of(what.labels, LABELS, what="kind of labels") if what.labels else "soft" if what.top_k else None
    is_main = os.environ.get("RANK", "0") == "0"
    from deitkit.tape.record import record_tape

    with Progress() if is_main else nullcontext(lambda what, done, total: None) as progress:
        done = record_tape(
            settled, path, epochs=parse_epochs(what.epochs, settled.train.epochs), labels=cast(Any, kind),
            top_k=what.top_k, device=compute.device, strict=what.strict,
            workers=options.workers_or_default(compute.workers), progress=progress, say=render.say,
        )  # fmt: skip
    if is_main:
        show_recorded(path, done, next_command(path, images, by), as_json=as_json)


def show_recorded(path: Path, done: Recorded, following: str, *, as_json: bool) -> None:
    """What the tape holds now, how fast it was recorded, and what to do with it."""
    from deitkit.tape import Tape

    pace = {"seconds": round(done.seconds, 1), "views_per_s": round(done.views / max(done.seconds, 1e-9), 1)}
    about = {**describe(Tape.open(path)), "recorded_views": done.views, **pace}
    if as_json:
        render.print_json({**about, "next": following})
        return
    print_tape(path, about)
    render.say(f"{done.views:,} views in {done.seconds:.0f} s by this process; next: {following}")


def next_command(path: Path, images: options.DataOptions, by: AnsweringOptions) -> str:
    """The command line of a student that learns from the tape: the same recipe, teacher and images."""
    words = [("--recipe", by.recipe), *(("--teacher", name) for name in by.teacher or ())]
    words += [("--dataset", images.dataset)]
    numbers = {"--val-fraction": images.val_fraction, "--image-size": images.image_size, "--seed": by.seed}
    words += [("--data", images.data), *((name, str(value)) for name, value in numbers.items() if value is not None)]
    words += [*(("--set", change) for change in images.sets or ()), ("--tape", str(path))]
    return shlex.join(["deitkit", "distill", *(word for pair in words if pair[1] for word in pair)])


def show(
    tape: TapeFolder,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every file with its checksum.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a tape holds: its teacher, epochs, bytes a view, and what was lost.

    Example: deitkit tape show tapes/digits
    Example: deitkit tape show tapes/digits --verify
    Example: deitkit tape show tapes/digits --json
    """
    from deitkit.tape import Tape

    opened = Tape.open(tape)
    about = describe(opened, verify=verify)
    if as_json:
        render.print_json({**about, "fixed_by": opened.header.views, "recorded_on": opened.header.here})
        return
    print_tape(tape, about)


def merge(
    tapes: Annotated[
        list[Path],
        typer.Argument(metavar="TAPE...", callback=known_tapes, help="Tapes of one recipe and teacher."),
    ],
    output: Annotated[Path, output_option("The folder that gets them all; may be a tape.")],
    as_json: AsJson = False,
) -> None:
    """Join tapes of the same recipe and teacher that were recorded apart.

    Example: deitkit tape merge tapes/a tapes/b -o tapes/whole
    Example: deitkit tape merge tapes/a tapes/b tapes/c -o tapes/a
    Example: deitkit tape merge tapes/a tapes/b -o tapes/whole --json
    """
    from deitkit.tape import Tape
    from deitkit.tape.merge import merge_tapes

    copied = merge_tapes(tapes, output)
    about = {**describe(Tape.open(output)), "copied_parts": copied}
    if as_json:
        render.print_json(about)
        return
    print_tape(output, about)


def resolve(recipe: str, changes: dict[str, Any]) -> Recipe:
    """The students' recipe, with the command line's values; a tape that it names is not asked."""
    settled = resolve_options(TrainingOptions(recipe, changes, device=""))
    if settled.teacher is None:
        raise DeitkitError(f"recipe {settled.name} has no [teacher]", value=settled.name, remedy="--teacher RUN")
    return settled


def parse_epochs(text: str, count: int) -> range:
    """`A:B` -> range(A, B); `A:`, `:B` and nothing go from the first or to the recipe's last."""
    found = re.fullmatch(r"(\d*):(\d*)", text or ":")
    span = range(int(found[1] or 0), int(found[2] or count)) if found else range(0)
    if not span:
        raise DeitkitError(
            f"--epochs {text}: no epochs", value=text, remedy=f"--epochs 0:{count} is all of them, counted from 0"
        )
    return span


def describe(tape: Tape, *, verify: bool = False) -> dict[str, Any]:
    """What a tape holds, in numbers and words."""
    from deitkit.tape.parts import describe_gaps

    layout, present = tape.layout, tape.epochs()
    span = range(max(present) + 1) if present else range(0)
    gaps = tape.gaps(span)
    missing = sum(gap.stop - gap.start for gap in gaps)
    views = (len(span) * layout.groups - missing) * layout.mix_group
    kind = layout.labels if layout.top_k is None else f"soft, top {layout.top_k}"
    return {
        "tape": str(tape.path), "teacher": tape.header.models, "recipe": tape.header.about.get("recipe"),
        "labels": kind, "classes": layout.classes, "epochs": len(span) - len({gap.epoch for gap in gaps}),
        "missing": describe_gaps(gaps, layout.groups), "views": views,
        "views_per_epoch": layout.groups * layout.mix_group, "bytes_per_view": layout.bytes_per_view,
        "bytes": views * layout.bytes_per_view, "recording_now": [each.path.name for each in tape.recorders()],
        **tape.errors(verify=verify),
    }  # fmt: skip


def print_tape(path: Path, about: dict[str, Any]) -> None:
    """A table of what it holds; nothing is said of what is not so."""
    rows = [
        [key.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, list) else value]
        for key, value in about.items()
        if key != "tape" and value not in ([], None)
    ]
    render.print_table(f"Tape {path}", ["what", "value"], rows)
