"""What a recipe may say: its tables, types and defaults. Reads no files.

What cannot be true together stands in `contradictions`. Imports no torch. `false` in TOML, which has no null, switches
an optional value or table off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from deitkit.catalog import DATASETS, IMAGENET_MEAN, IMAGENET_STD, MODELS, dataset_named

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
BelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Side = Annotated[int, Field(ge=1, le=8192)]  # pixels: above, one view alone takes a gigabyte
Pair = Annotated[tuple[float, float], Field(strict=False)]
Betas = Annotated[tuple[BelowOne, BelowOne], Field(strict=False)]
Triple = Annotated[tuple[float, float, float], Field(strict=False)]
Deviations = Annotated[tuple[Positive, Positive, Positive], Field(strict=False)]
Size = Annotated[tuple[Side, Side], Field(strict=False)]
PositionMode = Literal["bicubic", "bilinear", "nearest", "bicubic-antialias"]
Keep = Literal["best", "last"]

MOST_UNREADABLE = 0.01  # the share of one's own images that training does without unless told otherwise
DEFAULT_ORIGIN = "deitkit default"
# Keys that a resumed run may change: they alter neither the views nor a weight's path, or only its last bits.
RESUME_MAY_CHANGE = (
    "train.accumulation", "train.log_every", "checkpoint.every_steps", "checkpoint.keep", "teacher.tape",
    "teacher.check", "train.keep", "data.path", "data.split_rule",  # the images themselves are compared
    "data.on_bad_image",  # what was left out stays so; of readable images it changes nothing
)  # fmt: skip


class RecipeTable(BaseModel):
    """One table of a recipe: unknown keys fail, types are strict, numbers are finite, `false` means off."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _false_is_off(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        off = {
            key
            for key, value in values.items()
            if value is False and key in cls.model_fields and type(None) in get_args(cls.model_fields[key].annotation)
        }
        return {key: None if key in off else value for key, value in values.items()}


class Model(RecipeTable):
    """`name` is a row of the catalog or `timm:NAME`; `image_size` in pixels, one number or [height, width]."""

    name: str
    distilled: bool = False
    image_size: Side | Size | None = None
    drop_path: BelowOne = 0.1
    dropout: BelowOne = 0.0
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        size = self.image_size
        if size is None:
            variant = MODELS.get(self.name)
            size = variant.image_size if variant else 224
        return (size, size) if isinstance(size, int) else size


class Start(RecipeTable):
    """Earlier weights: a run, a model folder, a published model or a weights file.

    `distillation`: what a distilled student makes of weights without a distillation token: copies of the class token
    and its head, or fresh ones, which is the default where both heads learn the true label: equal ones never part.
    """

    weights: str
    position_mode: PositionMode = "bicubic"
    distillation: Literal["class", "fresh"] | None = None


class TeacherTable(RecipeTable):
    """A frozen classifier, or a mixture of several. `weight` is lambda of eq. 2, one half in eq. 3; `chunk` in mix
    groups; `tape` holds the answers and stands for the teacher; `check` looks at the teacher briefly before training.

    The last keys tell what a teacher does not say of itself (an ONNX file, a Python factory): `classes` names them in
    the order of its outputs, a file of them or "data" for the data's own order; `input` is how pixels are scaled before
    mean and std; `output` names one of several, `scores` what it holds.
    """

    model: str | list[str]
    mixture: list[float] | None = None
    tape: str | None = None
    check: bool = True
    labels: Literal["hard", "soft"] = "hard"
    tau: Positive = 3.0
    weight: Fraction | None = None
    reduction: Literal["batchmean", "numel"] = "batchmean"
    chunk: Count = 1
    classes: str | list[str] | None = None
    mean: Triple | None = None
    std: Deviations | None = None
    image_size: Side | Size | None = None
    channels: Literal["rgb", "bgr"] | None = None
    input: Literal["0..1", "0..255"] | None = None
    output: str | None = None
    scores: Literal["logits", "probabilities"] | None = None

    @property
    def models(self) -> list[str]:
        """The one teacher, or those of the mixture."""
        return [self.model] if isinstance(self.model, str) else self.model

    @property
    def distillation_weight(self) -> float:
        if self.weight is not None:
            return self.weight
        return 0.5 if self.labels == "hard" else 0.1


