"""`deitkit finetune --find-lr`: the range test's suggestion and its curve. Measures nothing itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from deitkit.cli import render
from deitkit.cli.options import workers_or_default
from deitkit.cli.picture import BARS

if TYPE_CHECKING:
    from deitkit.recipe.resolve import TrainingOptions
    from deitkit.recipe.schema import Recipe
    from deitkit.training.find_lr import RangeTest

HEIGHT, WIDTH = 8, 64  # characters of the curve
SHOWN_ABOVE = 1.0  # of its fall, the loss above its start that is drawn: what diverges would flatten the rest


def show_rate(recipe: Recipe, options: TrainingOptions) -> None:
    """Test, print the suggested rate and draw the curve; nothing is kept."""
    from deitkit.distributed import pick_device
    from deitkit.training.find_lr import find_rate

    found = find_rate(recipe, device=pick_device(options.device), workers=workers_or_default(options.workers))
    if options.as_json:
        render.print_json({"range_test": asdict(found), "recipe_lr": recipe.optim.lr})
        return
    render.print_lines("Loss by learning rate, smoothed", heading(found), curve(found))
    if found.lr is None or found.steepest is None or found.lowest is None:
        render.say("the loss never fell: these weights may be at their best, or too much is held (train.parts)")
        return
    per = "" if recipe.optim.lr_scaling == "none" else " per 512 images"
    rows = [
        ["suggested optim.lr" + per, f"{found.lr:g}", "where the loss falls most steeply"],
        ["the recipe's optim.lr" + per, f"{recipe.optim.lr:g}", recipe.origin("optim.lr")],
        ["lowest loss at the rate", f"{found.lowest:.2g}", f"{found.steepest:.2g} is the suggestion's, absolute"],
    ]
    render.print_table("Learning rate", ["", "", ""], rows)
    render.say(f"to take it: --lr {found.lr:g}; nothing was kept")


def heading(found: RangeTest) -> str:
    """What the axes are."""
    end = ", where it diverged" if found.diverged else ""
    return f"rate from {found.rates[0]:.0e} to {found.rates[-1]:.0e}{end}; ^ marks the suggestion"


def curve(found: RangeTest) -> list[str]:
    """The smoothed loss as lines of text, the rate to the right, with a mark below the suggestion."""
    first, lowest = found.smoothed[0], min(found.smoothed)
    top = first + SHOWN_ABOVE * (first - lowest) if found.steepest is not None else max(found.smoothed)
    values = [min(value, top) for value in found.smoothed]
    cells = min(WIDTH, len(values))
    places = [round(cell * (len(values) - 1) / max(cells - 1, 1)) for cell in range(cells)]
    rows = bars([values[place] for place in places], height=HEIGHT, unicode=render.speaks_unicode())
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    margin = max(len(low), len(high))
    names = [high, *[""] * (HEIGHT - 2), low]
    lines = [f"{name:>{margin}} {row}" for name, row in zip(names, rows, strict=True)]
    if found.steepest is not None:
        nearest = min(range(cells), key=lambda cell: abs(places[cell] - found.rates.index(found.steepest or 0.0)))
        lines.append(" " * (margin + 1 + nearest) + "^")
    return lines


def bars(values: Sequence[float], *, height: int, unicode: bool = True) -> list[str]:
    """A column a value over so many lines, the least an eighth of a line high."""
    low, high = min(values), max(values)
    most = height * len(BARS)
    scale = (most - 1) / (high - low) if high > low else 0.0
    eighths = [1 + round((value - low) * scale) for value in values]
    lines = []
    for row in reversed(range(height)):
        filled = [min(max(count - row * len(BARS), 0), len(BARS)) for count in eighths]
        lines.append("".join((" " + BARS)[part] if unicode else " #"[part > 0] for part in filled))
    return lines
