"""`deitkit analyze disagreement`: classifiers' predictions -> who decides differently from whom, and since when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, Classifiers, ReportOptions
from deitkit.errors import DeitkitError


@dataclass(frozen=True)
class ComparedOptions:
    """With whom classifiers are compared, and by what."""

    teacher: Annotated[
        str, typer.Option("--teacher", help="A teacher, compared, too [default: the recipe's, with the next two].")
    ] = ""
    baseline: Annotated[
        str, typer.Option("--baseline", help="An undistilled twin or an earlier checkpoint: who moved to the teacher?")
    ] = ""
    by_epoch: Annotated[
        bool, typer.Option("--by-epoch", help="Instead, how one run's heads approach the teacher over training.")
    ] = False
    between: Annotated[
        tuple[str, str], typer.Option("--between", metavar="A B", help="What B says where A says something else.")
    ] = ("", "")
    ema: Annotated[bool, typer.Option("--ema", help="Also each run's moving average of weights (RUN@ema).")] = False
    resamples: Annotated[int, typer.Option("--resamples", min=1, help="Of the bootstrap.")] = 1000


def disagreement(runs: Classifiers, compared: ComparedOptions, where: AnalysisOptions, saved: ReportOptions) -> None:
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
    Example: deitkit analyze disagreement runs/mine --by-epoch
    Example: deitkit analyze disagreement runs/a runs/b --data photos --split test
    """
    from deitkit.analysis.disagreement.analyze import analyze, analyze_by_epoch

    folder = reports_folder(runs[-1], saved, name="by_epoch" if compared.by_epoch else "disagreement")
    if compared.by_epoch and len(runs) > 1:
        raise DeitkitError("--by-epoch follows one run", value=len(runs), remedy="name the student alone")
    if compared.by_epoch:
        report = analyze_by_epoch(runs[0], teacher=compared.teacher, **vars(where))
    else:
        report = analyze(
            *runs, teacher=compared.teacher, baseline=compared.baseline, ema=compared.ema,
            between=compared.between if all(compared.between) else None, resamples=compared.resamples, **vars(where),
        )  # fmt: skip
    show(report, folder, as_json=saved.as_json)
