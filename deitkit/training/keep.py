"""Which weights become a run's model: the best on the validation images, or the last. Trains and saves nothing.

Images that are to be measured on at last choose nothing: neither those trained on, nor the test images, unless whoever
runs deitkit says so.
"""

from __future__ import annotations

from deitkit.data.formats.split import TEST_SERVES
from deitkit.data.source import Source
from deitkit.recipe.schema import Keep, Recipe


def keep_of(recipe: Recipe, val: Source) -> Keep:
    """What the run keeps: as its recipe says, where there are images to choose by."""
    return "last" if _against(recipe, val) else recipe.train.keep


def keep_notes(recipe: Recipe, val: Source) -> list[str]:
    """What a person should know before: why the last weights are kept, or that the test images choose."""
    notes = []
    if against := _against(recipe, val):
        notes.append(f"the model will be the last epoch's, not the best one's: {against}")
    elif TEST_SERVES in val.notes and recipe.train.keep == "best":
        notes.append("the test images choose the best epoch, as asked: their accuracy says too much")
    if recipe.train.patience is not None and TEST_SERVES in val.notes:
        notes.append("the test images decide when to stop (train.patience): their accuracy says too much")
    return notes


def _against(recipe: Recipe, val: Source) -> str:
    """Why the best is not kept though the recipe says so; empty where nothing stands against it."""
    if recipe.train.keep == "last":
        return ""
    if recipe.data.validate_on == "train":
        return "there are no validation images to choose by"
    if TEST_SERVES in val.notes and "train.keep" not in recipe.given:
        return "the only images to choose by are the test images, and those choose nothing (--set train.keep=best)"
    return ""
