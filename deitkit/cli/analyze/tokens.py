"""`deitkit analyze tokens`: models and images -> the class and the distillation token by depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, Limit, ReportOptions
from deitkit.errors import DeitkitError
from deitkit.models.reference import Reference, short_names

if TYPE_CHECKING:
    from deitkit.analysis.report import Report


def tokens(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Distilled runs or model folders.")],
    control: Annotated[
        list[str] | None,
        typer.Option("--control", help="A run with two class tokens (recipe ablation/two_class_tokens). Repeatable."),
    ] = None,
    limit: Limit = None,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:  # fmt: skip
    """How alike the class and the distillation token are, by depth.

    cosine: of the two tokens' parameters alone (embedding), with position embedding (input), after every block, and
    after the final norm; mean and standard deviation over the images, and per true class. The paper gives 0.06 before
    the first layer and 0.93 after the last; 0.999 for the control, whose second token has the first one's target.

    cka: linear CKA between the class tokens and the distillation tokens of the same images, both centred; cka_debiased
    uses the unbiased estimator, so that few images do not make it large. norm: mean L2 norm.

    Several runs stand side by side, all on the first one's data. A run whose recipe has loss.second_token = "label" is
    a control. Sources: Touvron et al. 2020, Sec. 4; Kornblith et al. 2019; Song et al. 2012, eq. 5.

    Example: deitkit analyze tokens runs/quickstart/student_32
    """
    folder = reports_folder(runs[0], saved, name="tokens")
    report = tokens_of(runs, controls=control or (), limit=limit, **vars(where))
    show(report, folder, as_json=saved.as_json, without=("classes",))


def tokens_of(
    references: Sequence[str],
    *,
    controls: Sequence[str] = (),
    limit: int | None = None,
    dataset: str = "",
    data: str = "",
    split: str = "val",
    device: str = "auto",
) -> Report:
    """The models' tokens on the first one's data (or the data named), the controls marked."""
    from deitkit.analysis.tokens.measure import measure_tokens
    from deitkit.analysis.tokens.report import compare_tokens
    from deitkit.data.open import open_source, spread_over
    from deitkit.data.views.augment import Reading
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_reference
    from deitkit.predictions.find import data_settings

    parsed = [Reference.parse(each) for each in (*references, *controls)]
    settings, picked = data_settings(parsed[0].home, dataset=dataset, data=data), pick_device(device)
    source, names = spread_over(open_source(settings, split), limit), short_names(parsed)
    measured = []
    for model in names:
        reference, named = model.word, model in parsed[len(references) :]
        found = second_token(model)
        if named and found not in ("label", None):
            raise DeitkitError(
                f"{reference} is no control: its second token learns from the {found}",
                value=reference,
                remedy="deitkit pretrain --recipe ablation/two_class_tokens trains one",
            )
        measured.append(
            measure_tokens(
                load_reference(reference), source, device=picked, reading=Reading.of(settings),
                name=names[model], control=named or found == "label",
            )
        )  # fmt: skip
    return compare_tokens(measured, images=f"{source.dataset}/{split}")


def second_token(reference: Reference) -> str | None:
    """What a run's second token learned from: "teacher" or "label"; None without one, or where no recipe says."""
    from deitkit.runs.folder import Run

    if not Run.is_run(reference.folder):
        return None
    recipe = Run(reference.folder).recipe()
    return recipe.loss.second_token if recipe.model.distilled else None
