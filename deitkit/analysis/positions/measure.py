"""What a position embedding looks like, and what each interpolation keeps of it (paper Sec. 3). Trains nothing.

The paper resamples it bicubically, because bilinear interpolation shrinks the vectors' norms and accuracy with them
before any fine-tuning. Measured here: norms and cosines before and after each mode and size, and accuracy as it is;
only `measure_accuracy` runs a network.
Legend: P prefix tokens, D width, K classes; a grid is (rows, columns) of patches; sizes are (height, width) px.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn.functional import normalize

from deitkit.data.open import Source
from deitkit.errors import DeitkitError
from deitkit.measures.arrays import Hits
from deitkit.models.positions import POSITION_MODES, resample_pos_embed
from deitkit.recipe.schema import PositionMode

if TYPE_CHECKING:
    from deitkit.data.views.augment import Reading
    from deitkit.models.load import LoadedModel
    from deitkit.predictions.predict import ClassMap

Grid = tuple[int, int]
AS_TRAINED = "as trained"
TABLE10_SIZES = (160, 224, 320, 384)  # px, for a model of 224


@dataclass(frozen=True, eq=False)
class Positions:
    """The patches' position vectors [h, w, D], resampled by `mode` or as trained."""

    mode: str
    vectors: Tensor

    @property
    def grid(self) -> Grid:
        return self.vectors.shape[0], self.vectors.shape[1]

    def norms(self) -> NDArray[np.float64]:
        """L2 norm of each patch's vector: [h, w]."""
        found: NDArray[np.float64] = self.vectors.norm(dim=-1).numpy()
        return found

    def similarity(self, row: int, column: int) -> NDArray[np.float64]:
        """Cosine of one patch's vector with every patch's: [h, w]."""
        directions = normalize(self.vectors, dim=-1)
        found: NDArray[np.float64] = (directions @ directions[row, column]).numpy()
        return found


@dataclass(frozen=True)
class Accuracy:
    """Right decisions of each head at one size with one mode, of `images`; `hits` [N] are the deciding head's."""

    size: tuple[int, int]
    mode: str
    right: dict[str, int]
    images: int
    hits: Hits | None = field(default=None, compare=False)


@dataclass(frozen=True, eq=False)
class PositionMeasures:
    """One model's embedding as trained, resampled to each size by each mode, and what it decides there."""

    classifier: str
    size: tuple[int, int]
    trained: Positions
    resampled: dict[tuple[int, int], list[Positions]]
    accuracy: list[Accuracy] = field(default_factory=list)


def patch_positions(pos_embed: Tensor, grid: Grid, *, mode: str = AS_TRAINED) -> Positions:
    """pos_embed [1, P + h*w, D] -> the patches' vectors in float64; prefix tokens have no place in an image."""
    prefix = pos_embed.shape[1] - grid[0] * grid[1]
    if prefix < 0:
        raise DeitkitError(
            f"a position embedding of {pos_embed.shape[1]} rows has no grid {grid[0]} x {grid[1]}",
            value=tuple(pos_embed.shape),
            remedy="name the grid (rows, columns) that the embedding was trained on",
        )
    return Positions(mode, pos_embed[0, prefix:].detach().cpu().double().reshape(*grid, -1))


def resample_positions(
    pos_embed: Tensor, grid: Grid, new_grid: Grid, *, modes: Sequence[PositionMode] = POSITION_MODES
) -> list[Positions]:
    """The same embedding on another grid, once for each mode; on its own grid as it is."""
    prefix = pos_embed.shape[1] - grid[0] * grid[1]
    if grid == new_grid:
        return [patch_positions(pos_embed, grid)]
    return [
        patch_positions(
            resample_pos_embed(pos_embed, grid, new_grid, prefix_tokens=prefix, mode=mode), new_grid, mode=mode
        )
        for mode in modes
    ]


def default_sizes(size: tuple[int, int], patch: tuple[int, int]) -> list[tuple[int, int]]:
    """Table 10's resolutions for a model of this size: 5/7, 1, 10/7 and 12/7 of it, in whole patches."""
    found = {
        (_whole(size[0] * pixels / 224, patch[0]), _whole(size[1] * pixels / 224, patch[1])) for pixels in TABLE10_SIZES
    }
    return sorted(found | {size})


def _whole(pixels: float, patch: int) -> int:
    return max(1, round(pixels / patch)) * patch


def measure_positions(
    model: LoadedModel, sizes: Sequence[tuple[int, int]] = (), *, modes: Sequence[PositionMode] = POSITION_MODES,
    name: str = "",
) -> PositionMeasures:  # fmt: skip
    """A model's position embedding at each size (default: Table 10's, scaled); no image is read.

    Raises:
        DeitkitError: the model has no position embedding, or a size is no multiple of its patch.
    """
    network: Any = model.student.network
    if not isinstance(network, VisionTransformer) or network.pos_embed is None:
        raise DeitkitError(
            f"{model.student.architecture} has no position embeddings",
            value=model.origin,
            remedy="position embeddings exist in vision transformers; choose a DeiT run",
        )
    rows, columns = network.patch_embed.grid_size
    patch = network.patch_embed.patch_size
    wrong = [f"{size[0]}x{size[1]}" for size in sizes if size[0] % patch[0] or size[1] % patch[1]]
    if wrong:
        raise DeitkitError(
            f"{', '.join(wrong)} px: no multiple of the patch, {patch[0]}x{patch[1]} px",
            value=wrong[0],
            remedy="--sizes " + ",".join("x".join(map(str, size)) for size in default_sizes(model.info.size, patch)),
        )
    embedding = network.pos_embed.detach().cpu()
    return PositionMeasures(
        classifier=name or model.origin,
        size=model.info.size,
        trained=patch_positions(embedding, (rows, columns)),
        resampled={
            size: resample_positions(
                embedding, (rows, columns), (size[0] // patch[0], size[1] // patch[1]), modes=modes
            )
            for size in sorted(sizes or default_sizes(model.info.size, patch))
        },
    )  # fmt: skip


def measure_accuracy(
    model: LoadedModel,
    measures: PositionMeasures,
    source: Source,
    *,
    device: torch.device,
    reading: Reading | None = None,
    classes: ClassMap | None = None,
) -> Iterator[Accuracy]:
    """What the model decides at each size with each mode, nothing fine-tuned; every size reads the images anew."""
    from deitkit.data.views.augment import AS_IT_LIES
    from deitkit.models.load import upscale
    from deitkit.predictions.predict import predict
    from deitkit.predictions.table import decisive

    for size, versions in measures.resampled.items():
        for positions in versions:
            mode: PositionMode = next((each for each in POSITION_MODES if each == positions.mode), "bicubic")
            resized = model if size == measures.size else upscale(model, size, mode=mode)[0]
            table = predict(
                resized.student.eval().to(device), resized.info, source, name=measures.classifier, device=device,
                reading=reading or AS_IT_LIES, classes=classes,
            )  # fmt: skip
            right = {head: int(table.hits(head).sum()) for head in table.heads}
            yield Accuracy(size, positions.mode, right, len(table.ids), table.hits(decisive(table)))
