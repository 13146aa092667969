"""Images a second, memory and operations of architectures, beside the paper's one V100 (Tables 5 and 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from deitkit.analysis.tradeoff.measure import count_macs
from deitkit.catalog import MODELS, TABLE5, TABLE10
from deitkit.errors import DeitkitError
from deitkit.models.student import build_student
from deitkit.models.throughput import Candidate, Precision, Protocol, Speed, measure_speed
from deitkit.recipe.schema import Model

CLASSES = 1000  # ImageNet's, as in the paper
# timm's names of the paper's models; deitkit's own are those of the table.
IN_THE_PAPER = {
    **{f"resnet{depth}": f"resnet{depth}" for depth in (18, 50, 101, 152)},
    **{f"regnety_{name}": f"regnety_{gf}gf" for name, gf in (("040", 4), ("080", 8), ("160", 16))},
    **{f"efficientnet_b{number}": f"efficientnet_b{number}" for number in range(8)},
    "vit_base_patch16_384": "vit_base_16", "vit_large_patch16_384": "vit_large_16",
    **{
        f"deit_{size}{kind}_patch16_{pixels}": f"deit_{size}{kind}{'_384' * (pixels == 384)}"
        for size in ("tiny", "small", "base") for kind in ("", "_distilled") for pixels in (224, 384)
    },
}  # fmt: skip
# What is measured where no model is named: the paper's own three, and rivals of about their size.
USUAL = ("deit_tiny", "deit_small", "deit_base", "timm:resnet18", "timm:resnet50", "timm:regnety_040")


@dataclass(frozen=True)
class Measured:
    """One architecture at one size, precision and way to run it. `macs` of one image; `published`: images a second of
    the paper's V100, where the paper has this model at this size."""

    model: str
    size: tuple[int, int]
    precision: Precision
    compiled: bool
    parameters: int
    macs: int | None
    speed: Speed
    published: float | None


def measure_throughput(
    names: Sequence[str], *, sizes: Sequence[tuple[int, int]], precisions: Sequence[Precision], compiled: bool,
    protocol: Protocol, say: Callable[[str], None],
) -> list[Measured]:  # fmt: skip
    """Architectures by deitkit's names or `timm:NAME`, with random weights; at their own size or at each of `sizes`.

    Within a precision all take turns, compiled ones beside the others.

    Raises:
        DeitkitError: there is no such architecture, it cannot run at a size, does not fit, or cannot be compiled.
    """
    plain = [candidate for name in names for candidate in _candidates(name, sizes)]
    macs = [count_macs(candidate) for candidate in plain]
    parameters = [sum(each.numel() for each in candidate.network.parameters()) for candidate in plain]
    measured = []
    for precision in precisions:
        candidates = [*plain, *(_compiled(candidate) for candidate in plain if compiled)]
        speeds = _timed(candidates, replace(protocol, precision=precision), say)
        for place, speed in enumerate(speeds):
            number = place % len(plain)
            model = plain[number]
            measured.append(
                Measured(
                    model.name, model.size, precision, place >= len(plain), parameters[number], macs[number], speed,
                    published(model.name, model.size),
                )
            )  # fmt: skip
    return measured


def published(name: str, size: tuple[int, int]) -> float | None:
    """Images a second in the paper's Table 5, or Table 10 for DeiT-B at other sizes; one V100, 224 px unless said."""
    row = IN_THE_PAPER.get(name.removeprefix("timm:").partition(".")[0], name)
    found = [each.images_per_s for each in TABLE5 if each.model == row and (each.image_size,) * 2 == size]
    found += [each.images_per_s for each in TABLE10 if each.model == row and (each.image_size,) * 2 == size]
    return found[0] if found else None


def _candidates(name: str, sizes: Sequence[tuple[int, int]]) -> Iterator[Candidate]:
    known = name if name in MODELS or name.startswith("timm:") else f"timm:{name}"
    for size in sizes or (_own_size(known),):
        model = Model(name=known, image_size=size)
        yield Candidate(known, build_student(model, CLASSES, seed=0), model.size)


def _own_size(name: str) -> tuple[int, int] | None:
    """The size for which timm made an architecture; None leaves it to the recipe's own rule."""
    if not name.startswith("timm:"):
        return None
    from timm.models import get_pretrained_cfg

    settings: Any = get_pretrained_cfg(name.removeprefix("timm:"))
    return (settings.input_size[1], settings.input_size[2]) if settings else None


def _compiled(candidate: Candidate) -> Candidate:
    network: Any = torch.compile(candidate.network)
    return replace(candidate, network=network)


def _timed(candidates: Sequence[Candidate], protocol: Protocol, say: Callable[[str], None]) -> list[Speed]:
    try:
        return measure_speed(candidates, protocol, say=say)
    except (RuntimeError, torch._dynamo.exc.TorchDynamoException) as error:
        if "compil" not in str(error).lower():
            raise
        first = str(error).strip().splitlines()[0]
        what = f"torch.compile fails here: {first}"
        raise DeitkitError(what, remedy="leave --compile out; `deitkit doctor` tries it") from error
