"""`deitkit data preview`: a contact sheet of images, of their views, or of mix groups, written as a PNG file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.catalog import DATASETS
from deitkit.cli import render
from deitkit.cli.data.shared import data_of, short_name
from deitkit.cli.options import (
    AsJson,
    ChosenRecipe,
    DataPath,
    NameOrPath,
    Overwrite,
    Seed,
    Set,
    ValFraction,
    output_option,
)
from deitkit.errors import DeitkitError, one_of
from deitkit.files import is_stream, output_file, write_atomic
from deitkit.recipe.pick import OWN, pick_recipe

if TYPE_CHECKING:
    from deitkit.data.open import Source
    from deitkit.recipe.schema import Data, Recipe

KINDS = {"images": 24, "views": 6, "mixes": 1}  # how many images, or mix groups
VIEWS, COLUMNS = 6, 8


def preview(
    name: NameOrPath, data: DataPath = "", val_fraction: ValFraction = None,
    output: Annotated[str, output_option("The .png file [default: preview-NAME-KIND.png].")] = "",
    kind: Annotated[str, typer.Option("--kind", help="images, views or mixes.")] = "images",
    recipe: ChosenRecipe = "", sets: Set = None,
    count: Annotated[int | None, typer.Option("--count", min=1, help="How many images, or mix groups.")] = None,
    seed: Seed = 0,
    epoch: Annotated[int, typer.Option("--epoch", min=0, help="The run's epoch.")] = 0,
    overwrite: Overwrite = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Draw a contact sheet: training images, their augmented views, or mix groups exactly as training sees them.

    Example: deitkit data preview digits --kind mixes --recipe pretrain/deit_tiny --overwrite
    Example: deitkit data preview photos --kind views
    Example: deitkit data preview photos --count 48 -o sheet.png
    """
    shown = one_of(kind, list(KINDS), what="kind of preview")
    target = Path(output or f"preview-{short_name(name)}-{shown}.png")
    if target.suffix.lower() != ".png" and not is_stream(target):
        raise DeitkitError(f"{target} is no .png file", value=str(target), remedy=f"name it {target}.png")
    target = output_file(target, overwrite=overwrite)
    settings = data_of(name, data=data, val_fraction=val_fraction)
    source, used = images_and_recipe(settings, recipe, sets, seed=seed or 0)
    title = f"{name}: {shown}, recipe {used.name}, seed {used.train.seed}, epoch {epoch}"
    content = draw(source, used, kind=shown, count=count or KINDS[shown], epoch=epoch, title=title)
    write_atomic(target, content)
    if as_json:
        facts = {"file": target, "kind": shown, "recipe": used.name, "seed": used.train.seed, "epoch": epoch}
        render.print_json(facts)
        return
    render.say(f"{title}; wrote {target}")


def images_and_recipe(settings: Data, name: str, sets: list[str] | None, *, seed: int) -> tuple[Source, Recipe]:
    """The training images and the recipe that looks at them; a generic recipe is fitted to them as in training."""
    from deitkit.data.open import open_source
    from deitkit.recipe.choose import choose_for
    from deitkit.recipe.load import load_recipe, parse_override

    known = DATASETS.get(settings.dataset)
    evaluated_only = known is not None and not known.train_size
    default = "imagenet" if evaluated_only else settings.dataset
    changes = {"data.dataset": settings.dataset, "data.path": settings.path, "data.val_fraction": settings.val_fraction}
    changes = {key: value for key, value in changes.items() if value is not None}
    changes |= {"train.seed": seed} | dict(parse_override(text) for text in sets or ())
    name = name or pick_recipe(default, image_size=None, distilled=False)
    of_data = load_recipe(name, {key: value for key, value in changes.items() if key.startswith("data.")})
    source = open_source(of_data.data, "val" if evaluated_only else "train")
    if name in OWN:
        changes = {choice.key: choice.value for choice in choose_for(len(source), of_data, given=changes)} | changes
    return source, load_recipe(name, changes)


def draw(source: Source, recipe: Recipe, *, kind: str, count: int, epoch: int, title: str) -> bytes:
    """The contact sheet as a PNG file's bytes."""
    from deitkit.data.check import preview as sheets

    if kind == "images":
        blocks = [sheets.image_tiles(source, recipe, count=count, epoch=epoch)]
    elif kind == "views":
        blocks = sheets.view_tiles(source, recipe, count=count, views=VIEWS, epoch=epoch)
    else:
        blocks = sheets.mix_tiles(source, recipe, groups=count, epoch=epoch)
    columns = 1 + VIEWS if kind == "views" else COLUMNS
    buffer = io.BytesIO()
    sheets.contact_sheet(blocks, columns=columns, title=title).save(buffer, "PNG")
    return buffer.getvalue()
