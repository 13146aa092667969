"""Runs or models -> how alike their class and distillation tokens are: what `deitkit analyze tokens` shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.catalog import IMAGENETS
from deitkit.errors import DeitkitError
from deitkit.models.reference import Reference, short_names
from deitkit.predictions.find import data_settings
from deitkit.runs.folder import Run

if TYPE_CHECKING:
    from deitkit.analysis.report import Report


def analyze(
    *models: str | Path, controls: Sequence[str | Path] = (), limit: int | None = None, dataset: str = "",
    data: str | Path = "", split: str = "val", device: str = "auto",
) -> Report:  # fmt: skip
    """The two tokens of distilled models, side by side on the first one's data or on the data named.

    `models` are runs, RUN@best, model folders, ...; `controls` are runs with two class tokens; of the split at most
    `limit` images are read, evenly spread. Definitions and sources stand in the report.

        deitkit.analyze_tokens("runs/mine", data="photos/val").numbers

    Raises:
        DeitkitError: a model has no two tokens, does not exist, or does not know the images' classes.
    """
    from deitkit.analysis.tokens.measure import measure_tokens
    from deitkit.analysis.tokens.report import compare_tokens
    from deitkit.data.open import open_source, spread_over
    from deitkit.data.views.augment import Reading
    from deitkit.distributed import pick_device
    from deitkit.models.load import load_model

    parsed = [Reference.parse(str(each)) for each in (*models, *controls)]
    settings, picked = data_settings(parsed[0].home, dataset=dataset, data=str(data)), pick_device(device)
    source, names = spread_over(open_source(settings, split), limit), short_names(parsed)
    measured = []
    for model, name in names.items():
        found, named = second_token(model), model in parsed[len(models) :]
        if named and found not in ("label", None):
            what = f"{model.word} is no control: its second token learns from the {found}"
            remedy = "deitkit pretrain --recipe ablation/two_class_tokens trains one"
            raise DeitkitError(what, value=model.word, remedy=remedy)
        measured.append(
            measure_tokens(
                load_model(model.word), source, device=picked, reading=Reading.of(settings), name=name,
                control=named or found == "label",
            )
        )  # fmt: skip
    return compare_tokens(measured, images=f"{source.dataset}/{split}", is_imagenet=source.dataset in IMAGENETS)


def second_token(reference: Reference) -> str | None:
    """What a run's second token learned from: "teacher" or "label"; None without one, or where no recipe says."""
    if not Run.is_run(reference.folder):
        return None
    recipe = Run(reference.folder).recipe()
    return recipe.loss.second_token if recipe.model.distilled else None
