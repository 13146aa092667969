"""The look at the images before training, on a terminal: how far it is, and what becomes of unreadable ones."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from deitkit.cli import render
from deitkit.cli.progress import Progress

if TYPE_CHECKING:
    from deitkit.data.check.scan import Scan
    from deitkit.recipe.schema import Data, Recipe

QUESTION = "s: go on without them   l: list them   q: stop"
ASKED = "asked before the first step"  # the origin of what was answered


def look_at(data: Data, *, workers: int) -> Scan | None:
    """What a look at the images finds; None where they are not looked at, or each of several processes looks itself.

    Raises:
        DeitkitError: the images cannot be opened, or a file has gone.
    """
    from deitkit.data.check.left_out import scan_data
    from deitkit.data.check.scan import FEW

    if os.environ.get("WORLD_SIZE", "1") != "1":
        return None
    began = time.perf_counter()
    with Progress() as progress:

        def begin(what: str, count: int) -> None:
            if count > FEW:
                progress.begin(what, total=count)

        def advance(count: int) -> None:
            if progress.what:
                progress.advance(count)

        found = scan_data(data, workers=workers, begin=begin, progress=advance)
    if found is not None and progress.what:
        count, seconds = sum(found.images.values()), time.perf_counter() - began
        what = f"{len(found.bad):,} cannot be read" if found.bad else "all can be read"
        render.say(f"  {count:,} images in {seconds:.1f} s ({count / seconds:,.0f} images/s): {what}")
    return found


def may_ask(recipe: Recipe) -> bool:
    """Whether somebody sits there who has not said yet what becomes of unreadable images."""
    return recipe.data.on_bad_image == "auto" and render.talks_to_a_terminal() and sys.stdin.isatty()


def asked(recipe: Recipe, found: Scan) -> Recipe:
    """The recipe as whoever sits there wants it: unreadable images are left out, or nothing begins.

    Raises:
        DeitkitError: stop.
    """
    from deitkit.data.check.left_out import refuse, refused
    from deitkit.recipe.load import override

    default = "q" if refused(recipe.data, found) else "s"
    render.say(f"{len(found.bad):,} of {sum(found.images.values()):,} images cannot be read ({found.share:.2%}).")
    while True:
        render.say(f"{QUESTION}   [{default}]")
        answer = sys.stdin.readline().strip().lower()[:1] or default
        if answer == "s":
            return override(recipe, {"data.on_bad_image": "leave_out"}, origin=ASKED)
        if answer == "q":
            refuse(recipe.data.model_copy(update={"on_bad_image": "error"}), found)
        for image in found.bad:
            render.say(f"  {image.id}: {image.reason}")
