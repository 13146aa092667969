"""`deitkit analyze tokens`: models and images -> the class and the distillation token by depth."""

from __future__ import annotations

from typing import Annotated

import typer

from deitkit.analysis.tokens import analyze
from deitkit.cli.analyze.shared import reports_folder, show
from deitkit.cli.options import AnalysisOptions, Limit, ReportOptions, models_argument


def tokens(
    runs: Annotated[list[str], models_argument("RUN...", "Distilled runs or model folders.")],
    control: Annotated[
        list[str] | None,
        typer.Option("--control", help="A run with two class tokens (recipe ablation/two_class_tokens). Repeatable."),
    ] = None,
    limit: Limit = None,
    *,
    where: AnalysisOptions,
    saved: ReportOptions,
) -> None:
    """How alike the class and the distillation token are, by depth.

    cosine: of the two tokens' parameters alone (embedding), with position embedding (input), after every block, and
    after the final norm; mean and standard deviation over the images, and per true class. The paper gives 0.06 before
    the first layer and 0.93 after the last; 0.999 for the control, whose second token has the first one's target.

    cka: linear CKA between the class tokens and the distillation tokens of the same images, both centred; cka_debiased
    uses the unbiased estimator, so that few images do not make it large. norm: mean L2 norm.

    Several runs stand side by side, all on the first one's data. A run whose recipe has loss.second_token = "label" is
    a control. Sources: Touvron et al. 2020, Sec. 4; Kornblith et al. 2019; Song et al. 2012, eq. 5.

    Example: deitkit analyze tokens runs/quickstart/student_32
    Example: deitkit analyze tokens runs/mine --limit 500
    Example: deitkit analyze tokens runs/mine --control runs/twin
    """
    folder = reports_folder(runs[0], saved, name="tokens")
    report = analyze(*runs, controls=control or (), limit=limit, **vars(where))
    show(report, folder, as_json=saved.as_json, without=("classes",))
