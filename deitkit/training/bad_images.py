"""Images that turn out to be unreadable while a run trains: others stand in, are counted and named, or the run ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from deitkit.data.check.background import Background
from deitkit.data.check.left_out import NAMED, counted_bad, remember_left_out
from deitkit.data.open import counted
from deitkit.data.views.augment import Reading, UnreadableImage
from deitkit.errors import DeitkitError
from deitkit.runs.folder import Run
from deitkit.training.step import Training

Say = Callable[[str], None]


class StoppedByImage(DeitkitError):
    """An image ended a run that has begun: it goes on where others may stand in for unreadable ones."""

    def __init__(self, error: DeitkitError) -> None:
        super().__init__(
            error.what,
            value=error.value,
            problems=error.problems,
            remedy='resume the run with data.on_bad_image = "replace": another image stands in its place',
        )


def count_replaced(training: Training, say: Say) -> dict[str, int]:
    """Take the unreadable images since the last line over into the run's progress, and say those that are new.

    For metrics.jsonl: how often others stood in.
    """
    names = [name for own in training.world.gather(training.sums.replaced) for name in own]
    progress = training.progress
    new = sorted({*names} - {*progress.unreadable})
    progress.replaced += len(names)
    progress.unreadable = sorted({*progress.unreadable, *new})
    if new:
        say(counted("images cannot be read, others stand in for them", new))
    wanted = training.recipe.data.on_bad_image == "replace"
    return {"replaced_images": len(names)} if names or wanted else {}


def begin_background(training: Training) -> None:
    """Decode beside the training what was not decoded before it."""
    data, left_out = training.recipe.data, training.left_out
    if left_out.is_whole or not training.world.is_main:
        return
    splits = {source.split: source for source in (training.val, training.train)}
    training.background = Background(splits, Reading.of(data), (*left_out.images, *left_out.later))


def hear_of_background(training: Training, run: Run, say: Say) -> None:
    """Say which images the process beside this one found to be unreadable; the run notes when it has seen them all."""
    background = training.background
    if background is None or background.is_done:
        return
    if new := background.take():
        say(f"decoding all images beside the training: {counted_bad(new)}")
    if background.is_done:
        training.left_out = replace(training.left_out, is_whole=True)
        remember_left_out(training.left_out, run.path)


def refuse_bad_images(training: Training) -> None:
    """Raise where more images turned out to be unreadable than the recipe does without; on every rank alike.

    Raises:
        UnreadableImage: they are too many.
    """
    met, gone = training.progress.unreadable, training.left_out.images
    found = [image.id for image in training.background.found] if training.background else []
    unreadable = max(met, found, key=len)
    images = len(gone) + sum({source.split: len(source) for source in (training.val, training.train)}.values())
    share = (len(unreadable) + len(gone)) / images
    if training.world.any(bool(unreadable) and share > training.recipe.data.bad_share):
        raise UnreadableImage(
            f"{len(unreadable) + len(gone):,} of {images:,} images cannot be read, {share:.1%}",
            value=next(iter(unreadable), ""),
            problems=unreadable[:NAMED],
        )
