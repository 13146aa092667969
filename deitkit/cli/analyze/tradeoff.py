"""`deitkit analyze tradeoff`: any models' accuracy against what they cost: the paper's Figure 1 and Table 5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from deitkit.analysis.tradeoff.analyze import analyze, first_run
from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, ReportOptions, SpeedOptions, models_argument
from deitkit.models.reference import Reference


@dataclass(frozen=True)
class FigureOptions:
    """What the figures show."""

    x: Annotated[str, typer.Option("--x", help="throughput, parameters, macs or memory.")] = "throughput"
    published: Annotated[
        bool, typer.Option("--published", help="The paper's Table 5, too, in a figure of its own: it is of a V100.")
    ] = False


def tradeoff(
    models: Annotated[
        list[str], models_argument("MODEL...", "Runs, model folders, timm:NAME, ONNX files, file.py:function, ...")
    ],
    figures: FigureOptions,
    timing: SpeedOptions,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:
    """Accuracy against throughput, for any models.

    The paper's Figure 1 and Table 5 for yours: parameters, GMACs, images per second and memory, each model at its own
    image size; top-1 of its deciding head (fused where there are two) with 95 % Wilson intervals; and the front: those
    that no other model beats in one without losing in the other. All are judged on the images of the first run, or on
    those named. Predictions that are there are used; missing ones are made and kept. (A Python function's code is
    executed.)

    RUN@best and RUN@123 are checkpoints, RUN@ema averaged weights, RUN:class and RUN:distillation one head's accuracy.

    Speed is of the forward pass alone, on noise that is on the device already: no decoding. The models take turns;
    median and quartiles. Memory: weights, and by how much a pass raises the peak above them. Batches: 256 on a GPU, or
    the half, a quarter, ... that fits; 32 on a CPU, fewer where a pass would be long; or as --batch-size says. (Table 5
    is of one V100, the largest batch that fits, mean of 30 passes.)

    Source: Touvron et al. 2020, Figure 1 and Table 5.

    Example: deitkit analyze tradeoff runs/quickstart/teacher runs/quickstart/twin runs/quickstart/student_32
    Example: deitkit analyze tradeoff runs/a runs/b --x parameters
    Example: deitkit analyze tradeoff runs/mine timm:deit_tiny_patch16_224 --data photos
    """
    home = first_run([Reference.parse(word) for word in models])
    folder = reports_folder(home.word, saved, name="tradeoff")
    report = analyze(*models, **vars(figures), **timing.asked(), **vars(where))
    show(report, folder, as_json=saved.as_json)