class Loss(RecipeTable):
    """`class_weight` of the label term; by default one minus the teacher's weight (1 without a teacher)."""

    label_smoothing: Fraction = 0.1
    class_weight: NonNegative | None = None
    second_token: Literal["teacher", "label"] = "teacher"


class Data(RecipeTable):
    """Where images come from, how they are read, and how they are normalised and cropped for evaluation.

    `dataset` is a row of the catalog by any of its names, `folder`, or `hf:NAME`; `path` a folder or a table.
    `category` is iNaturalist's level of classes. A table's columns are found by their usual names unless given.

    One's own images without a validation split hold out a tenth, or `val_fraction`, or `fold` 1..`folds`, drawn by
    their names; `split_rule = "place"` is that of earlier versions. No group of `group_column` is on both sides;
    `val_fold` is the value of the split column whose rows are held out. `label_from` reads the class from the file's
    name: "filename", or a regular expression with one group.

    `on_bad_image`: unreadable images are left out before the first step (and others stand in for those that are found
    later), others stand in for all of them, or the first ends the run. "auto" leaves out up to 1 % of one's own images
    and stops above; published data, whose images are known, stop at the first.
    """

    dataset: Annotated[str, AfterValidator(dataset_named)] = "imagenet"
    path: str | None = None
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    split_rule: Literal["name", "place"] = "name"
    folds: Annotated[int, Field(ge=2)] | None = None
    fold: Count | None = None
    validate_on: Literal["val", "train"] = "val"
    category: Literal["name", "genus", "family", "order", "class", "phylum", "kingdom", "supercategory"] = "name"
    image_column: str | None = None
    label_column: str | None = None
    split_column: str | None = None
    group_column: str | None = None
    val_fold: int | str | None = None
    label_from: str | None = None
    on_bad_image: Literal["auto", "leave_out", "replace", "error"] = "auto"
    exif_orientation: bool = False
    # Pillow warns above the default and refuses above the upper bound.
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = 89_478_485
    mean: Triple = IMAGENET_MEAN
    std: Deviations = IMAGENET_STD
    crop_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.875
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    @property
    def is_own(self) -> bool:
        """Whether nobody published these images: their content is not known."""
        return self.dataset not in DATASETS

    @property
    def bad_images(self) -> Literal["leave_out", "replace", "error"]:
        """What becomes of unreadable images."""
        if self.on_bad_image == "auto":
            return "leave_out" if self.is_own else "error"
        return self.on_bad_image

    @property
    def bad_share(self) -> float:
        """The share of unreadable images that training does without."""
        if self.bad_images == "error":
            return 0.0
        return MOST_UNREADABLE if self.on_bad_image == "auto" else 1.0


class Stream(RecipeTable):
    """The order of the views; `mix_group` G is in views. `backend` makes their pixels: "pil" as timm does, "fast" with
    libjpeg-turbo, torch and OpenCV, nearly the same."""

    batch_size: Count = 1024
    repeats: Count = 3
    mix_group: Count | None = None
    backend: Literal["pil", "fast"] = "pil"


class Augment(RecipeTable):
    """How a view is made from its image. `magnitude` on timm's scale of 10."""

    crop_scale: Pair = (0.08, 1.0)
    crop_aspect: Pair = (3 / 4, 4 / 3)
    hflip: Fraction = 0.5
    policy: Literal["rand", "auto"] | None = "rand"
    magnitude: NonNegative = 9.0
    magnitude_std: NonNegative = 0.5
    erasing: Fraction = 0.25


class Mix(RecipeTable):
    """Beta alphas of mixup and cutmix (Table 9 calls them probabilities); 0 switches one off."""

    mixup_alpha: NonNegative = 0.8
    cutmix_alpha: NonNegative = 1.0
    prob: Fraction = 1.0
    switch_prob: Fraction = 0.5


class Optim(RecipeTable):
    """`lr` per 512 images under "batch/512", absolute under "none"."""

    name: Literal["adamw", "sgd"] = "adamw"
    lr: Positive = 5e-4
    lr_scaling: Literal["batch/512", "none"] = "batch/512"
    weight_decay: NonNegative = 0.05
    betas: Betas = (0.9, 0.999)
    eps: Positive = 1e-8
    momentum: BelowOne = 0.9
    clip_grad: Positive | None = None


