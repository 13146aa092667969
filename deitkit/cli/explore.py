"""`deitkit explore`: predictions as a FiftyOne dataset, and the App on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli import render
from deitkit.cli.options import AnalysisOptions, AsJson, Overwrite, model_argument
from deitkit.cli.progress import Progress
from deitkit.errors import DeitkitError, quoted
from deitkit.models.code import executing_only, teacher_of
from deitkit.models.reference import PUBLISHED, Reference, name_of, short_names
from deitkit.predictions.find import data_of, data_settings, predictions_of
from deitkit.recipe.schema import Data

if TYPE_CHECKING:
    from deitkit.predictions.table import Predictions


@dataclass(frozen=True)
class ExtraOptions:
    """What is added to the answers on request."""

    logits: Annotated[
        bool, typer.Option("--logits", help="Store logits: 4 bytes a class, head and image (K = 1000: 4 kB).")
    ] = False
    embeddings: Annotated[bool, typer.Option("--embeddings", help="A map of the images by each token of RUN.")] = False
    brain: Annotated[
        bool, typer.Option("--brain", help="Mistakenness; with --logits hardness, with --embeddings uniqueness.")
    ] = False
    heatmaps: Annotated[
        int, typer.Option("--heatmaps", metavar="N", min=0, help="Attention on N images: the most disputed, or --view.")
    ] = 0


@dataclass(frozen=True)
class AppOptions:
    """The dataset in FiftyOne, and its App."""

    name: Annotated[str, typer.Option("--name", help="The dataset's name [default: deitkit-RUN].")] = ""
    overwrite: Overwrite = False
    launch: Annotated[bool, typer.Option("--launch", help="Open the App, on this machine only.")] = False
    view: Annotated[str, typer.Option("--view", help="Open the App at this saved view.")] = ""
    port: Annotated[int, typer.Option("--port", help="The App's port.")] = 5151


@dataclass(frozen=True)
class BesideOptions:
    """Who is shown beside it."""

    others: Annotated[
        list[str] | None, typer.Option("--with", metavar="RUN", help="Another classifier, shown beside it.")
    ] = None
    teacher: Annotated[
        str, typer.Option("--teacher", help="Its teacher, shown beside it [default: the recipe's, if it is here].")
    ] = ""


def explore(
    run: Annotated[str, model_argument("RUN", "A run, a model folder, RUN@best, a .parquet, ...")],
    where: AnalysisOptions,
    extra: ExtraOptions,
    app: AppOptions,
    beside: BesideOptions,
    as_json: AsJson = False,
) -> None:
    """Look at a run's predictions in FiftyOne.

    Builds a FiftyOne dataset, or brings it up to date, from the predictions that are kept; a model runs only where
    there are none, and for --embeddings and --heatmaps. Every image has its label; each head's answer with its
    confidence, the probability that it gives to the label, and whether it is right; and how all answers agree. Each
    answer has an evaluation, for the App's Model Evaluation panel.

    Saved views hold what one asks for, the most confident first: teacher right, student wrong; student fixes teacher;
    heads disagree; all agree, label differs; each classifier's mistakes. Labels are grey, answers green where right
    and red where wrong.

    Running it again changes what deitkit wrote, and only where something is new: your tags, fields, views and the
    App as you arranged it stay, and so do classifiers that were shown before. The App listens on 127.0.0.1 until
    Ctrl-C; from another machine: ssh -L 5151:127.0.0.1:5151 THIS_MACHINE.

    Example: deitkit explore runs/quickstart/student_32 --with runs/quickstart/twin
    Example: deitkit explore runs/mine --launch
    Example: deitkit explore runs/mine --embeddings --split test --overwrite
    """
    others, command = beside.others or [], command_of(run, where, extra, app, beside)
    taught = beside.teacher or own_teacher(run, where)
    references = [run, *filter(None, [taught]), *others]
    with executing_only([run, beside.teacher, *others]):  # and not what the run's recipe names
        tables = predictions_of(references, **vars(where), keep_logits=extra.logits, like=run)
    built, settings = build(tables, references, where, app, taught=taught, command=command)
    view = named_view(built, app.view)
    add_on_request(built, extra, Reference.parse(run), settings, where, view=view)
    show(built, as_json=as_json)
    if app.launch or view:
        look(built, app.port, view=view)
    else:
        render.say(f"to look at it: {command} --launch")


# What is shown


def command_of(
    run: str, where: AnalysisOptions, extra: ExtraOptions, app: AppOptions, beside: BesideOptions
) -> str:  # fmt: skip
    """The command line that brings the dataset up to date."""
    pairs = [*(("--with", other) for other in beside.others or ()), ("--teacher", beside.teacher)]
    pairs += [("--dataset", where.dataset), ("--data", where.data), ("--split", where.split), ("--name", app.name)]
    words = [word for pair in pairs if pair[1] and pair != ("--split", "val") for word in pair]
    return shlex.join(["deitkit", "explore", run, *words, *["--logits"] * extra.logits])


def own_teacher(run: str, where: AnalysisOptions) -> str:
    """The recipe's teacher, if it is a run on this disk or its answers are here; a published one is not fetched."""
    from deitkit.predictions.table import predictions_path

    found = teacher_of(run)
    if not found.startswith(PUBLISHED):
        return found
    settings = data_settings(Reference.parse(run).place, dataset=where.dataset, data=where.data)
    if predictions_path(found, settings.dataset, where.split, data=where.data).is_file():
        return found
    render.say(f"its teacher {found} has no predictions here and is left out; --teacher {quoted(found)} makes them")
    return ""


