"""`deitkit analyze positions`: a model's position embedding, before and after each interpolation."""

from __future__ import annotations

from typing import Annotated

import typer

from deitkit.analysis.positions import analyze
from deitkit.cli.analyze.shared import parse_sizes, reports_folder, show, words_of
from deitkit.cli.options import AnalysisOptions, Limit, ReportOptions, Sizes, WithAccuracy, model_argument


def positions(
    run: Annotated[str, model_argument("RUN", "A run or model folder of a vision transformer.")],
    sizes: Sizes = "",
    modes: Annotated[
        str, typer.Option("--modes", help="Of bicubic, bilinear, nearest, bicubic-antialias [default: all].")
    ] = "",
    accuracy: WithAccuracy = True,
    limit: Limit = None,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:
    """What position embeddings look like, and what each interpolation keeps.

    norm: L2 norm of a patch's position vector; kept: the mean norm after resampling, relative to before; similarity:
    cosine of one patch's vector with every other's. accuracy: top-1 at each size for each mode without fine-tuning,
    with 95 % Wilson intervals. The paper resamples bicubically, because bilinear lowers the norms, and accuracy with
    them. Source: Touvron et al. 2020, Sec. 3; default sizes are Table 10's relative to 224, in whole patches.

    Example: deitkit analyze positions runs/quickstart/student --sizes 16,24,32,48
    Example: deitkit analyze positions runs/mine --no-accuracy
    Example: deitkit analyze positions runs/mine --sizes 224,384 --data photos
    """
    folder = reports_folder(run, saved, name="positions")
    report = analyze(
        run, sizes=parse_sizes(sizes), modes=words_of(modes), accuracy=accuracy, limit=limit, **vars(where)
    )
    show(report, folder, as_json=saved.as_json)
