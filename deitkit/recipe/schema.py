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
Category = Literal["name", "genus", "family", "order", "class", "phylum", "kingdom", "supercategory"]
PositionMode = Literal["bicubic", "bilinear", "nearest", "bicubic-antialias"]
Keep = Literal["best", "last"]
Parts = Literal[
    "all", "classifier", "classifier+last_norm", "blocks", "norms+biases", "attention", "lora"
]  # fmt: skip
Balance = Literal["none", "sqrt", "equal"]
Metric = Literal["top1", "balanced_accuracy", "macro_f1"]
BackendName = Literal["pil", "fast"]

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

    name: str  # what is trained: deit_tiny, deit_small, ... or timm:NAME
    distilled: bool = False  # whether it has a distillation token
    image_size: Side | Size | None = None  # pixels: one number or [height, width]
    drop_path: BelowOne = 0.1  # stochastic depth of the last block
    dropout: BelowOne = 0.0  # of position embeddings and blocks
    options: dict[str, Any] = Field(default_factory=dict)  # arguments of the architecture: depth, embed_dim, ...

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

    weights: str  # earlier weights: a run, a model folder, a published model, a file
    position_mode: PositionMode = "bicubic"  # how position embeddings are resampled
    distillation: Literal["class", "fresh"] | None = None  # the token that they lack: as the class token, or fresh


class TeacherTable(RecipeTable):
    """A frozen classifier, or a mixture of several. `weight` is lambda of eq. 2, one half in eq. 3; `chunk` in mix
    groups; `tape` holds the answers and stands for the teacher; `check` looks at the teacher briefly before training.

    The last keys tell what a teacher does not say of itself (an ONNX file, a Python factory): `classes` names them in
    the order of its outputs, a file of them or "data" for the data's own order; `input` is how pixels are scaled before
    mean and std; `output` names one of several, `scores` what it holds.
    """

    model: str | list[str]  # who teaches; several are a mixture
    mixture: list[float] | None = None  # weight of each of several teachers
    tape: str | None = None  # recorded answers in place of the teacher
    check: bool = True  # look at the teacher before training
    labels: Literal["hard", "soft"] = "hard"  # what is learned: its decision or its probabilities
    tau: Positive = 3.0  # temperature of soft labels
    weight: Fraction | None = None  # share of the teacher in the loss
    reduction: Literal["batchmean", "numel"] = "batchmean"  # how the soft loss is averaged
    chunk: Count = 1  # mix groups that it answers at once
    classes: str | list[str] | None = None  # names of its outputs: a list, a file or "data"
    mean: Triple | None = None  # of its normalisation
    std: Deviations | None = None  # of its normalisation
    image_size: Side | Size | None = None  # pixels that it sees
    channels: Literal["rgb", "bgr"] | None = None  # the order that it expects
    input: Literal["0..1", "0..255"] | None = None  # how its pixels are scaled
    output: str | None = None  # which of several outputs
    scores: Literal["logits", "probabilities"] | None = None  # what its output holds

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
    """`class_weight` of the label term; by default one minus the teacher's weight (1 without a teacher).

    Of the label term, too, and for unequal classes: `class_weights` multiply each class's part, 1 in the mean of the
    images; `logit_adjustment` is tau of Menon et al. 2020 (arXiv 2007.07314, eq. 10)."""

    label_smoothing: Fraction = 0.1  # share of the label given to all classes
    class_weight: NonNegative | None = None  # of the label term; the rest is the teacher's
    class_weights: Literal["balanced", "sqrt"] | list[NonNegative] | None = None  # by 1 / images, its root, or given
    logit_adjustment: Positive | None = None  # weight of log class frequencies that are added to logits in training
    second_token: Literal["teacher", "label"] = "teacher"  # whom the distillation token learns from


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

    dataset: Annotated[str, AfterValidator(dataset_named)] = "imagenet"  # a known data set, folder or hf:NAME
    path: str | None = None  # where the images are
    val_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None  # share held out where there is no val split
    split_seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of the held-out images
    split_rule: Literal["name", "place"] = "name"  # what draws them: the images' names, or their place
    folds: Annotated[int, Field(ge=2)] | None = None  # parts of a cross-validation
    fold: Count | None = None  # which of the folds is held out, from 1
    validate_on: Literal["val", "train"] = "val"  # the split that a run is judged by
    category: Category = "name"  # level of iNaturalist's classes
    image_column: str | None = None  # of a table: the paths
    label_column: str | None = None  # of a table: the classes
    split_column: str | None = None  # of a table: the splits
    group_column: str | None = None  # no group is on both sides of the split
    val_fold: int | str | None = None  # the split column's value that is held out
    label_from: str | None = None  # the class in the file's name: filename, or a pattern
    on_bad_image: Literal["auto", "leave_out", "replace", "error"] = "auto"  # what an unreadable image does
    balance: Balance = "none"  # how often classes are drawn: by their images, by the root of these, or alike
    exif_orientation: bool = False  # turn images by their orientation tag
    # Pillow warns above the default and refuses above the upper bound.
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = 89_478_485  # of an image; larger ones are refused
    mean: Triple = IMAGENET_MEAN  # of the normalisation, by channel
    std: Deviations = IMAGENET_STD  # of the normalisation, by channel
    crop_ratio: Annotated[float, Field(gt=0.0, le=1.0)] = 0.875  # share of an evaluated image that is seen
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"  # of resizing

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

    batch_size: Count = 1024  # views a step
    repeats: Count = 3  # views of one image in an epoch
    mix_group: Count | None = None  # views that are mixed with each other
    backend: BackendName = "pil"  # what makes pixels of plans


