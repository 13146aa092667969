"""What models decide rightly against what they cost (paper Figure 1 and Table 5), and what of it is undominated.

Runs a network once, to count its operations; times nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deitkit.errors import DeitkitError
from deitkit.measures.arrays import Hits
from deitkit.models.throughput import Candidate, Speed

Cost = Literal["throughput", "parameters", "macs", "memory"]
COSTS: tuple[Cost, ...] = get_args(Cost)
FOREIGN = "ONNX file or Python function"


def kind_name(*, transformer: bool, distilled: bool) -> str:
    """What a model of timm's is a mark of in a figure."""
    return ("transformer" if transformer else "convnet or other") + ", distilled" * distilled


@dataclass(frozen=True)
class Contender:
    """One model: what it costs at its `size` (height, width) px, and its `right` decisions by `head`, of `images`.

    `kind` is what it is a mark of in a figure; None is what was not measured. `decided` [N] are those decisions, of all
    models on the same images in the same order.
    """

    name: str
    kind: str
    size: tuple[int, int]
    parameters: int | None
    macs: int | None
    speed: Speed | None
    head: str
    right: int
    images: int
    decided: Hits | None = field(default=None, compare=False)

    @property
    def top1(self) -> float:
        return self.right / self.images


@dataclass(frozen=True)
class Axis:
    """What accuracy is set against, and how it is found."""

    label: str
    value: Callable[[Contender], float | None]
    more_is_better: bool = False


AXES: dict[Cost, Axis] = {
    "throughput": Axis(
        "images/s", lambda model: model.speed.images_per_s if model.speed else None, more_is_better=True
    ),
    "parameters": Axis("parameters (millions)", lambda model: model.parameters / 1e6 if model.parameters else None),
    "macs": Axis("GMACs of an image", lambda model: model.macs / 1e9 if model.macs else None),
    "memory": Axis("memory (MiB)", lambda model: model.speed.memory_mb if model.speed else None),
}


def pareto_front(points: Sequence[tuple[float, float]], *, more_is_better: bool) -> list[bool]:
    """(cost, accuracy) of models -> which are undominated.

    A model is dominated by one that is at least as good in both and better in one. More cost is better or worse.
    """
    sign = 1 if more_is_better else -1
    signed = [(sign * cost, accuracy) for cost, accuracy in points]
    return [not any(other[0] >= own[0] and other[1] >= own[1] and other != own for other in signed) for own in signed]


def fronts(models: Sequence[Contender], cost: Cost) -> list[bool | None]:
    """Whether each is on the front; None where its cost is not known."""
    axis = AXES[cost]
    costs = [axis.value(model) for model in models]
    known = [(value, model.top1) for value, model in zip(costs, models, strict=True) if value is not None]
    found = iter(pareto_front(known, more_is_better=axis.more_is_better))
    return [None if value is None else next(found) for value in costs]


def count_macs(candidate: Candidate) -> int | None:
    """Multiply-accumulates of one image in matrix products (attention's included) and convolutions.

    None where torch sees none of them (onnxruntime's).

    Raises:
        DeitkitError: the network cannot run at this size.
    """
    cpu = torch.device("cpu")
    network = candidate.network.eval().to(cpu)
    try:
        # The plain kernel of attention, because not every version of torch counts every fused one.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            network(candidate.images(1, cpu))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise DeitkitError(
            f"{candidate.name} cannot run at {candidate.pixels}: {error}",
            value=candidate.pixels,
            remedy="name sizes that it can take, as a rule larger ones, or multiples of its stride",
        ) from error
    return counter.get_total_flops() // 2 or None
