"""The classifier under test: a teacher as a training would have it, or one that it would refuse, if that can answer.

Runs on no image but what opening it takes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.predictions.predict import map_classes
from deitkit.preflight.cost import Classify
from deitkit.recipe.schema import Recipe
from deitkit.teachers import Classifier, Input, Teacher, open_classifier, open_teacher, refuse_code_from_file
from deitkit.teachers.classes import match_classes
from deitkit.teachers.scores import FiniteCheck


@dataclass(frozen=True)
class CheckedTeacher:
    """The classifier under test. `classify` takes images [B, 3, H, W] as the recipe's data normalises them; the first
    columns of its logits are the data's classes in their order.

    `input` is how it gives them to its network, None where that cannot be told (a mixture); `refused` says why a
    training would not take it, `remedy` what helps; `unnamed`: nobody says what its outputs are, so they are taken to
    be in the data's order.
    """

    name: str
    classify: Classify
    input: Input | None = None
    parameters: int | None = None
    refused: str = ""
    remedy: str = ""
    unnamed: bool = False
    notes: tuple[str, ...] = ()


def open_subject(recipe: Recipe, class_names: tuple[str, ...], *, device: torch.device) -> CheckedTeacher:
    """The recipe's teacher, before the data of these classes.

    Raises:
        DeitkitError: it cannot be opened, or shares no class with the data.
    """
    if recipe.teacher is None:
        raise DeitkitError("the recipe has no [teacher]", remedy="name one: deitkit teacher check TEACHER")
    refuse_code_from_file(recipe)
    if len(recipe.teacher.models) > 1:
        return _mixture(open_teacher(recipe, class_names).to(device))
    (name,) = recipe.teacher.models
    found = open_classifier(name, recipe.teacher, size=recipe.model.size)
    data, spec = recipe.data, recipe.teacher
    refused, remedy, unnamed = "", "", found.class_names is None and spec.classes is None
    try:
        matched = match_classes(
            found.class_names, class_names, outputs=found.outputs, reference=name, kind=found.kind, spec=spec, data=data
        )
        columns, notes, unnamed = matched.columns, matched.notes, False
    except DeitkitError as error:
        columns, notes = _columns(found, class_names, error), ()
        if not unnamed:
            refused, remedy = error.what, error.remedy
    answering = found.answering(mean=data.mean, std=data.std).to(device)
    answering.check_finite = FiniteCheck(name, every=sys.maxsize)  # they are counted here, and are no error

    def classify(images: Tensor) -> Tensor:
        logits: Tensor = answering(images)
        return logits if columns is None else logits[:, columns]

    return CheckedTeacher(
        name, classify, input=found.input, parameters=found.parameters, refused=refused, remedy=remedy,
        unnamed=unnamed, notes=(*found.notes, *notes),
    )  # fmt: skip


def subject_of(teacher: Teacher, *, group: int) -> CheckedTeacher:
    """A teacher that a training holds."""
    facts = teacher.facts
    return CheckedTeacher(facts.reference, lambda images: teacher(images, group=group), parameters=facts.parameters)


def _mixture(teacher: Teacher) -> CheckedTeacher:
    note = "other ways of giving pixels are tried on a single teacher only: check each one alone"
    facts = teacher.facts
    return CheckedTeacher(
        facts.reference, lambda images: teacher(images, group=len(images)), parameters=facts.parameters,
        notes=(*facts.notes, note),
    )  # fmt: skip


def _columns(found: Classifier, class_names: tuple[str, ...], error: DeitkitError) -> tuple[int, ...] | None:
    """The outputs of the data's classes, then all others, of a classifier that `error` refuses.

    Raises:
        DeitkitError: `error` itself, where not all of the data's classes have an output.
    """
    if found.class_names is None and found.outputs == len(class_names):
        return None
    try:
        classes = map_classes(found.class_names or (), class_names, origin=found.reference)
    except DeitkitError:
        raise error from None
    return None if classes is None else classes.columns
