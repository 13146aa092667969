"""What an evaluation of a run measures: top-1 and, where something is distilled, how that goes. Writes nothing.

A record's keys, all of them of the validation images as the student's own protocol shows them:

    top1, ema_top1    accuracy by head: of the student, of its moving average
    metric            by what the run is judged (`train.metric`) where that is not top-1, and its values by head
    teacher_top1      the teacher's own accuracy
    agreement         "teacher": by head, the share of images on which it decides as the teacher does;
                      "heads": the share on which the class and the distillation head decide alike
    token_cosine      mean cosine of the class and the distillation token, the 0.93 of DeiT Sec. 4: "last_block", and
                      "final_norm", which the heads read (definitions: `deitkit.analysis.tokens.report`)

What a run does not have is left out: a plain student has one head and no second token, and without a teacher there is
nothing to agree with. The same run gives the same numbers to the last bit, resumed or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from deitkit.data.views.augment import Reading
from deitkit.distributed import World
from deitkit.models.lora import as_plain
from deitkit.models.student import Student
from deitkit.predictions.doubts import predict_kept
from deitkit.predictions.predict import predict
from deitkit.predictions.table import Predictions
from deitkit.recipe.schema import Metric
from deitkit.teachers.ask import Decisions, ask_teacher
from deitkit.training.step import Training


class Watch:
    """Evaluates a run. The teacher is asked once, at the first evaluation: neither it nor the images change."""

    def __init__(self, training: Training) -> None:
        self.training = training

    def evaluate(self) -> dict[str, Any]:
        """One evaluation's record; in a distributed run every rank calls it and gets the same."""
        training = self.training
        with watch_tokens(training.student) as cosines:
            table = self.predict(training.student)
        record: dict[str, Any] = {"top1": top1_of(table), **metric_of(table, training.recipe.train.metric)}
        if training.ema is not None:
            record["ema_top1"] = top1_of(self.predict(training.ema.student))
        record |= agreements(table, self._teacher_on(table))
        return record | mean_cosines(cosines, training.world)

    def predict(self, student: Student, *, name: str = "", kept: bool = False) -> Predictions:
        """The student's answers on the validation images, with the labels that it doubts where they are `kept`."""
        training, ask = self.training, predict_kept if kept else predict
        with as_plain(student.network):  # as it is saved
            return ask(
                student, training.info, training.val, name=name, device=training.device, world=training.world,
                workers=training.workers, reading=Reading.of(training.recipe.data),
            )  # fmt: skip

    @cached_property
    def teacher_decisions(self) -> Decisions | None:
        """The teacher's class for each validation image [N], -1 for unreadable ones; None where nobody knows."""
        training = self.training
        if training.tape is not None:
            return training.tape.validation()
        if training.teacher is None:
            return None
        return ask_teacher(
            training.teacher, training.val, training.recipe, mix_group=training.shape.mix_group,
            device=training.device, world=training.world, workers=training.workers,
        )  # fmt: skip

    def _teacher_on(self, table: Predictions) -> Decisions | None:
        """The teacher's decisions on the table's images, in its order: unreadable ones may be left out there."""
        decisions, val = self.teacher_decisions, self.training.val
        if decisions is None or len(table.ids) == len(val):
            return decisions
        seen = set(table.ids)
        return decisions[[index for index, image_id in enumerate(val.ids) if image_id in seen]]


def top1_of(table: Predictions) -> dict[str, float]:
    """Accuracy by head."""
    return {head: table.accuracy(head) for head in table.heads}


def metric_of(table: Predictions, metric: Metric) -> dict[str, Any]:
    """What the run is judged by, by head, where that is not top-1."""
    if metric == "top1":
        return {}
    return {metric: {head: getattr(table.class_counts(head), metric) for head in table.heads}, "metric": metric}


def agreements(table: Predictions, teacher: Decisions | None) -> dict[str, Any]:
    """The shares of equal decisions; `teacher` [N] in the table's order. Nothing where there is nothing to compare."""
    shares: dict[str, Any] = {}
    record: dict[str, Any] = {}
    if teacher is not None:
        record["teacher_top1"] = float((teacher == table.labels).mean())
        shares["teacher"] = {head: float((table.top1(head) == teacher).mean()) for head in table.heads}
    if "distillation" in table.heads:
        shares["heads"] = float((table.top1("class") == table.top1("distillation")).mean())
    return record | ({"agreement": shares} if shares else {})


@contextmanager
def watch_tokens(student: Student) -> Iterator[list[Tensor]]:
    """While it is open, each forward leaves its images' token cosines [2, B] in the list: last block, final norm.

    They are by-products of the evaluation's own forwards, so they cost no second one. Empty on a plain student.
    """
    cosines: list[Tensor] = []
    if not student.distilled:
        yield cosines
        return

    def note(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        places = (inputs[0].float(), output.float())
        cosines.append(torch.stack([cosine_similarity(x[:, 0], x[:, 1], dim=-1) for x in places]))

    handle = student.network.norm.register_forward_hook(note)
    try:
        yield cosines
    finally:
        handle.remove()


def mean_cosines(cosines: list[Tensor], world: World) -> dict[str, Any]:
    """Means over all ranks' images, in float64."""
    own = torch.cat([torch.empty(2, 0), *(part.cpu() for part in cosines)], dim=1).double()
    parts = world.gather((own.sum(dim=1).tolist(), own.shape[1]))
    images = sum(count for _, count in parts)
    if not images:
        return {}
    places = ("last_block", "final_norm")
    return {"token_cosine": {name: sum(sums[i] for sums, _ in parts) / images for i, name in enumerate(places)}}