class Augment(RecipeTable):
    """How a view is made from its image. `magnitude` on timm's scale of 10."""

    crop_scale: Pair = (0.08, 1.0)  # share of the image that a view shows, from and to
    crop_aspect: Pair = (3 / 4, 4 / 3)  # width : height of a view, from and to
    hflip: Fraction = 0.5  # probability of a mirrored view
    policy: Literal["rand", "auto"] | None = "rand"  # RandAugment, AutoAugment or off
    magnitude: NonNegative = 9.0  # strength of its operations, of 10
    magnitude_std: NonNegative = 0.5  # spread of that strength
    erasing: Fraction = 0.25  # probability of an erased rectangle


class Mix(RecipeTable):
    """Beta alphas of mixup and cutmix (Table 9 calls them probabilities); 0 switches one off."""

    mixup_alpha: NonNegative = 0.8  # of its Beta distribution; 0: no mixup
    cutmix_alpha: NonNegative = 1.0  # of its Beta distribution; 0: no cutmix
    prob: Fraction = 1.0  # probability that a group is mixed
    switch_prob: Fraction = 0.5  # probability of cutmix where both are on


class Optim(RecipeTable):
    """`lr` per 512 images under "batch/512", absolute under "none". It is the classifier's; under `layer_decay` each
    layer before it learns at that share of the next one's rate (BEiT, Bao et al. 2022), by timm's groups of layers."""

    name: Literal["adamw", "sgd", "lion", "nadamw", "adafactor", "muon"] = "adamw"  # the optimiser
    lr: Positive = 5e-4  # peak learning rate, per 512 images where lr_scaling says so
    lr_scaling: Literal["batch/512", "none"] = "batch/512"  # whether lr grows with the batch
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # rate of a layer, of the next one's; 1: all alike
    head_lr_scale: Positive = 1.0  # rate of the classifier, of lr
    weight_decay: NonNegative = 0.05  # not of biases and norms
    betas: Betas = (0.9, 0.999)  # of AdamW, NAdamW and Lion, and of Muon where it is AdamW
    eps: Positive = 1e-8  # of AdamW and NAdamW
    momentum: BelowOne = 0.9  # of SGD and Muon
    clip_grad: Positive | None = None  # largest norm of the gradient


class Schedule(RecipeTable):
    """Linear warm-up per step, then a cosine. `warmup_lr` and `min_lr` are absolute; "lr" means flat."""

    warmup_epochs: NonNegative = 5.0  # epochs in which the rate rises
    warmup_lr: NonNegative = 1e-6  # rate at the start
    min_lr: NonNegative | Literal["lr"] = 1e-5  # rate at the end; "lr" is flat


class EmaTable(RecipeTable):
    decay: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.99996  # of the moving average of the weights


class Train(RecipeTable):
    """`patience` in evaluations without a better `metric`; `eval_every` in epochs; `log_every` in steps; `parts` are
    the parameters that learn, from `unfreeze_epoch` on all of them. `blocks` belongs to "blocks", `lora_...` to "lora":
    a matrix W learns as W + alpha / rank B A (Hu et al. 2021, arXiv 2106.09685, Sec. 4.1).

    `keep` says which weights become the run's model: the best by the decisive head on the validation images, the later
    ones of equals, or the last. Without validation images of their own the last are kept: test images choose nothing.
    """

    epochs: Count = 300  # length of the run
    parts: Parts = "all"  # which parameters learn
    blocks: Count = 1  # under parts = "blocks": how many of the last ones learn
    lora_rank: Count = 16  # under parts = "lora": rank of what is added to a matrix
    lora_alpha: Positive = 16.0  # under parts = "lora": its weight, times 1 / lora_rank
    unfreeze_epoch: Count | None = None  # epochs after which everything learns
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0  # of everything random
    accumulation: Count = 1  # parts of a batch whose gradients are added up
    precision: Literal["bf16", "fp32"] = "bf16"  # of the forward pass on a GPU
    deterministic: bool = False  # the same bits on a GPU, slower
    eval_every: Count = 1  # epochs
    log_every: Count = 50  # steps
    patience: Count | None = None  # evaluations without a better value of the metric that end the run
    metric: Metric = "top1"  # on the validation images: what is best, and what patience waits for
    keep: Keep = "best"  # of the run's weights: its model


class CheckpointTable(RecipeTable):
    """`every_steps` in optimiser steps, by default one epoch, and whenever a better model is found; `keep` recent
    checkpoints stay, and the best."""

    every_steps: Count | None = None  # steps between two; off: an epoch
    keep: Count = 2  # how many recent ones stay


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
