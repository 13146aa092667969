"""A run's folder -> its part of the page, which begins with a verdict. Asks `deitkit.analysis` for every number; runs
no model.
"""

from __future__ import annotations

import shlex

from deitkit.analysis.draw.canvas import Inks
from deitkit.analysis.report import Report, Table
from deitkit.measures.agreement import wilson_interval
from deitkit.models.forms import decisive_head
from deitkit.models.kept import Standing
from deitkit.predictions.table import Predictions
from deitkit.predictions.verdict import LABELS_VIEW, command_words, labels_words, table_verdict
from deitkit.report.examples import find_kinds
from deitkit.report.figures import Desk, name_lost, run_inks, show_figures, show_kinds, show_report
from deitkit.report.folder import Missing, RunFolder
from deitkit.report.provenance import commands, environment, settings
from deitkit.report.run_tables import ReportedRun
from deitkit.report.tables import classes_table, confusions_table, heads_table
from deitkit.report.training import training_figures
from deitkit.report.views import HeadlineTile, KindView, PageBudget, ReportView, RunView, Sentence, TableView
from deitkit.runs.duration import spell_seconds


def show_run(subject: ReportedRun, key: str, budget: PageBudget, inks: Inks, desk: Desk) -> RunView:
    """Everything that the folder can tell; missing and broken parts are named."""
    folder, main, teacher = subject.folder, subject.main, subject.teacher
    whole = teacher if teacher is not None and main is not None and len(teacher.ids) == len(main.ids) else None
    inks = run_inks(inks, folder.name)
    disagreement = _disagreement(subject, key, budget, inks, desk)
    kinds, lost = _kinds(subject, budget)
    _note_missing(folder, main)
    recipe = folder.recipe
    return RunView(
        key=key,
        name=folder.name,
        path=str(folder.run.path),
        recipe_name=recipe.name if recipe else "",
        state=_state(folder),
        resume="" if folder.status == "finished" else folder.resume,
        verdict=tuple(map(Sentence.of, run_verdict(subject, subject.disagreement))),
        tiles=tuple(_tiles(folder, main)),
        curves=show_figures(training_figures(folder.metrics), key, inks=inks, desk=desk),
        evaluations=_evaluations(folder),
        heads=TableView.of(heads_table([main, *folder.tables[1:]], whole)) if main else None,
        disagreement=disagreement,
        kinds=kinds,
        kinds_images=lost,
        reports=tuple(
            show_report(saved.report, f"{key}-{saved.report.name}", budget, inks=inks, desk=desk, saved=saved)
            for saved in folder.saved
            if saved.report.name != "disagreement" or disagreement is None
        ),
        classes=_classes(subject, main, whole, budget),
        confusions=TableView.of(confusions_table(main), sortable=True) if main else None,
        settings=settings(folder),
        environment=environment(folder),
        commands=tuple(commands(folder)),
        # Last: every reading above may have noted something.
        missing=tuple(dict.fromkeys(folder.missing)),
        problems=tuple(dict.fromkeys(folder.problems)),
    )


def _state(folder: RunFolder) -> str:
    """What a reader must know of a run that is not finished."""
    if folder.status == "finished":
        return ""
    epochs = f" of {folder.recipe.train.epochs}" if folder.recipe else ""
    how = (
        "is still being trained"
        if folder.status == "running"
        else "is not finished: it was interrupted or failed, and nothing trains it now"
    )
    return f"This run {how}. It has come to epoch {folder.epoch:g}{epochs}; what is shown is what is there."


def _tiles(folder: RunFolder, main: Predictions | None) -> list[HeadlineTile]:
    """The headline: accuracies with their intervals, size, length and dates."""
    tiles = []
    if main is not None:
        tiles += [_accuracy(head, main) for head in main.heads]
    elif folder.evaluations:
        last = folder.evaluations[-1]
        at = f"at epoch {last.get('epoch', 0):g}, on the validation images"
        tiles += [HeadlineTile(f"top-1, {head}", f"{value:.1%}", at) for head, value in last["top1"].items()]
    teacher_top1 = folder.evaluations[-1].get("teacher_top1") if folder.evaluations else None
    if isinstance(teacher_top1, float):
        tiles.append(
            HeadlineTile("top-1, teacher", f"{teacher_top1:.1%}", "as the student's evaluation shows the images")
        )
    if folder.parameters:
        tiles.append(HeadlineTile("parameters", _thousands(folder.parameters), f"{folder.parameters:,}"))
    epochs = folder.recipe.train.epochs if folder.recipe else None
    if folder.metrics:
        step = max(line.get("step", 0) for line in folder.metrics)
        tiles.append(
            HeadlineTile("epochs", f"{folder.epoch:g}" + (f" of {epochs}" if epochs else ""), f"{step:,} steps")
        )
    if folder.standing is not None:
        tiles.append(_model_tile(folder.standing, folder.name))
    if folder.seconds is not None:
        tiles.append(
            HeadlineTile("time of training", spell_seconds(folder.seconds), "evaluations and checkpoints left out")
        )
    tiles.append(HeadlineTile("began", folder.began[:10], folder.began[11:]))
    if folder.ended:
        tiles.append(HeadlineTile("ended", folder.ended[:10], folder.ended[11:]))
    return tiles


