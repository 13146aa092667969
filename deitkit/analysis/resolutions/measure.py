"""One model at other image sizes: as it is, and fine-tuned there (paper Sec. 3, Table 10; FixRes). Trains nothing.

A transformer's position embedding is resampled and nothing else changes; a convnet runs at any size as it is.
Legend: P prefix tokens, N patches; sizes are (height, width) px, a grid is (rows, columns) of patches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from deitkit.analysis.positions.measure import default_sizes
from deitkit.analysis.speed import Size, spelled
from deitkit.catalog import MODELS, TABLE10, PublishedSpeed
from deitkit.errors import DeitkitError
from deitkit.models.class_names import imagenet_names, numbered
from deitkit.models.load import LoadedModel, grid_of, load_info, upscale
from deitkit.models.throughput import Speed
from deitkit.models.weights import open_reference
from deitkit.recipe.schema import PositionMode
from deitkit.runs.folder import Run
from deitkit.teachers.models import is_fixed

if TYPE_CHECKING:
    from deitkit.predictions.table import Predictions

POSITIONS = "pos_embed"
DISTILLATION = ("dist_token", "head_dist.weight", "head_dist.bias")  # which a fine-tuning may add or leave out


@dataclass(frozen=True)
class Hits:
    """Right decisions of each head, of `images`; `real` counts those that people accept, of the `judged` images.

    `decided` [N]: the deciding head's, in the order of the images' ids, so that two can be paired.
    """

    right: Mapping[str, int]
    images: int
    real: Mapping[str, int] = field(default_factory=dict)
    judged: int = 0
    decided: NDArray[np.bool_] | None = field(default=None, compare=False)

    @classmethod
    def of(cls, table: Predictions, ids: Sequence[str] | None = None) -> Hits:
        """Counted over all images, or over those with these ids.

        Raises:
            DeitkitError: the predictions have none of them.
        """
        wanted = set(table.ids if ids is None else ids)
        chosen = np.array([image_id in wanted for image_id in table.ids], dtype=np.bool_)
        if not chosen.any():
            raise DeitkitError(
                f"the predictions of {table.classifier} have none of the images",
                value=table.classifier,
                remedy="deitkit evaluate makes them anew",
            )
        right = {head: int(table.hits(head)[chosen].sum()) for head in table.heads}
        order = sorted(np.flatnonzero(chosen).tolist(), key=table.ids.__getitem__)
        decided = table.hits([*table.heads][-1])[order]
        if table.accepted is None:
            return cls(right, int(chosen.sum()), decided=decided)
        judged = chosen & (table.accepted.counts > 0)
        real = {head: int(table.accepted.hits(table.top1(head)[:, None])[judged].sum()) for head in table.heads}
        return cls(right, int(chosen.sum()), real, int(judged.sum()), decided)

    @property
    def head(self) -> str:
        """The one that decides: fused, or the only one."""
        return [*self.right][-1]

    def top1(self, head: str = "") -> float:
        return self.right[head or self.head] / self.images

    def real_top1(self, head: str = "") -> float | None:
        return self.real[head or self.head] / self.judged if self.judged else None


@dataclass(frozen=True)
class Finetuned:
    """A run that fine-tuned the model at a size; `v2` on ImageNet-V2, where that is here."""

    run: str
    size: Size
    hits: Hits
    v2: Hits | None = None


@dataclass(frozen=True)
class Resolution:
    """The model at one size, not fine-tuned: what it costs and decides; None is what was not measured.

    `grid` and `tokens` (N + P) are a transformer's; `published` is the paper's row for the same model and size.
    """

    size: Size
    grid: tuple[int, int] | None = None
    tokens: int | None = None
    macs: int | None = None
    speed: Speed | None = None
    hits: Hits | None = None
    v2: Hits | None = None
    published: PublishedSpeed | None = None


def patch_of(model: LoadedModel) -> Size | None:
    """A transformer's patch (height, width) px; None for a network that takes any size.

    Raises:
        DeitkitError: it runs at its own size only.
    """
    network = model.student.network
    if isinstance(network, VisionTransformer) and network.pos_embed is not None:
        height, width = network.patch_embed.patch_size
        return int(height), int(width)
    if is_fixed(model.student):
        raise DeitkitError(
            f"{model.origin}: {model.student.architecture} runs at its own size only, {model.info.size[0]} px",
            value=model.origin,
            remedy="choose a DeiT, whose position embedding can be resampled, or a convnet, which takes any size",
        )
    return None


def choose_sizes(model: LoadedModel, asked: Sequence[Size] = ()) -> list[Size]:
    """The sizes asked for, or Table 10's for a model of this size; its own is always there.

    Raises:
        DeitkitError: a size is no multiple of the patch; the nearest are named.
    """
    patch = patch_of(model)
    step = patch or (1, 1)
    nearest = [(_whole(height, step[0]), _whole(width, step[1])) for height, width in asked]
    if patch is not None and (wrong := [size for size, near in zip(asked, nearest, strict=True) if size != near]):
        raise DeitkitError(
            f"{', '.join(map(spelled, wrong))} px: no multiple of the patch, {patch[0]}x{patch[1]} px",
            value=spelled(wrong[0]),
            remedy="--sizes " + ",".join(map(spelled, dict.fromkeys(nearest))),
        )
    return sorted({*(asked or default_sizes(model.info.size, step)), model.info.size})


def _whole(pixels: int, patch: int) -> int:
    return max(1, round(pixels / patch)) * patch


def at_size(model: LoadedModel, size: Size, *, mode: PositionMode = "bicubic") -> LoadedModel:
    """The model at another size, as `deitkit upscale` makes it; at its own it is itself."""
    if size == model.info.size:
        return model
    if patch_of(model) is not None:
        return upscale(model, size, mode=mode)[0]
    return replace(model, info=replace(model.info, size=size))


def shape_of(model: LoadedModel) -> tuple[tuple[int, int] | None, int | None]:
    """A transformer's grid and number of tokens, prefix tokens included."""
    if patch_of(model) is None:
        return None, None
    rows, columns = grid_of(model.student)
    return (rows, columns), rows * columns + int(model.student.network.num_prefix_tokens)


