"""The brief check before a distillation starts: seconds, a few hundred images, one clear question. Trains nothing.

It has a loader of its own and draws no number from a global generator, so a training with it and one without it are
equal to the last bit.
"""

from __future__ import annotations

from deitkit.errors import DeitkitError, quoted
from deitkit.measures.scores import scores_of
from deitkit.preflight.answering import held_out_answers, sample, training_views, view_scores
from deitkit.preflight.findings import Findings
from deitkit.preflight.order import find_order
from deitkit.preflight.subject import subject_of
from deitkit.preflight.verdict import Verdict, judge
from deitkit.teachers import Teacher
from deitkit.training.step import Training

IMAGES = 256
VIEWS = 128


def brief_check(training: Training) -> list[str]:
    """What a person should know of the teacher before training, a sentence each; nothing without a live teacher.

    Looks at 256 held-out images at most and about as many training views, on the first process.

    Raises:
        DeitkitError: the teacher is not fit to teach beyond doubt; the same on every process.
    """
    if training.teacher is None:
        return []
    own = _told(training, training.teacher) if training.world.is_main else None
    told: list[str] | DeitkitError = next(part for part in training.world.gather(own) if part is not None)
    if isinstance(told, DeitkitError):
        raise told
    return told


def _told(training: Training, teacher: Teacher) -> list[str] | DeitkitError:
    """The sentences, or the error: it is handed on, so that no process waits for another."""
    try:
        verdict = look(training, teacher)
    except DeitkitError as error:
        return error
    if verdict.answer != "no":
        return [f"teacher: {sentence}" for sentence in verdict.sentences()]
    name, recipe = teacher.facts.reference, training.recipe.name
    grave = verdict.reasons[0]
    check = f"deitkit teacher check {quoted(name)} --recipe {quoted(recipe)}"
    more = f"`{check}` tells more; --set teacher.check=false trains all the same"
    return DeitkitError(
        f"teacher {name} is not fit to teach: {grave.text}",
        value=name,
        problems=verdict.sentences()[1:],
        remedy=f"{grave.remedy}; {more}" if grave.remedy else more,
    )


def look(training: Training, teacher: Teacher) -> Verdict:
    """The verdict on a few images: chance and order of the classes, and agreement on the training's own first views."""
    recipe, device, val = training.recipe, training.device, training.val
    subject = subject_of(teacher, group=training.shape.mix_group)
    (answers,) = held_out_answers(subject, recipe, val, sample(len(val), IMAGES), device=device)
    views = training_views(recipe, training.train, views=VIEWS, device=device)
    found = Findings(
        teacher=subject.name,
        dataset=val.dataset,
        split=val.split,
        labels="hard" if recipe.teacher is None else recipe.teacher.labels,
        held_out=scores_of(answers, classes=len(val.class_names)),
        views=(view_scores(subject, recipe, views, kind="mixed" if recipe.is_mixing else "augmented"),),
        order=find_order(answers, val.class_names, outputs=len(val.class_names)),
        is_brief=True,
    )
    return judge(found)