class Schedule(RecipeTable):
    """Linear warm-up per step, then a cosine. `warmup_lr` and `min_lr` are absolute; "lr" means flat."""

    warmup_epochs: NonNegative = 5.0
    warmup_lr: NonNegative = 1e-6
    min_lr: NonNegative | Literal["lr"] = 1e-5


class EmaTable(RecipeTable):
    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99996


class Train(RecipeTable):
    """`patience` in evaluations without a better top-1; `eval_every` in epochs; `log_every` in steps; `parts` are the
    parameters that learn.

    `keep` says which weights become the run's model: the best by the decisive head on the validation images, the later
    ones of equals, or the last. Without validation images of their own the last are kept: test images choose nothing.
    """

    epochs: Count = 300
    parts: Literal["all", "classifier", "classifier+last_norm"] = "all"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    accumulation: Count = 1
    precision: Literal["bf16", "fp32"] = "bf16"
    deterministic: bool = False
    eval_every: Count = 1
    log_every: Count = 50
    patience: Count | None = None
    keep: Keep = "best"  # of the run's weights: its model


class CheckpointTable(RecipeTable):
    """`every_steps` in optimiser steps, by default one epoch, and whenever a better model is found; `keep` recent
    checkpoints stay, and the best."""

    every_steps: Count | None = None
    keep: Count = 2


class Recipe(RecipeTable):
    """Everything that `fit` needs to know. `origins` maps dotted keys to where their values come from; `given` are the
    keys that whoever runs deitkit gave, which no file can say."""

    name: str = "unnamed"
    model: Model
    start: Start | None = None
    teacher: TeacherTable | None = None
    loss: Loss = Loss()
    data: Data = Data()
    stream: Stream = Stream()
    augment: Augment = Augment()
    mix: Mix = Mix()
    optim: Optim = Optim()
    schedule: Schedule = Schedule()
    ema: EmaTable | None = None
    train: Train = Train()
    checkpoint: CheckpointTable = CheckpointTable()
    origins: dict[str, str] = Field(default_factory=dict, exclude=True, repr=False)
    given: frozenset[str] = Field(default=frozenset(), exclude=True, repr=False)

    def __eq__(self, other: object) -> bool:
        """Equal values of equal origins, whoever gave them."""
        if not isinstance(other, Recipe):
            return NotImplemented
        return self.model_dump() == other.model_dump() and self.origins == other.origins

    __hash__ = None  # type: ignore[assignment]

    def trusted(self) -> Recipe:
        """The same, its teacher counted as given: the code of a Python function that its file names is executed."""
        return self.model_copy(update={"given": self.given | {"teacher.model"}})

    @property
    def peak_lr(self) -> float:
        """The learning rate after scaling."""
        scale = self.stream.batch_size / 512 if self.optim.lr_scaling == "batch/512" else 1.0
        return self.optim.lr * scale

    @property
    def min_lr(self) -> float:
        return self.peak_lr if self.schedule.min_lr == "lr" else self.schedule.min_lr

    @property
    def start_distillation(self) -> Literal["class", "fresh"]:
        """What a distillation token begins as that the start weights lack."""
        if self.start is not None and self.start.distillation is not None:
            return self.start.distillation
        return "fresh" if self.loss.second_token == "label" else "class"

    @property
    def is_mixing(self) -> bool:
        """Whether mixup or cutmix ever happens."""
        return self.mix.prob > 0 and (self.mix.mixup_alpha > 0 or self.mix.cutmix_alpha > 0)

    @property
    def class_weight(self) -> float:
        """Weight of the label term on the class head."""
        if self.loss.class_weight is not None:
            return self.loss.class_weight
        if self.teacher is not None:
            return 1.0 - self.teacher.distillation_weight
        return 0.5 if self.model.distilled else 1.0

    def flat(self) -> dict[str, Any]:
        """Dotted key -> value, in schema order; None where switched off."""
        return dict(_flatten(self.model_dump(mode="json", exclude={"name"})))

    def origin(self, key: str) -> str:
        return self.origins.get(key, DEFAULT_ORIGIN)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and f"{prefix}{key}" != "model.options":
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
