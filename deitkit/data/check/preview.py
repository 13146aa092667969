"""Contact sheets: images, their augmented views, and mix groups, as pixels and captions on one picture.

Views and mixes come from the recipe's own stream: what is drawn is what training sees at that seed and epoch, brought
back from normalised values to 8 bits (values outside of 0..255, such as those of random erasing, are cut off). Writes
no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont

from deitkit.data.open import Source, image_name
from deitkit.data.views.augment import Reading, UnreadableImage, decode, erasing_noise, open_image, size_of
from deitkit.data.views.backends import backend_of
from deitkit.data.views.balance import BalancedDraw
from deitkit.data.views.loader import Batch, TrainLoader, erase_boxes, normalised, per_channel
from deitkit.data.views.plan import draw_plans
from deitkit.data.views.stream import order, plan_stream
from deitkit.data.views.workers import view_of
from deitkit.recipe.schema import Recipe

Pixels = npt.NDArray[np.uint8]

LEAST_CELL = 96  # pixels: smaller views are enlarged by a whole number, so that they can be seen
THUMBNAIL = 192  # pixels: images are shrunk to fit
GAP, LINE, FONT_SIZE = 8, 15, 12  # pixels
PAPER, INK, MISSING = (255, 255, 255), (20, 20, 20), (200, 60, 60)


@dataclass(frozen=True)
class PreviewTile:
    """pixels [H, W, 3] and the lines below them; `pixels` is None where an image cannot be read."""

    pixels: Pixels | None
    caption: tuple[str, ...]


def image_tiles(source: Source, recipe: Recipe, *, count: int, epoch: int = 0) -> list[PreviewTile]:
    """The first images of the epoch's order, whole, with their class names."""
    return [_whole(source, index, recipe) for index in _first_images(source, recipe, count=count, epoch=epoch)]


def view_tiles(source: Source, recipe: Recipe, *, count: int, views: int, epoch: int = 0) -> list[list[PreviewTile]]:
    """A block an image: itself and its views, repeats of the epoch first, then those of the next epochs.

    Raises:
        UnreadableImage: one cannot be read.
    """
    repeats, blocks = recipe.stream.repeats, []
    for index in _first_images(source, recipe, count=count, epoch=epoch):
        block = [_whole(source, index, recipe)]
        for number in range(views):
            later, repeat = divmod(number, repeats)
            pixels = augmented_view(source, recipe, index, epoch=epoch + later, repeat=repeat)
            of_repeats = f", view {repeat + 1} of {repeats}" if repeats > 1 else ""
            block.append(PreviewTile(pixels, (f"epoch {epoch + later}{of_repeats}",)))
        blocks.append(block)
    return blocks


def augmented_view(source: Source, recipe: Recipe, index: int, *, epoch: int, repeat: int) -> Pixels:
    """The view [H, W, 3] that the stream makes of an image where it draws it, before mixing.

    Raises:
        UnreadableImage: the image cannot be read.
    """
    name, reading = image_name(source, index), Reading.of(recipe.data)
    opened = open_image(source.read(index), name, reading)
    height, width = size_of(opened, name, reading)
    plans = draw_plans(
        recipe.augment, recipe.model.size, np.array([height]), np.array([width]), seed=recipe.train.seed,
        epoch=epoch, images=np.array([index]), repeat=repeat,
    )  # fmt: skip
    image = backend_of(recipe.stream.backend).load_rgb(opened, name, reading)
    view = view_of(image, plans[0], recipe)
    batch = normalised(torch.from_numpy(view[None].copy()), *_moments(recipe))
    erase_boxes(batch, torch.from_numpy(plans.erase), torch.from_numpy(erasing_noise(plans[0]).ravel()))
    view_pixels: Pixels = to_pixels(batch, recipe)[0]
    return view_pixels


def mix_tiles(source: Source, recipe: Recipe, *, groups: int, epoch: int = 0) -> list[list[PreviewTile]]:
    """The first mix groups of the epoch, whole, made by the training loader itself.

    Raises:
        DeitkitError: the recipe's batch does not fit to so few images, or an image cannot be read.
    """
    return [
        [
            PreviewTile(pixels, mix_caption(source, batch, place))
            for place, pixels in enumerate(to_pixels(batch.images, recipe))
        ]
        for batch in group_batches(source, recipe, groups=groups, epoch=epoch)
    ]


def group_batches(source: Source, recipe: Recipe, *, groups: int, epoch: int = 0) -> Iterator[Batch]:
    """The epoch's first mix groups, one a batch.

    Each is the part of one rank of as many as a batch has groups: a batch's contents do not depend on the ranks, and
    so only the groups that are wanted are made.
    """
    whole = plan_stream(len(source), recipe.stream, mixing=recipe.is_mixing)
    shape = replace(whole, ranks=whole.groups_per_batch)
    for group in range(min(groups, shape.ranks * shape.steps_per_epoch)):
        step = epoch * shape.steps_per_epoch + group // shape.ranks
        for parts in TrainLoader(source, recipe, shape, rank=group % shape.ranks).steps(step, step + 1):
            yield from parts


