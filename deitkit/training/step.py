"""One optimiser step and all that it needs: Batch -> Heads -> loss -> gradients -> weights (DeiT Sec. 3-4).

Reading order: `build` -> `train_step` -> `loss_terms`. Logs nothing, saves nothing, never waits for the device.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from deitkit.data.check.background import Background
from deitkit.data.check.left_out import LeftOut, scan_data, settle
from deitkit.data.check.scan import Scan
from deitkit.data.open import Source, counted, open_source, size_notes
from deitkit.data.views.loader import Batch, TrainLoader
from deitkit.data.views.stream import StreamShape, plan_stream, units
from deitkit.distributed import World, autocast, be_deterministic
from deitkit.errors import DeitkitError
from deitkit.models.folder import ModelInfo
from deitkit.models.freeze import freeze
from deitkit.models.start import start_from, start_notes
from deitkit.models.student import Heads, Student, build_student
from deitkit.models.weights import open_reference
from deitkit.recipe.schema import Data, Recipe
from deitkit.tape import Tape, open_tape
from deitkit.teachers import Teacher, check_chunk, open_teacher
from deitkit.teachers.output import TeacherOutput
from deitkit.training.class_terms import ClassTerms
from deitkit.training.keep import keep_notes
from deitkit.training.log import Sums
from deitkit.training.losses import NO_TERMS, Terms, combine, hard_distillation, label_loss, soft_distillation
from deitkit.training.optim import Ema, build_optimizer, learning_rate, set_rate


@dataclass
class TrainingProgress:
    """What a checkpoint carries besides weights: plain numbers and names, so that a resumed run goes on exactly."""

    step: int = 0
    best_top1: float = -1.0
    best_score: float = -1.0  # of train.metric; top-1 where nothing else is chosen
    best_step: int = 0
    evaluations_without_gain: int = 0
    evaluation_due: bool = False
    replaced: int = 0  # times that another image stood in for an unreadable one, as logged
    unreadable: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, state: dict[str, Any]) -> TrainingProgress:
        """As `asdict` gave it; runs of earlier versions were judged by top-1."""
        return cls(**{"best_score": state["best_top1"], **state})


@dataclass
class Training:
    """Everything a fit holds. A teacher answers live, or a tape stands for it."""

    recipe: Recipe
    world: World
    device: torch.device
    train: Source
    val: Source
    shape: StreamShape
    student: Student
    parallel: torch.nn.Module
    teacher: Teacher | None
    tape: Tape | None
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    loader: TrainLoader
    info: ModelInfo
    workers: int
    left_out: LeftOut = field(default_factory=LeftOut)
    background: Background | None = None
    messages: list[str] = field(default_factory=list)
    progress: TrainingProgress = field(default_factory=TrainingProgress)
    sums: Sums = field(default_factory=Sums)
    is_unfrozen: bool = False
    classes: ClassTerms = NO_TERMS

    @property
    def total_steps(self) -> int:
        return self.recipe.train.epochs * self.shape.steps_per_epoch

    @property
    def is_out_of_patience(self) -> bool:
        """Whether as many evaluations as `train.patience` gave no better score, one after the other."""
        patience = self.recipe.train.patience
        return patience is not None and self.progress.evaluations_without_gain >= patience

    @property
    def has_stopped_early(self) -> bool:
        return self.is_out_of_patience and self.progress.step < self.total_steps

    def epoch_of(self, step: int) -> float:
        """Epochs done after `step` steps."""
        return step / self.shape.steps_per_epoch


def build(
    recipe: Recipe, *, world: World, device: torch.device, workers: int, strict: bool = False,
    scan: Scan | None = None, before: LeftOut | None = None,
) -> Training:  # fmt: skip
    """Open the data, build student, teacher and optimiser; every mistake in the recipe shows here.

    `strict`: a tape from other versions or another kind of device is an error, not a message. `scan`: what a look at
    the images found, where somebody has looked already; `before`: what a resumed run does without.
    """
    be_deterministic(recipe)
    left_out = settle(recipe.data, scan or scan_data(recipe.data, workers=workers, world=world), before)
    whole, val = open_source(recipe.data, "train"), open_source(recipe.data, recipe.data.validate_on)
    train = left_out.without(whole)
    shape = plan_stream(
        len(train), recipe.stream, mixing=recipe.is_mixing, ranks=world.ranks, accumulation=recipe.train.accumulation
    )
    student = build_student(recipe.model, len(train.class_names), seed=recipe.train.seed)
    messages = [*data_messages(recipe.data, train, val), *left_out.messages, *keep_notes(recipe, val)]
    messages += _start(student, recipe, train.class_names)
    if recipe.train.parts != "all":
        messages.append(freeze(student, recipe.train.parts, train=recipe.train).summary())
    student.to(device)
    teacher, tape, said = _open_teaching(recipe, train, val, shape, device=device, strict=strict)
    parallel = DistributedDataParallel(student) if world.is_distributed else student
    info = ModelInfo.of(
        recipe.data, recipe.model.size, train.class_names, data_fingerprint=whole.fingerprint, recipe=recipe.name,
        backend=recipe.stream.backend,
        class_counts=tuple(np.bincount(train.labels, minlength=len(train.class_names)).tolist()),
    )  # fmt: skip
    return Training(
        recipe=recipe, world=world, device=device, train=train, val=val, shape=shape, student=student,
        parallel=parallel, teacher=teacher, tape=tape, optimizer=build_optimizer(student, recipe, device),
        ema=None if recipe.ema is None else Ema(student, recipe.ema.decay),
        loader=TrainLoader(train, recipe, shape, rank=world.rank, workers=workers, device=device),
        info=info, workers=workers, left_out=left_out, messages=messages + said,
        classes=ClassTerms.of(recipe.loss, train, device),
    )  # fmt: skip


def _start(student: Student, recipe: Recipe, class_names: tuple[str, ...]) -> list[str]:
    """Give the student the start weights that the recipe names, and say what became of them."""
    if recipe.start is None:
        return []
    weights = open_reference(recipe.start.weights)
    transfer = start_from(
        student, weights, class_names=class_names, mode=recipe.start.position_mode,
        distillation=recipe.start_distillation,
    )  # fmt: skip
    _refuse_damaged(student, recipe.start.weights)
    return [f"start weights {recipe.start.weights}: {transfer.summary()}", *start_notes(weights, recipe.data)]


def _refuse_damaged(student: Student, origin: str) -> None:
    """Raise where start weights are not finite: whatever is trained from them never will be."""
    bad = [name for name, value in student.state_dict().items() if not torch.isfinite(value).all()]
    if bad:
        raise DeitkitError(
            f"the start weights {origin} are not finite: {counted('tensors hold NaN or infinity', bad, limit=3)}",
            value=origin,
            remedy="start from an earlier checkpoint, or from other weights: this training had diverged",
        )


def _open_teaching(
    recipe: Recipe, train: Source, val: Source, shape: StreamShape, *, device: torch.device, strict: bool
) -> tuple[Teacher | None, Tape | None, list[str]]:
    """The teacher on the device, or the tape instead of it, or neither; and what a person should know of it."""
    if recipe.teacher is None:
        return None, None, []
    check_chunk(shape, recipe.teacher)
    if recipe.teacher.tape is not None:
        return None, *open_tape(recipe, train, val, shape, device=device, strict=strict)
    teacher = open_teacher(recipe, train.class_names).to(device)
    return teacher, None, [f"teacher {teacher.facts.reference}: {note}" for note in teacher.facts.notes]


def data_messages(data: Data, train: Source, val: Source) -> list[str]:
    """What a person should know of the images before training: sizes unlike the published ones, missing files."""
    messages = [*size_notes(data, train), *train.notes]
    if data.validate_on == "train":
        return [*messages, "data.validate_on = train: accuracy on the training images says nothing about others"]
    return [*messages, *size_notes(data, val), *(note for note in val.notes if note not in train.notes)]


def train_step(training: Training, parts: list[Batch], *, rate: float | None = None) -> None:
    """One optimiser step: `parts` are this rank's accumulation parts of the global batch; `rate` stands for the
    schedule's."""
    recipe, step = training.recipe, training.progress.step
    if rate is None:
        rate = learning_rate(recipe, step, steps_per_epoch=training.shape.steps_per_epoch)
    set_rate(training.optimizer, rate)
    training.optimizer.zero_grad(set_to_none=True)
    for index, batch in enumerate(parts):
        torch.manual_seed(noise_seed(recipe.train.seed, step, training.world.rank, index))
        with _synchronise(training, last=index == len(parts) - 1):
            with autocast(recipe, training.device):
                heads = training.parallel(batch.images)
                answers = teacher_answers(training, batch, part=index)
            terms = loss_terms(heads, batch, answers, recipe, classes=training.classes)
            (terms.total / len(parts)).backward()  # type: ignore[no-untyped-call]
        training.sums.add(terms, images=len(batch.labels), share=1 / len(parts))
        training.sums.replaced += batch.replaced
    gradients = [p.grad for p in training.student.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if recipe.optim.clip_grad is not None:
        torch.nn.utils.clip_grads_with_norm_(training.student.parameters(), recipe.optim.clip_grad, norm)
    training.optimizer.step()
    training.sums.end_step(norm)
    if training.ema is not None:
        training.ema.update(training.student)


def teacher_answers(training: Training, batch: Batch, *, part: int) -> TeacherOutput | None:
    """What the teacher says to this rank's accumulation part of the step: live, or replayed from the tape."""
    if training.tape is not None:
        shape, world = training.shape, training.world
        epoch, step = divmod(training.progress.step, shape.steps_per_epoch)
        cut = units(shape, epoch=epoch, step=step, part=world.rank * shape.accumulation + part)
        return training.tape.answers(epoch, range(cut[0].groups[0], cut[-1].groups[-1] + 1), training.device)
    if training.teacher is None:
        return None
    return TeacherOutput.of_logits(training.teacher(batch.images, group=batch.group))


def loss_terms(
    heads: Heads, batch: Batch, answers: TeacherOutput | None, recipe: Recipe, *, classes: ClassTerms = NO_TERMS
) -> Terms:
    """The label term on the class head and, where there is one, the distillation term.

    The distillation term falls on the distillation head, or on the class head of a plain student ("usual"
    distillation). True labels are smoothed, the teacher's never (Sec. 4), and `classes`
    are of the label term alone.
    """
    targets = batch.targets(heads.classes.shape[1], recipe.loss.label_smoothing)
    label = label_loss(heads.classes, targets, classes)
    if recipe.loss.second_token == "label" and heads.distillation is not None:
        second = label_loss(heads.distillation, targets, classes)
        return combine(label, second, class_weight=recipe.class_weight, distillation_weight=1 - recipe.class_weight)
    if recipe.teacher is None or answers is None:
        return combine(label, None, class_weight=recipe.class_weight, distillation_weight=0.0)
    logits = heads.classes if heads.distillation is None else heads.distillation
    if recipe.teacher.labels == "hard" or answers.logits is None:  # soft ones without logits `build` refuses
        distillation = hard_distillation(logits, answers.labels)
    else:
        distillation = soft_distillation(
            logits, answers.logits, tau=recipe.teacher.tau, reduction=recipe.teacher.reduction
        )
    weight = recipe.teacher.distillation_weight
    return combine(label, distillation, class_weight=recipe.class_weight, distillation_weight=weight)


def noise_seed(seed: int, step: int, rank: int, part: int) -> int:
    """Seed of one forward's stochastic depth and dropout: no history, so any step can be entered at once."""
    digest = hashlib.blake2b(struct.pack("<4q", seed, step, rank, part), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _synchronise(training: Training, *, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Gradients cross ranks once a step, with the last part."""
    if isinstance(training.parallel, DistributedDataParallel) and not last:
        return training.parallel.no_sync()
    return contextlib.nullcontext()