def settings_of(references: Sequence[str], *, dataset: str, data: str) -> Data | None:
    """The data named, or that of the first reference that is a run, or else a model; None where nothing says it."""
    models = [each for each in map(Reference.parse, references) if not each.is_table]
    if models:
        return data_of(models, dataset=dataset, data=data)
    return Data(dataset=dataset or "folder", path=data or None) if dataset or data else None


def places_of(references: Sequence[str]) -> dict[str, str]:
    """Classifier's name -> the place of its run, model or file, by which the dataset knows it again."""
    places = {}
    for reference, name in short_names([Reference.parse(each) for each in references]).items():
        is_path = not reference.is_foreign and not reference.place.startswith(PUBLISHED)
        place = str(Path(reference.place).resolve()) if is_path else reference.place
        places[name] = f"{place}@{reference.checkpoint}" if reference.checkpoint else place
    return places


def files_of(run: str, table: Predictions, settings: Data | None, *, data: str) -> Callable[[int], Path]:
    """The file of a row's image: where the predictions found it, or below --data.

    Raises:
        DeitkitError: nobody says where the images are, or they are others.
    """
    paths = table.paths
    if paths is not None and not data:
        return lambda row: Path(paths[row])
    if settings is None:
        raise DeitkitError(
            f"{run} does not say where its images are", value=run, remedy="--data FOLDER, or name a run with --with"
        )
    from deitkit.data.open import open_source
    from deitkit.explore.images import image_files

    folder = Reference.parse(run).folder / "predictions" / "images"
    return image_files(table, open_source(settings, table.split), folder)


# The dataset


def build(
    tables: list[Predictions], references: list[str], where: AnalysisOptions, app: AppOptions, *, taught: str,
    command: str,
) -> tuple[Any, Data | None]:  # fmt: skip
    """The dataset, and where its images are; importing FiftyOne and starting its database takes seconds of its own."""
    settings = settings_of(references, dataset=where.dataset, data=where.data)
    name = app.name or f"deitkit-{Reference.parse(references[0]).short(1)}"
    image_of, places = files_of(references[0], tables[0], settings, data=where.data), places_of(references)
    teacher = name_of(taught, references) if taught else ""
    render.say("starting FiftyOne and its database")
    from deitkit.explore import build_dataset

    with Progress() as progress:
        built = build_dataset(
            tables, name, overwrite=app.overwrite, command=command, image_of=image_of, places=places, teacher=teacher,
            progress=progress,
        )  # fmt: skip
    return built, settings


def add_on_request(
    built: Any, extra: ExtraOptions, run: Reference, settings: Data | None, where: AnalysisOptions, *, view: str
) -> None:
    """What needs RUN's model, or fiftyone's brain."""
    from deitkit.explore.extras import ModelExtras, Wish, add_extras

    if not (extra.embeddings or extra.brain or extra.heatmaps):
        return
    model = None
    if not run.is_table and settings is not None:
        model = ModelExtras(run.word, run.folder, settings, split=where.split, data=where.data, device=where.device)
    wish = Wish(embeddings=extra.embeddings, scores=extra.brain, heatmaps=extra.heatmaps, view=view)
    with Progress() as progress:
        add_extras(built, wish, model, say=progress.say, progress=progress)


def named_view(built: Any, view: str) -> str:
    """A saved view's name as it is, before anything is made for it."""
    from deitkit.explore.app import find_view

    return find_view(built, view) if view else ""


# The screen


def show(built: Any, *, as_json: bool) -> None:
    """How often each answer is right, and how many images each saved view holds."""
    from deitkit.explore.evaluation import MOST
    from deitkit.explore.record import Record

    record = Record.load(built)
    right = {field: built.count_values(f"{field}.right") for field in record.answers}
    answers = {
        field: {"right": counts.get(True, 0), "images": counts.get(True, 0) + counts.get(False, 0)}
        for field, counts in right.items()
    }
    names, there = [view["name"] for view in record.views], built.list_saved_views()
    views = {name: len(built.load_saved_view(name)) for name in dict.fromkeys([*names, *there]) if name in there}
    if as_json:
        facts = {"dataset": built.name, "images": record.images, "samples": len(built), "answers": answers}
        render.print_json({**facts, "views": views})
        return
    title = f"FiftyOne dataset {built.name}: {len(built):,} images of {record.images}"
    rows = [[field, f"{each['right']:,} of {each['images']:,}", share(**each)] for field, each in answers.items()]
    render.print_table(title, ["answers", "right", "top-1"], rows)
    if len(built) > MOST:
        render.say(f"more than {MOST:,} images: without evaluations, which would not fit into memory")
    width = max(len("images"), len(f"{len(built):,}"))
    counts = [[name, f"{count:,}".rjust(width)] for name, count in views.items()]
    render.print_table("Saved views", ["view", "images"], counts)


def share(right: int, images: int) -> str:
    """A percentage, or nothing of nothing."""
    return f"{right / images:.2%}".rjust(len("100.00%")) if images else ""


def look(built: Any, port: int, *, view: str) -> None:
    """The App until Ctrl-C, which is how it ends: exit code 0."""
    from deitkit.explore.app import ADDRESS, launch, tunnel

    screens = ("DISPLAY", "WAYLAND_DISPLAY")
    has_screen = sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in screens)
    from_afar = tunnel(port, os.environ)
    with redirect_stdout(sys.stderr):  # what fiftyone prints is talk
        session = launch(built, port, view=view, open_browser=has_screen and not from_afar)
        try:
            render.say(f"the App is at http://{ADDRESS}:{port} on this machine; Ctrl-C ends it")
            render.say("while it runs, it serves any file that you can read to every user of this machine")
            if from_afar:
                render.say(f"from your own machine: {from_afar}   then http://{ADDRESS}:{port} there")
            session.wait(-1)
        except KeyboardInterrupt:
            session.close()
            render.say("closed")
