"""Classifiers of another making, an ONNX file or a Python function: opened, and made to answer as any model does.

They take and answer what they say of themselves, or what the recipe of a run that they taught says of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deitkit.errors import DeitkitError

if TYPE_CHECKING:
    from deitkit.data.open import Source
    from deitkit.models.load import LoadedModel
    from deitkit.predictions.predict import ClassMap
    from deitkit.recipe import schema
    from deitkit.teachers import Classifier

logger = logging.getLogger(__name__)

UNNAMED = (
    "give what the function returns an attribute class_names, or an ONNX file that metadata; or name a run beside it"
    " that it taught, whose recipe says teacher.classes"
)


def spec_of(word: str, teachers: Sequence[schema.TeacherTable]) -> schema.TeacherTable:
    """What the first of these recipes that has it for its only teacher says of it."""
    from deitkit.recipe import schema

    return next((teacher for teacher in teachers if teacher.models == [word]), schema.TeacherTable(model=word))


def open_foreign(word: str, spec: schema.TeacherTable, *, size: tuple[int, int] | None) -> Classifier:
    """Open it, and say what it assumes; `size` (height, width) px is shown to one that takes any.

    Raises:
        DeitkitError: it cannot be opened, or nobody says at which size it runs.
    """
    from dataclasses import replace

    from deitkit.teachers import open_classifier

    classifier = open_classifier(word, spec, size=size)
    for note in classifier.notes:
        logger.info(f"{word}: {note}")
    pixels = classifier.input.size or size
    if pixels is None:
        raise DeitkitError(
            f"{word} does not say at which image size it runs",
            value=word,
            remedy="give what it returns an attribute image_size, or name a run beside it",
        )
    return replace(classifier, input=replace(classifier.input, size=pixels))


def as_model(
    classifier: Classifier, spec: schema.TeacherTable, settings: schema.Data, source: Source
) -> tuple[LoadedModel, ClassMap | None]:  # fmt: skip
    """The same as a model, which is shown whole views of its own size as the data are evaluated, and how its classes
    are the data's: it may know more.

    Raises:
        DeitkitError: it does not know all classes of the data, or does not say which it knows.
    """
    from deitkit.models.load import LoadedModel, ModelInfo
    from deitkit.models.student import Student
    from deitkit.predictions.predict import map_classes
    from deitkit.teachers import Answering

    names = classifier.class_names or _taken_for(classifier, spec, settings, source)
    info = ModelInfo.of(settings, classifier.input.size or (0, 0), names)
    student = Student(Answering(classifier, mean=settings.mean, std=settings.std), classifier.kind, {})
    model = LoadedModel(student, info, classifier.reference)
    return model, map_classes(names, source.class_names, origin=classifier.reference)


def _taken_for(
    classifier: Classifier, spec: schema.TeacherTable, settings: schema.Data, source: Source
) -> tuple[str, ...]:  # fmt: skip
    """The classes of one that does not name them, where they can be told."""
    from deitkit.teachers.classes import match_classes

    try:
        matched = match_classes(
            None, source.class_names, outputs=classifier.outputs, reference=classifier.reference,
            kind=classifier.kind, spec=spec, data=settings,
        )  # fmt: skip
    except DeitkitError as error:
        raise DeitkitError(error.what, value=error.value, remedy=UNNAMED) from error
    for note in matched.notes:
        logger.info(f"{classifier.reference}: {note}")
    return matched.names
