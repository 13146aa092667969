"""What a run's JSON files hold, by types: whatever reads them back holds them against these. Keys beyond them pass."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, with_config
from typing_extensions import TypedDict  # pydantic reads the standard library's from Python 3.12 on only

from deitkit.recipe.schema import Keep

MORE = ConfigDict(extra="allow")  # fields of another version of deitkit

Count = Annotated[int, Field(ge=0, lt=2**63)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ByHead = Annotated[dict[str, Share], Field(min_length=1)]


@with_config(MORE)
class Result(TypedDict):
    """result.json: what came out of a finished run; `top1` by head, of its model.

    `kept` says which weights are the model, those after `kept_step`: runs of earlier versions do not say it.
    `best_top1` is the decisive head's, on the validation images.
    """

    top1: ByHead
    images: NotRequired[Count]
    step: NotRequired[Count]
    epoch: NotRequired[Positive]
    kept: NotRequired[Keep]
    kept_step: NotRequired[Count]
    kept_epoch: NotRequired[Positive]
    best_top1: NotRequired[Finite | None]  # -1 where no evaluation counted
    best_step: NotRequired[Count | None]
    best_epoch: NotRequired[Positive]
    stopped_early: NotRequired[bool]
    seconds: NotRequired[Positive | None]


@with_config(MORE)
class Environment(TypedDict, total=False):
    """environment.json: where and by which command a run began, and began again."""

    command: list[str]
    began: Positive  # seconds since 1970
    versions: dict[str, str]
    data_fingerprint: str
    resumed: list[dict[str, Any]]


@with_config(MORE)
class Agreement(TypedDict, total=False):
    """Shares of equal decisions: of each head with the teacher, and of both heads with each other."""

    teacher: dict[str, Share]
    heads: Share


@with_config(MORE)
class MetricsLine(TypedDict):
    """A line of metrics.jsonl: steps have a `loss`, evaluations a `top1` by head. What diverges may be NaN."""

    step: Count
    epoch: Positive
    lr: NotRequired[float]
    loss: NotRequired[float]
    loss_label: NotRequired[float]
    loss_distillation: NotRequired[float]
    grad_norm: NotRequired[float]
    images_per_s: NotRequired[Positive]
    data_wait_s: NotRequired[Finite]
    seconds: NotRequired[Positive]
    memory_mb: NotRequired[Positive]
    replaced_images: NotRequired[Count]
    asked: NotRequired[bool]
    top1: NotRequired[ByHead]
    ema_top1: NotRequired[ByHead]
    teacher_top1: NotRequired[Share | None]
    agreement: NotRequired[Agreement]
    token_cosine: NotRequired[dict[str, float]]


@with_config(MORE)
class Origins(TypedDict):
    """recipe.origins.json: what the recipe was called."""

    name: str
    origins: NotRequired[dict[str, str]]


@with_config(MORE)
class LeftOutImage(TypedDict):
    """An image that could not be read when a run began."""

    split: str
    id: str
    class_name: str
    reason: str


@with_config(MORE)
class LeftOutImages(TypedDict):
    """left_out.json: what a run does without; `is_whole` where every image had been decoded."""

    is_whole: bool
    images: list[LeftOutImage]


@with_config(MORE)
class Stepped(TypedDict):
    """The optimiser step after which a checkpoint was saved."""

    step: Count


@with_config(MORE)
class Manifest(Stepped):
    """A checkpoint's manifest.json: `sha256` by file name; metrics.jsonl had so many bytes then."""

    metrics_bytes: Count
    sha256: dict[str, str]