def published_at(model: LoadedModel, size: Size) -> PublishedSpeed | None:
    """Table 10's row, where the model is an ImageNet's DeiT-B without distillation and the size one of its."""
    network: Any = model.student.network
    base, names = MODELS["deit_base"], model.info.class_names
    if names != numbered(len(imagenet_names())) and set(names) != set(imagenet_names()):
        return None
    if model.student.distilled or patch_of(model) != (base.patch_size, base.patch_size):
        return None
    shape = (network.embed_dim, len(network.blocks), network.blocks[0].attn.num_heads)
    if shape != (base.embed_dim, base.depth, base.num_heads):
        return None
    return next((row for row in TABLE10 if (row.image_size, row.image_size) == size), None)


def are_upscaled(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two models' tensors are the same but for the position embedding: one is the other, resampled."""
    return own.keys() == other.keys() and all(
        key == POSITIONS or (own[key].shape == other[key].shape and bool((own[key] == other[key]).all())) for key in own
    )


def differing_shapes(own: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Tensors in which two architectures differ, the position embedding and the distillation token left aside."""
    return [
        key
        for key in sorted((own.keys() | other.keys()) - {POSITIONS, *DISTILLATION})
        if key not in own or key not in other or own[key].shape != other[key].shape
    ]


# What was fine-tuned from it


def find_finetuned(
    reference: str, folder: Path, model: LoadedModel, *, say: Callable[[str], None]
) -> dict[str, Size]:  # fmt: skip
    """Runs beside the model's `folder` that went on from it, and their image sizes.

    `say` is told which started from it but cannot be taken, and why.
    """
    found: dict[str, Size] = {}
    for path in sorted(folder.parent.iterdir()) if folder.exists() else ():
        if not Run.is_run(path) or path.resolve() == folder.resolve():
            continue
        try:
            start = Run(path).recipe().start
            if start is not None and is_start(start.weights, path.parent, reference, folder, model):
                found[str(path)] = finetuned_size(str(path), model)
        except (DeitkitError, OSError, ValueError) as error:
            say(f"{path} is left out: {error.what if isinstance(error, DeitkitError) else error}")
    return found


def is_start(weights: str, beside: Path, reference: str, folder: Path, model: LoadedModel) -> bool:
    """Whether start `weights` are this model: its folder, or tensors that differ in the position embedding alone.

    Where they are no longer at the place that a recipe names, they are looked for `beside` its run, too.
    """
    if weights == reference:
        return True
    places = [place for place in (Path(weights), beside / Path(weights).name) if place.exists()]
    if any(folder.resolve() in (place.resolve(), place.resolve().parent) for place in places):
        return True
    own = model.student.network.state_dict()
    return any(are_upscaled(own, open_reference(str(place)).state) for place in places)


def finetuned_size(reference: str, model: LoadedModel) -> Size:
    """The image size of a run that went on from the model.

    Raises:
        DeitkitError: it did not, as far as classes and tensors tell, or is not finished.
    """
    info, own = load_info(reference), model.info.class_names
    remedy = "name a run that `deitkit finetune --from` made of it, or of what `deitkit upscale` made of it"
    unnamed = numbered(len(own)) in (own, info.class_names)
    if len(info.class_names) != len(own) or (set(info.class_names) != set(own) and not unnamed):
        raise DeitkitError(
            f"{reference} decides between other classes than {model.origin}",
            value=reference,
            problems=[f"{len(names):,}: {', '.join(names[:5])}" for names in (info.class_names, own)],
            remedy=remedy,
        )
    state, other = model.student.network.state_dict(), open_reference(reference).state
    if are_upscaled(state, other):
        raise DeitkitError(f"{reference} is {model.origin} itself: not fine-tuned", value=reference, remedy=remedy)
    if different := differing_shapes(state, other):
        raise DeitkitError(
            f"{reference} is of another architecture than {model.origin}",
            value=reference,
            problems=different[:5],
            remedy=remedy,
        )
    return info.size
