"""`deitkit analyze positions`: a model's position embedding, before and after each interpolation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, Limit, ReportOptions, Sizes, WithAccuracy
from deitkit.models.reference import Reference

if TYPE_CHECKING:
    from deitkit.analysis.report import Report


def positions(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run or model folder of a vision transformer.")],
    sizes: Sizes = "",
    modes: Annotated[
        str, typer.Option("--modes", help="Of bicubic, bilinear, nearest, bicubic-antialias [default: all].")
    ] = "",
    accuracy: WithAccuracy = True,
    limit: Limit = None,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:  # fmt: skip
    """What position embeddings look like, and what each interpolation keeps.

    norm: L2 norm of a patch's position vector; kept: the mean norm after resampling, relative to before; similarity:
    cosine of one patch's vector with every other's. accuracy: top-1 at each size for each mode without fine-tuning,
    with 95 % Wilson intervals. The paper resamples bicubically, because bilinear lowers the norms, and accuracy with
    them. Source: Touvron et al. 2020, Sec. 3; default sizes are Table 10's relative to 224, in whole patches.

    Example: deitkit analyze positions runs/quickstart/student --sizes 16,24,32,48
    """
    folder = reports_folder(run, saved, name="positions")
    report = positions_of(
        run, sizes=sizes, modes=modes, accuracy=accuracy, limit=limit, **vars(where)
    )  # fmt: skip
    show(report, folder, as_json=saved.as_json)


def positions_of(
    reference: str, *, sizes: str = "", modes: str = "", accuracy: bool = True, limit: int | None = None,
    dataset: str = "", data: str = "", split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """One model's position embedding; without `accuracy` no image is read."""
    from dataclasses import replace

    from deitkit.analysis.positions.measure import measure_accuracy, measure_positions
    from deitkit.analysis.positions.report import positions_report
    from deitkit.cli.upscale import parse_size
    from deitkit.data.open import spread_over
    from deitkit.data.views.augment import Reading
    from deitkit.distributed import pick_device
    from deitkit.errors import one_of
    from deitkit.models.load import load_reference
    from deitkit.models.positions import POSITION_MODES
    from deitkit.predictions.find import data_settings, open_for

    parsed = Reference.parse(reference)
    model, picked = load_reference(reference), pick_device(device)
    asked = [parse_size(text.strip()) for text in sizes.split(",")] if sizes else []
    chosen = [one_of(text.strip(), POSITION_MODES, what="mode") for text in modes.split(",")] if modes else []
    measures = measure_positions(model, asked, modes=chosen or POSITION_MODES, name=parsed.short(1))
    if not accuracy:
        return positions_report(measures)
    settings = data_settings(parsed.home, dataset=dataset, data=data)
    source, classes = open_for(model, settings, split)
    found = []
    for one in measure_accuracy(
        model, measures, spread_over(source, limit), device=picked, reading=Reading.of(settings), classes=classes
    ):
        found.append(one)
        heads = ", ".join(f"{head} {right / one.images:.1%}" for head, right in one.right.items())
        render.say(f"{one.size[0]}x{one.size[1]} px, {one.mode}: {heads}")
    return positions_report(replace(measures, accuracy=found), images=f"{source.dataset}/{split}")
