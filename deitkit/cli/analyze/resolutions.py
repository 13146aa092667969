"""`deitkit analyze resolutions`: one model at other image sizes, as it is and fine-tuned there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from deitkit.analysis.resolutions import analyze
from deitkit.cli import options
from deitkit.cli.analyze.shared import parse_sizes, reports_folder, show
from deitkit.errors import DeitkitError


@dataclass(frozen=True)
class ResizedOptions:
    """At which sizes the model is looked at, by what, and what was fine-tuned there."""

    sizes: options.Sizes = ""
    finetuned: Annotated[
        list[str] | None,
        typer.Option("--finetuned", metavar="RUN", help="What was fine-tuned from it. Repeatable [default: found]."),
    ] = None
    no_finetuned: Annotated[bool, typer.Option("--no-finetuned", help="Look for no fine-tuned runs.")] = False
    mode: options.Mode = "bicubic"
    accuracy: options.WithAccuracy = True
    limit: options.Limit = None


def resolutions(
    run: Annotated[str, options.model_argument("RUN", "A run, a model folder or timm:NAME.")],
    resized: ResizedOptions,
    timing: options.SpeedOptions,
    where: options.AnalysisOptions,
    saved: options.ReportOptions,
) -> None:
    """What a model gains and costs at other image sizes.

    The paper's Table 10 for yours: GMACs, images per second, memory and top-1 with 95 % Wilson intervals at each size,
    as it is (nothing but the position embedding resampled: what `deitkit upscale`, then `evaluate` give) and
    fine-tuned. Fine-tuned runs are those beside it that started from this model or from what `deitkit upscale` made of
    it. A convnet runs at any size as it is. Sizes are Table 10's relative to 224, in whole patches; its own and those
    of fine-tuned runs are always there. ReaL and ImageNet-V2 stand beside top-1 where they are here.

    Speed is of the forward pass alone, on noise that is on the device already: no decoding. The sizes take turns;
    median and quartiles. The paper's (Table 10: one V100, the largest batch that fits, mean of 30 passes) stands beside
    a DeiT-B's. Memory: weights, and by how much a pass raises the peak above them. Batches: 256 on a GPU, or the half,
    a quarter, ... that fits; 32 on a CPU, fewer where a pass would be long; or as --batch-size says.

    Sources: Touvron et al. 2020, Sec. 3 and Table 10; Touvron et al. 2019 (FixRes) for train and test resolution.

    Example: deitkit analyze resolutions runs/quickstart/student
    Example: deitkit analyze resolutions runs/mine --sizes 160,224,320 --no-speed
    Example: deitkit analyze resolutions runs/mine --data photos --limit 500
    """
    if resized.no_finetuned and resized.finetuned:
        raise DeitkitError("--finetuned names runs, --no-finetuned wants none", remedy="leave one of them out")
    folder = reports_folder(run, saved, name="resolutions")
    report = analyze(
        run, sizes=parse_sizes(resized.sizes), finetuned=[] if resized.no_finetuned else resized.finetuned,
        mode=resized.mode, accuracy=resized.accuracy, limit=resized.limit, **timing.asked(), **vars(where),
    )  # fmt: skip
    show(report, folder, as_json=saved.as_json)