def _model_tile(standing: Standing, name: str) -> HeadlineTile:
    """Which weights are the run's model, or its best so far."""
    value = standing.spelled() or f"best so far: epoch {standing.best.epoch:g}"
    return HeadlineTile("model", value, "; ".join(standing.sentences(name)))


def _accuracy(head: str, table: Predictions) -> HeadlineTile:
    right, images = int(table.hits(head).sum()), len(table.ids)
    interval = wilson_interval(right, images)
    where = f"{images:,} images of {table.dataset}/{table.split}"
    return HeadlineTile(
        f"top-1, {head}", f"{right / images:.1%}", f"95% interval {interval.low:.1%} to {interval.high:.1%}; {where}"
    )


def _thousands(count: int) -> str:
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{letter}"
    return str(count)


def _evaluations(folder: RunFolder) -> TableView | None:
    lines = folder.evaluations
    if not lines:
        return None
    heads = list(dict.fromkeys(head for line in lines for head in line["top1"]))
    stands = folder.standing
    rows = tuple(
        (line.get("step"), line.get("epoch"), *(line["top1"].get(head) for head in heads),
         stands.mark(line) if stands else "")
        for line in lines
    )  # fmt: skip
    formats = {"step": ",", "epoch": "g"} | dict.fromkeys(heads, ".2%")
    table = Table("evaluations", "Top-1 at each evaluation", ("step", "epoch", *heads, "weights"), rows, formats)
    return TableView.of(table, more="metrics.jsonl")


def _disagreement(subject: ReportedRun, key: str, budget: PageBudget, inks: Inks, desk: Desk) -> ReportView | None:
    report = subject.disagreement
    if report is None:
        return None
    return show_report(report, f"{key}-disagreement", budget, inks=inks, desk=desk, without=("classes",))


def _kinds(subject: ReportedRun, budget: PageBudget) -> tuple[tuple[KindView, ...], str]:
    if not subject.aligned:
        return (), ""
    student, *others = subject.aligned
    teachers = {table.classifier: table for table in others}
    views = show_kinds(find_kinds(student, subject.teacher), student, teachers, subject.album, budget)
    return views, name_lost(subject.album, views)


def _classes(
    subject: ReportedRun, main: Predictions | None, teacher: Predictions | None, budget: PageBudget
) -> TableView | None:  # fmt: skip
    if main is None:
        return None
    more = f"deitkit evaluate {shlex.quote(str(subject.folder.run.path))} --per-class"
    return TableView.of(classes_table(main, teacher), most=budget.class_rows, sortable=True, more=more)


def _note_missing(folder: RunFolder, main: Predictions | None) -> None:
    """What could be here, with the command that makes it."""
    run, has_model = folder.run, (folder.run.model / "config.json").is_file()
    path = shlex.quote(str(run.path))
    if not folder.metrics:
        folder.missing.append(Missing("training curves", folder.resume))
    if main is None:
        command = f"deitkit evaluate {path}" if has_model else folder.resume
        folder.missing.append(Missing("predictions: heads, disagreement, examples, classes", command))
    distilled = bool(folder.recipe and folder.recipe.model.distilled)
    if distilled and has_model and "tokens" not in {saved.report.name for saved in folder.saved}:
        folder.missing.append(Missing("the tokens' cosines by depth", f"deitkit analyze tokens {path}"))


def run_verdict(subject: ReportedRun, disagreement: Report | None) -> list[str]:
    """How often right and where weak, who is right more often, which labels to check; without predictions what the last
    evaluation says."""
    main = subject.main
    if main is None:
        return _so_far(subject.folder)
    doubted = 0 if main.doubted is None else int(main.doubted.sum())
    command = command_words(
        "explore", str(subject.folder.run.path), split=main.split, more=["--view", LABELS_VIEW]
    )  # fmt: skip
    first = disagreement.verdict[:1] if disagreement else ()
    return [*table_verdict(main), *first, *labels_words(doubted, command)]


def _so_far(folder: RunFolder) -> list[str]:
    if not folder.evaluations:
        return []
    last = folder.evaluations[-1]
    head = decisive_head(last["top1"])
    by = f" by the {head} head" if len(last["top1"]) > 1 else ""
    return [f"{100 * last['top1'][head]:.1f} % right{by} at epoch {last.get('epoch', 0):g}, on the validation images."]
