"""The arithmetic of a training on many GPUs: nothing is measured, everything follows from the recipe and the stream.

    python -m benchmarks.many_gpus [--recipe pretrain/deit_base] [--set KEY=VALUE] [--gpus 8 64 1000] [--views 32]
        [--groups 1] [--image-kb 110] [--shard-mb 256]

--views are those of a GPU and step, --groups the mix groups that they are cut into. --image-kb is the mean size of an
image file, --shard-mb that of a shard of `deitkit data pack`.
"""

from __future__ import annotations

import argparse
import sys
from math import ceil

from deitkit.catalog import DATASETS
from deitkit.data.views.loader import unit_bytes, units_at_once
from deitkit.data.views.stream import plan_stream
from deitkit.models.student import count_parameters
from deitkit.recipe.load import load_recipe, override, parse_override
from deitkit.recipe.schema import Recipe

MB, GB = 1e6, 1e9
FLOAT = 4  # bytes
WHOLE = 256  # classes that one byte tells


def rows_of(
    recipe: Recipe, *, gpus: int, views: int, groups: int, image_kb: float, shard_mb: float
) -> list[tuple[str, str]]:
    """(what, how much) on so many GPUs."""
    changes = {"stream.batch_size": gpus * views, "stream.mix_group": views // groups, "train.accumulation": 1}
    recipe = override(recipe, changes, origin="benchmark")
    known = DATASETS[recipe.data.dataset]
    shape = plan_stream(known.train_size, recipe.stream, mixing=recipe.is_mixing, ranks=gpus)
    steps, epochs = shape.steps_per_epoch, recipe.train.epochs
    parameters = count_parameters(recipe.model, known.classes)
    optimizer, ema = 2, int(recipe.ema is not None)
    label = 1 if known.classes <= WHOLE else 2
    decodes = shape.decodes_per_view * views
    files = known.train_size * image_kb * 1e3
    return [
        ("views a step", f"{shape.batch_size:,}"),
        ("views a GPU and step", f"{shape.batch_size // gpus:,}"),
        ("mix groups a step", f"{shape.groups_per_batch:,} of {shape.mix_group}"),
        ("steps an epoch", f"{steps:,}"),
        ("steps", f"{steps * epochs:,}"),
        ("distinct images an epoch", f"{shape.distinct_images_per_epoch:,}"),
        ("decodes a view", f"{shape.decodes_per_view:.3f}"),
        ("units a GPU and step", f"{units_at_once(shape)} of {unit_bytes(recipe, shape) / MB:.1f} MB"),
        ("images read a GPU and epoch", f"{decodes * steps:,.0f}, {decodes * steps * image_kb * 1e3 / GB:.2f} GB"),
        ("shards in all", f"{ceil(files / (shard_mb * MB)):,} of {shard_mb:g} MB"),
        ("a tape of hard labels", f"{shape.views_per_epoch * epochs * label / GB:.2f} GB"),
        ("of it a GPU and epoch", f"{shape.views_per_epoch * label / gpus / MB:.3f} MB"),
        ("a checkpoint", f"{parameters * FLOAT * (1 + optimizer + ema) / GB:.2f} GB"),
        ("the gradients that a GPU sends a step", f"{2 * (gpus - 1) / gpus * parameters * FLOAT / GB:.2f} GB"),
        ("peak learning rate by the recipe's rule", f"{recipe.peak_lr:.4g}"),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="The arithmetic of a training on many GPUs.")
    parser.add_argument("--recipe", default="pretrain/deit_base")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 1000])
    parser.add_argument("--views", type=int, default=32)
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--image-kb", type=float, default=110)
    parser.add_argument("--shard-mb", type=float, default=256)
    given = parser.parse_args()
    recipe = load_recipe(given.recipe, dict(parse_override(text) for text in given.set))
    columns = [
        rows_of(
            recipe, gpus=gpus, views=given.views, groups=given.groups, image_kb=given.image_kb, shard_mb=given.shard_mb
        )
        for gpus in given.gpus
    ]
    print(f"| {recipe.name} | " + " | ".join(f"{gpus:,} GPUs" for gpus in given.gpus) + " |")
    print("|---" * (1 + len(columns)) + "|")
    for rows in zip(*columns, strict=True):
        print(f"| {rows[0][0]} | " + " | ".join(value for _, value in rows) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
