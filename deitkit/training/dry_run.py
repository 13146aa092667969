"""What a recipe would do, without doing it: sizes, steps, rates, parameters, and every value's origin."""

from __future__ import annotations

import logging
from typing import Any

from deitkit.catalog import DATASETS
from deitkit.data.check.left_out import scan_data, settle
from deitkit.data.check.scan import Scan
from deitkit.data.open import is_available, open_source
from deitkit.data.views.balance import BalancedDraw
from deitkit.data.views.stream import plan_stream
from deitkit.errors import DeitkitError
from deitkit.models.student import count_parameters
from deitkit.recipe.schema import Recipe

logger = logging.getLogger(__name__)


def dry_run(recipe: Recipe, *, ranks: int = 1, scan: Scan | None = None) -> dict[str, Any]:
    """The resolved recipe by table, with derived numbers beside its values, and `origins` by dotted key.

    Without the data at hand the sizes are those of Table 6, and `data.sizes_from` says so. `scan`: what a look at the
    images found, where somebody has looked already.

    Raises:
        DeitkitError: what training would refuse: images, or a batch that does not fit.
    """
    train_size, val_size, classes, sizes_from = _sizes(recipe, scan)
    shape = plan_stream(
        train_size, recipe.stream, mixing=recipe.is_mixing, ranks=ranks, accumulation=recipe.train.accumulation
    )
    tables: dict[str, Any] = recipe.model_dump(mode="json", exclude={"name"})
    tables["recipe"] = {"name": recipe.name}
    tables["model"] |= {
        "image_size": list(recipe.model.size), "classes": classes, "parameters": count_parameters(recipe.model, classes)
    }  # fmt: skip
    tables["data"] |= {"train_size": train_size, "val_size": val_size, "classes": classes, "sizes_from": sizes_from}
    tables["stream"] |= {
        "mix_group": shape.mix_group,
        "groups_per_batch": shape.groups_per_batch,
        "steps_per_epoch": shape.steps_per_epoch,
        "total_steps": shape.steps_per_epoch * recipe.train.epochs,
        "views_per_epoch": shape.views_per_epoch,
        "distinct_images_per_epoch": shape.distinct_images_per_epoch,
        "decodes_per_view": shape.decodes_per_view,
    }
    if recipe.data.balance != "none":  # an image may stand several times
        del tables["stream"]["distinct_images_per_epoch"]
    tables["optim"] |= {"lr_scaled": recipe.peak_lr, "min_lr": recipe.min_lr}
    tables["loss"] |= {"class_weight": recipe.class_weight}
    tables["train"] |= {"ranks": ranks}
    given = recipe.flat()
    origins = {key: recipe.origin(key) for key in given}
    for table, values in tables.items():
        for key, value in (values or {}).items():
            if given.get(f"{table}.{key}") is None and (value is not None or f"{table}.{key}" not in given):
                origins[f"{table}.{key}"] = "derived"
    return {"recipe": tables.pop("recipe"), **tables, "origins": origins}


def _sizes(recipe: Recipe, scan: Scan | None) -> tuple[int, int, int, str]:
    """(train images, validation images, classes, where these are from)."""
    data = recipe.data
    if is_available(data):
        left_out = settle(data, scan or scan_data(data))
        train, val = left_out.without(open_source(data, "train")), open_source(data, data.validate_on)
        if data.balance != "none":
            BalancedDraw.of(train, data.balance)
        for note in dict.fromkeys([*train.notes, *val.notes, *left_out.messages]):
            logger.info(note)
        return len(train), len(val), len(train.class_names), "the data, counted"
    known = DATASETS.get(data.dataset)
    if known is None or data.path is not None:
        raise DeitkitError(
            f"no images are at {data.path!r}" if data.path else f"the recipe's data set {data.dataset!r} has no path",
            value=data.path,
            remedy="--data FOLDER names a folder with train/CLASS/IMAGE and val/CLASS/IMAGE",
        )
    return known.train_size, known.test_size, known.classes, f"{known.source}: the data is not at hand"
