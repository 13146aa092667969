"""Images that turn out to be unreadable while a run trains: others stand in, are counted and named, or the run ends."""

from __future__ import annotations

from collections.abc import Callable

from deitkit.data.check.left_out import LIMIT
from deitkit.data.open import counted
from deitkit.data.views.augment import UnreadableImage
from deitkit.errors import DeitkitError
from deitkit.training.step import Training


class StoppedByImage(DeitkitError):
    """An image ended a run that has begun: it goes on where others may stand in for unreadable ones."""

    def __init__(self, error: DeitkitError) -> None:
        super().__init__(
            error.what,
            value=error.value,
            problems=error.problems,
            remedy='resume the run with data.on_bad_image = "replace": another image stands in its place',
        )


def count_replaced(training: Training, say: Callable[[str], None]) -> dict[str, int]:
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


def refuse_too_many(training: Training) -> None:
    """Raise where more images turned out to be unreadable than the recipe does without.

    Raises:
        UnreadableImage: the first of them.
    """
    data, unreadable = training.recipe.data, training.progress.unreadable
    gone = sum(image.split == training.train.split for image in training.left_out.images)
    share = (gone + len(unreadable)) / (gone + len(training.train))
    if data.on_bad_image == "auto" and data.bad_images != "error" and unreadable and share > LIMIT:
        raise UnreadableImage(
            f"{gone + len(unreadable):,} of {gone + len(training.train):,} training images cannot be read, "
            f"{share:.1%}: more than {LIMIT:.0%}",
            value=unreadable[0],
            problems=unreadable[:10],
        )
