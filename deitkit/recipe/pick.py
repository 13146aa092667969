"""Which shipped recipe fits a data set and a verb: its own one, else the generic one. Imports no torch."""

from __future__ import annotations

from typing import Literal

from deitkit.catalog import DATASETS, dataset_named
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.recipe.shipped import recipe_names

Verb = Literal["pretrain", "distill", "finetune"]

OWN = (
    "finetune/own", "finetune/own_distilled", "finetune/own_distilled_labels_only",
    "finetune/own_distilled_teacher_only",
)  # fmt: skip
OWN_SCRATCH = {"pretrain": "pretrain/own", "distill": "distill/own"}
OWN_CONVNET = "pretrain/convnet"
# The recipes whose values are chosen anew for the images at hand.
FITTED = (*OWN, *OWN_SCRATCH.values(), OWN_CONVNET)

LARGE_SIZE = 304  # pixels: half-way between the sizes of 224 and 384 for which there are recipes


def pick_recipe(dataset: str, *, image_size: int | None, distilled: bool) -> str:
    """The shipped recipe that fine-tunes on `dataset`: its own one, or the generic one; `image_size` in pixels.

    Raises:
        DeitkitError: no data set of that name, or one without training images.
    """
    dataset = _trainable(dataset)
    names = recipe_names()
    base = f"finetune/{dataset}" if f"finetune/{dataset}" in names else OWN[0]
    base += "_distilled" if distilled else ""
    large = f"{base}_384"
    return large if image_size is not None and image_size >= LARGE_SIZE and large in names else base


def pick_scratch(verb: Literal["pretrain", "distill"], dataset: str) -> str:
    """The shipped recipe that trains on `dataset` from random weights: the paper's for ImageNet, else the generic one.

    Raises:
        DeitkitError: no data set of that name, or one without training images.
    """
    return f"{verb}/deit_tiny" if _trainable(dataset) == "imagenet" else OWN_SCRATCH[verb]


def _trainable(dataset: str) -> str:
    """The catalog's name of a data set with training images, `folder` or `hf:NAME`."""
    dataset = catalog_name(dataset)
    if dataset == "folder" or dataset.startswith("hf:") or dataset in trainable_datasets():
        return dataset
    known = dataset in DATASETS
    raise DeitkitError(
        f"data set {dataset!r} " + ("has no training images." if known else "is unknown.")
        + did_you_mean(dataset, trainable_datasets()),
        value=dataset,
        choices=[*trainable_datasets(), "folder", "hf:NAME"],
        remedy=f"deitkit evaluate RUN --dataset {dataset}" if known else "--data FOLDER takes images of your own",
    )  # fmt: skip


def catalog_name(dataset: str) -> str:
    """The catalog's name of a data set that may be called by another; what it does not have stays as it is.

    Raises:
        DeitkitError: several are called so.
    """
    try:
        return dataset_named(dataset)
    except ValueError as error:
        raise DeitkitError(str(error), value=dataset, remedy="name one of them") from error


def trainable_datasets() -> list[str]:
    """The catalog's data sets that have training images."""
    return [name for name, info in DATASETS.items() if info.train_size]


def recipes_of(dataset: str) -> list[str]:
    """Every shipped recipe that fine-tunes on this data set; the generic ones where it has none of its own."""
    own = [name for name in recipe_names() if _is_for(dataset, name)]
    return own or list(OWN)


def _is_for(dataset: str, name: str) -> bool:
    return name == f"finetune/{dataset}" or name.startswith(f"finetune/{dataset}_")