def mix_caption(source: Source, batch: Batch, place: int) -> tuple[str, ...]:
    """Both labels with their shares, or the one label."""
    own, partner = (source.class_names[labels[place]] for labels in (batch.labels, batch.partners))
    share = float(batch.lam[place])
    return (own, "not mixed") if share == 1.0 else (f"{share:.2f} x {own}", f"{1 - share:.2f} x {partner}")


def to_pixels(images: torch.Tensor, recipe: Recipe) -> Pixels:
    """images [B, 3, H, W], normalised -> [B, H, W, 3], rounded to 8 bits."""
    mean, std = _moments(recipe)
    values = images.mul(std).add(mean).mul(255).round().clamp(0, 255)
    return values.to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def contact_sheet(blocks: Sequence[Sequence[PreviewTile]], *, columns: int, title: str) -> Image.Image:
    """Blocks of tiles, each from a new row on, every tile with its caption, below a title.

    Pixels are enlarged by whole numbers and never shrunk.
    """
    tiles = [tile for block in blocks for tile in block]
    sizes = np.array([[LEAST_CELL] * 2, *(tile.pixels.shape[:2] for tile in tiles if tile.pixels is not None)])
    height, width = sizes.max(axis=0).tolist()
    step = (width + GAP, height + GAP + LINE * max(len(tile.caption) for tile in tiles))
    rows = [block[start : start + columns] for block in blocks for start in range(0, len(block), columns)]
    size = (GAP + max(len(row) for row in rows) * step[0], 2 * GAP + LINE + len(rows) * step[1])
    sheet = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    draw.text((GAP, GAP), _fitting(title, sheet.width - 2 * GAP, draw, font), fill=INK, font=font)
    for (row, column), tile in _placed(rows):
        left, top = GAP + column * step[0], 2 * GAP + LINE + row * step[1]
        box = (left, top, left + width, top + height)
        if tile.pixels is None:
            _cross_out(draw, box)
        else:
            _paste(sheet, tile.pixels, box)
        for number, line in enumerate(tile.caption):
            where = (left, box[3] + 2 + number * LINE)
            draw.text(where, _fitting(line, width, draw, font), fill=INK, font=font)
    return sheet


def _placed(rows: Sequence[Sequence[PreviewTile]]) -> Iterator[tuple[tuple[int, int], PreviewTile]]:
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            yield (row, column), tile


def _paste(sheet: Image.Image, pixels: Pixels, box: tuple[int, int, int, int]) -> None:
    """In the middle of the box (left, top, right, bottom), as large as a whole number allows."""
    width, height = box[2] - box[0], box[3] - box[1]
    scale = min(height // pixels.shape[0], width // pixels.shape[1])
    picture = Image.fromarray(pixels.repeat(scale, axis=0).repeat(scale, axis=1))
    sheet.paste(picture, (box[0] + (width - picture.width) // 2, box[1] + (height - picture.height) // 2))


def _cross_out(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box[0], box[1], box[2] - 1, box[3] - 1
    draw.rectangle((left, top, right, bottom), outline=MISSING)
    draw.line((left, top, right, bottom), fill=MISSING)
    draw.line((left, bottom, right, top), fill=MISSING)


def _fitting(
    text: str, width: int, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The text, cut off with an ellipsis where it is longer than `width` pixels."""
    if draw.textlength(text, font=font) <= width:
        return text
    while text and draw.textlength(f"{text}...", font=font) > width:
        text = text[:-1]
    return f"{text}..."


def _first_images(source: Source, recipe: Recipe, *, count: int, epoch: int) -> list[int]:
    positions = np.arange(min(count, len(source)))
    if recipe.data.balance == "none":
        drawn = order(recipe.train.seed, epoch, len(source), positions)
    else:
        drawn, _ = BalancedDraw.of(source, recipe.data.balance).images(recipe.train.seed, epoch, positions)
    indices: list[int] = drawn.tolist()
    return indices


def _whole(source: Source, index: int, recipe: Recipe) -> PreviewTile:
    """The image with its class, shrunk to a thumbnail where it is larger."""
    class_name, name = source.class_names[source.labels[index]], image_name(source, index)
    try:
        image = decode(source.read(index), name, Reading.of(recipe.data))
    except UnreadableImage:
        return PreviewTile(None, (f"{class_name}: cannot be read",))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return PreviewTile(np.asarray(image), (class_name,))


def _moments(recipe: Recipe) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation per channel, each [1, 3, 1, 1]."""
    device = torch.device("cpu")
    return per_channel(recipe.data.mean, device), per_channel(recipe.data.std, device)
