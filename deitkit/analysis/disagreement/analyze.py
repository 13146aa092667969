"""Classifiers -> who decides differently from whom, and since when: what `deitkit analyze disagreement` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deitkit.analysis.disagreement.by_epoch import Moment, by_epoch_report, epoch_of, recorded, recorded_teacher
from deitkit.analysis.disagreement.report import compare
from deitkit.analysis.report import Report
from deitkit.errors import DeitkitError
from deitkit.models.code import executing_only, teacher_of
from deitkit.models.reference import EMA, Reference, checkpoints, find_run, name_of, step_of
from deitkit.predictions.align import align
from deitkit.predictions.find import predictions_of
from deitkit.predictions.table import decisive
from deitkit.runs.folder import Run


def analyze(
    *models: str | Path, teacher: str | Path = "", baseline: str | Path = "", between: tuple[str, str] | None = None,
    ema: bool = False, resamples: int = 1000, dataset: str = "", data: str | Path = "", split: str = "val",
    device: str = "auto",
) -> Report:  # fmt: skip
    """How often classifiers decide differently on the first one's data, or on the data named: Table 4 for yours.

    `models` are whatever `deitkit.predictions.find.predictions_of` takes; missing predictions are made and kept. The
    `teacher` is compared, too; with a `baseline`, which is compared as well, the last run's own teacher is taken where
    none is named: which classes moved toward it? `between` (A, B): what B says where A says something else. `ema` adds
    each run's moving average. Definitions and sources stand in the report.

        report = deitkit.analyze_disagreement("runs/mine", "runs/twin", teacher="runs/teacher", data="photos/val")

    Raises:
        DeitkitError: a classifier does not exist or cannot answer for these images, or kept predictions are of others.
    """
    runs, teacher, baseline = [str(model) for model in models], str(teacher), str(baseline)
    asked = [teacher, baseline, *runs]
    if baseline and not teacher:
        teacher = teacher_of(runs[-1])
    references = [*filter(None, [teacher, baseline]), *(with_ema(runs) if ema else runs)]
    with executing_only(asked):  # and not what a run's recipe names
        tables = predictions_of(references, dataset=dataset, data=str(data), split=split, device=device, like=runs[0])
    named = {word: name_of(word, references) for word in (teacher, baseline, *(between or ())) if word}
    return compare(
        tables, teacher=named.get(teacher, ""), baseline=named.get(baseline, ""), resamples=resamples,
        between=(named[between[0]], named[between[1]]) if between else None,
    )  # fmt: skip


def with_ema(runs: Sequence[str]) -> list[str]:
    """Each run, and behind it the moving average of its weights where it has one.

    Raises:
        DeitkitError: none of them has one.
    """
    places = [Reference.parse(run) for run in runs]
    averaged = [bool(not each.checkpoint and not each.is_table and _has_ema(each)) for each in places]
    if not any(averaged):
        Reference.parse(f"{places[-1].folder}@{EMA}")  # an error that says how to get one
    return [word for run, has in zip(runs, averaged, strict=True) for word in (run, *([_averaged(run)] if has else []))]


def _has_ema(reference: Reference) -> bool:
    return Run.is_run(reference.folder) and (reference.folder / "model_ema").is_dir()


def _averaged(run: str) -> str:
    reference = Reference.parse(run)
    return f"{reference.place}@{EMA}" + (f":{reference.head}" if reference.head else "")


# Over training


def analyze_by_epoch(
    student: str | Path, *, teacher: str = "", dataset: str = "", data: str = "", split: str = "val",
    device: str = "auto",
) -> Report:  # fmt: skip
    """How a run's heads approach its teacher and the labels over training.

    By what its metrics.jsonl tells of this teacher on these images; where it tells nothing, by the checkpoints that it
    kept, whose predictions are made and kept.

    Raises:
        DeitkitError: there is no such run, or it was trained without a teacher that is still there.
    """
    run = find_run(student)
    recipe, own, lines = run.recipe(), teacher_of(str(run.path)), run.logged(spaced=0).lines
    told = not dataset and not data and split == recipe.data.validate_on and teacher in ("", own)
    moments, accuracy = (recorded(lines), recorded_teacher(lines)) if told else ([], None)
    chosen, name = teacher or own, " and ".join(recipe.teacher.models) if recipe.teacher else ""
    if not any(moment.teacher for moment in moments):
        if not chosen:
            raise DeitkitError(
                f"{run.path} was trained without a teacher that is still there: approach whom?",
                value=str(run.path),
                remedy="--teacher RUN",
            )
        with executing_only([teacher]):  # and not what the run's recipe names
            measured, accuracy = measure_checkpoints(
                run, chosen, lines, dataset=dataset, data=data, split=split, device=device
            )
        moments, name = [*(moment for moment in moments if moment.step not in measured), *measured.values()], chosen
    return by_epoch_report(
        sorted(moments, key=lambda moment: moment.step),
        student=run.name,
        teacher=name if " and " in name else Reference(name).short(1),
        images=f"{dataset or data or recipe.data.dataset}/{split}",
        teacher_accuracy=accuracy,
    )


def measure_checkpoints(
    run: Run, teacher: str, metrics: Sequence[Mapping[str, Any]], *, dataset: str, data: str, split: str, device: str
) -> tuple[dict[int, Moment], float | None]:
    """Step -> how the student stood then, for every checkpoint that the run keeps; and the teacher's accuracy."""
    from deitkit.analysis.disagreement.by_epoch import measured

    kept = {step_of(run, name): name for name in reversed(checkpoints(run))}  # of `best` and a step, the step's
    if not kept:
        return {}, None
    words = [teacher, *(f"{run.path}@{name}" for name in kept.values())]
    like = str(run.path)
    own, *tables = align(predictions_of(words, dataset=dataset, data=data, split=split, device=device, like=like))
    head = decisive(own)
    moments = {
        step: measured(
            table, own.top1(head), epoch=epoch_of(step, metrics), step=step, origin=f"checkpoints/{kept[step]}"
        )
        for step, table in zip(kept, tables, strict=True)
    }
    return moments, own.accuracy(head)
