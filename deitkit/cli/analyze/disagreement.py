"""`deitkit analyze disagreement`: classifiers' predictions -> who decides differently from whom, and since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, Classifiers, ReportOptions
from deitkit.errors import DeitkitError
from deitkit.models.reference import EMA, Reference, checkpoints, name_of, step_of, teacher_of
from deitkit.predictions.find import predictions_of

if TYPE_CHECKING:
    from deitkit.analysis.disagreement.by_epoch import Moment
    from deitkit.analysis.report import Report
    from deitkit.runs.folder import Run


def disagreement(
    runs: Classifiers,
    teacher: Annotated[
        str, typer.Option("--teacher", help="A teacher, compared, too [default: the recipe's, with the next two].")
    ] = "",
    baseline: Annotated[
        str, typer.Option("--baseline", help="An undistilled twin or an earlier checkpoint: who moved to the teacher?")
    ] = "",
    by_epoch: Annotated[
        bool, typer.Option("--by-epoch", help="Instead, how one run's heads approach the teacher over training.")
    ] = False,
    between: Annotated[
        tuple[str, str], typer.Option("--between", metavar="A B", help="What B says where A says something else.")
    ] = ("", ""),
    ema: Annotated[bool, typer.Option("--ema", help="Also each run's moving average of weights (RUN@ema).")] = False,
    resamples: Annotated[int, typer.Option("--resamples", min=1, help="Of the bootstrap.")] = 1000,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:  # fmt: skip
    """How often classifiers decide differently: the paper's Table 4 for yours.

    The rate is the share of images whose most probable classes differ; the ground truth counts as a classifier, so its
    row is the top-1 error. Intervals are of 95 %: Wilson's for rates, and percentiles of a bootstrap over the images.

    A classifier is a run or a model folder, timm:NAME, hf-hub:OWNER/NAME or a file of predictions; RUN@best and
    RUN@123 are checkpoints, RUN@ema the averaged weights, and RUN:class, :distillation or :fused one head alone.

    For every pair: who is right where they differ, and whether two wrong answers are the same; Cohen's kappa, the
    agreement of decisions beyond chance; error consistency, that of right and wrong beyond what two such accuracies
    have by chance (Geirhos et al. 2020); McNemar's test of equal accuracy with Holm's correction. By class: accuracy
    and disagreement with the teacher (else the first), the most unlike first; with --between what one says where the
    other says something else; with a --teacher which classes moved toward it, from --baseline to the last run, or from
    its class head to its distillation head. A screen shows the first 10 rows of a long table, the CSV has all.

    --by-epoch draws agreement with teacher and labels over training, from what metrics.jsonl recorded and, where it
    did not, from the checkpoints that are kept. Predictions that are there are used as they are; missing ones are made
    and kept. Source: Touvron et al. 2020, Table 4; the others are named in the report.

    Example: deitkit analyze disagreement runs/quickstart/twin runs/quickstart/student_32
    """
    from deitkit.analysis.disagreement.report import compare
    from deitkit.runs.folder import Run

    folder = reports_folder(runs[-1], saved, name="by_epoch" if by_epoch else "disagreement")
    if by_epoch:
        if len(runs) > 1:
            raise DeitkitError("--by-epoch follows one run", value=len(runs), remedy="name the student alone")
        run = Run.open(runs[0])
        report = over_training(run, teacher, **vars(where))
        show(report, folder, as_json=saved.as_json)
        return
    if baseline and not teacher:
        teacher = teacher_of(runs[-1])
    references = [*filter(None, [teacher, baseline]), *(with_ema(runs) if ema else runs)]
    tables = predictions_of(references, **vars(where), like=runs[0])
    named = {word: name_of(word, references) for word in (teacher, baseline, *between) if word}
    report = compare(
        tables, teacher=named.get(teacher, ""), baseline=named.get(baseline, ""), resamples=resamples,
        between=(named[between[0]], named[between[1]]) if all(between) else None,
    )  # fmt: skip
    show(report, folder, as_json=saved.as_json)


def with_ema(runs: list[str]) -> list[str]:
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
    from deitkit.runs.folder import Run

    return Run.is_run(reference.folder) and (reference.folder / "model_ema").is_dir()


def _averaged(run: str) -> str:
    reference = Reference.parse(run)
    return f"{reference.place}@{EMA}" + (f":{reference.head}" if reference.head else "")


# Over training


def over_training(run: Run, teacher: str, *, dataset: str, data: str, split: str, device: str) -> Report:
    """A run's heads by epoch: what its metrics.jsonl tells of this teacher on these images, else its checkpoints."""
    from deitkit.analysis.disagreement.by_epoch import by_epoch_report, recorded, recorded_teacher

    recipe, own, lines = run.recipe(), teacher_of(str(run.path)), run.metrics()
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
    from deitkit.analysis.disagreement.by_epoch import epoch_of, measured
    from deitkit.predictions.align import align

    kept = {step_of(run, name): name for name in reversed(checkpoints(run))}  # of `best` and a step, the step's
    if not kept:
        return {}, None
    words = [teacher, *(f"{run.path}@{name}" for name in kept.values())]
    like = str(run.path)
    own, *tables = align(predictions_of(words, dataset=dataset, data=data, split=split, device=device, like=like))
    head = "fused" if "fused" in own.heads else next(iter(own.heads))
    moments = {
        step: measured(
            table, own.top1(head), epoch=epoch_of(step, metrics), step=step, origin=f"checkpoints/{kept[step]}"
        )
        for step, table in zip(kept, tables, strict=True)
    }
    return moments, own.accuracy(head)
