"""The teacher: any frozen classifier, or a mixture of several, images -> logits [B, K] (DeiT Sec. 4). Knows no student.

It sees the very views that the student sees, mixed and normalised, as its own input on the device. It runs on chunks of
whole mix groups, so that its answers depend on nothing else: other batch splits change logits by about 1e-5, and a hard
label now and then. Legend: B batch, K classes, G mix group, n groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from deitkit.data.views.stream import StreamShape
from deitkit.errors import DeitkitError, quoted
from deitkit.models.code import code_from_file
from deitkit.models.forms import ModelKind
from deitkit.models.reference import Reference
from deitkit.recipe import schema
from deitkit.recipe.schema import Recipe
from deitkit.teachers.classes import match_classes
from deitkit.teachers.classifier import Answering, Classifier, Raw, classifier_of
from deitkit.teachers.factory import open_factory
from deitkit.teachers.facts import Kind, TeacherFacts, digest
from deitkit.teachers.models import open_model
from deitkit.teachers.onnx_file import open_onnx
from deitkit.teachers.scores import log_probabilities
from deitkit.teachers.views import adaptations

OPENERS: dict[Kind, Callable[..., Raw]] = {"model": open_model, "onnx": open_onnx, "factory": open_factory}
KINDS: dict[ModelKind, Kind] = {"onnx": "onnx", "python": "factory"}


class Teacher(nn.Module):
    """One frozen classifier, or a mixture: the weighted mean of their probabilities. `facts` say what it is."""

    def __init__(
        self, members: Sequence[Answering], facts: TeacherFacts, *, chunk: int, shares: Sequence[float] = (1.0,)
    ) -> None:
        """`chunk` in mix groups; `shares` sum to 1, one a member."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self.facts, self.chunk, self.shares = facts, chunk, tuple(shares)

    def train(self, mode: bool = True) -> Teacher:
        """A teacher never trains: its batch norms and dropouts stay in evaluation mode."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor, *, group: int) -> Tensor:
        """Mixed, normalised views [n*G, 3, H, W] -> logits [n*G, K] float32, one fixed-size chunk at a time.

        A mixture's logits are the logarithms of its probabilities, up to a constant an image.
        """
        return torch.cat([self._answer(part) for part in torch.split(images, self.chunk * group)]).float()

    def _answer(self, images: Tensor) -> Tensor:
        if len(self.members) == 1:
            logits: Tensor = self.members[0](images)
            return logits
        parts = [
            member(images).softmax(dim=-1) * share for member, share in zip(self.members, self.shares, strict=True)
        ]
        return log_probabilities(torch.stack(parts).sum(dim=0))

    def check_finite(self) -> None:
        """Wait for the device, and refuse answers that were NaN or infinite. Belongs before anything is saved: on an
        accelerator `forward` itself looks only now and then.

        Raises:
            DeitkitError: there were some.
        """
        for member in self.members:
            if isinstance(member, Answering):
                member.check_finite.look()


def open_teacher(recipe: Recipe, class_names: tuple[str, ...]) -> Teacher:
    """The recipe's teacher, its outputs in the order of the data's `class_names`.

    Raises:
        DeitkitError: it cannot be opened, its weights are not at hand, or it has other classes.
    """
    spec = recipe.teacher
    if spec is None:
        raise DeitkitError("the recipe has no [teacher]", remedy="--teacher RUN")
    refuse_code_from_file(recipe)
    shares = mixture_shares(spec)
    size = recipe.model.size
    opened = [_member(open_classifier(name, spec, size=size), recipe, spec, class_names) for name in spec.models]
    members, facts = [member for member, _ in opened], [own for _, own in opened]
    whole = facts[0] if len(facts) == 1 else _mixture_facts(facts, shares, class_names)
    return Teacher(members, whole, chunk=spec.chunk, shares=shares)


def open_classifier(reference: str, spec: schema.TeacherTable, *, size: tuple[int, int] | None = None) -> Classifier:
    """A teacher before its classes are matched; `size` (height, width) px is that of the views it will see.

    A Python function is executed: ask `refuse_code_from_file` first where a recipe names it.

    Raises:
        DeitkitError: it cannot be opened, or its weights are not at hand.
    """
    kind = kind_of(reference)
    return classifier_of(OPENERS[kind](reference, spec, size=size), reference, kind, spec, size=size)


def kind_of(reference: str) -> Kind:
    """What a reference names."""
    found = Reference.parse(reference)
    if found.is_foreign and found.head:
        raise DeitkitError(
            f"teacher {reference}: only a model of deitkit's or timm's has heads that are told apart",
            value=reference,
            remedy=f"leave out :{found.head}",
        )
    return KINDS.get(found.kind, "model")


def refuse_code_from_file(recipe: Recipe) -> None:
    """Raise where a file, and not who runs deitkit, names a Python function as teacher: its code would be executed.

    Raises:
        DeitkitError: it names the function, and how to allow it.
    """
    models = recipe.teacher.models if recipe.teacher else ()
    code = [name for name in models if kind_of(name) == "factory"]
    if code and not {"teacher", "teacher.model"} & recipe.given:
        words = " ".join(f"--teacher {quoted(name)}" for name in models)
        raise code_from_file(code[0], f"recipe {recipe.name}", remedy=f"{words} or --trust-code")


def _member(
    classifier: Classifier, recipe: Recipe, spec: schema.TeacherTable, class_names: tuple[str, ...]
) -> tuple[Answering, TeacherFacts]:
    """A classifier that answers in the data's classes, and what it came to be."""
    matched = match_classes(
        classifier.class_names, class_names, outputs=classifier.outputs, reference=classifier.reference,
        kind=classifier.kind, spec=spec, data=recipe.data,
    )  # fmt: skip
    wanted, size = classifier.input, recipe.model.size
    mean, std = recipe.data.mean, recipe.data.std
    settled = replace(classifier, class_names=matched.names, input=replace(wanted, size=wanted.size or size))
    facts = TeacherFacts(
        reference=classifier.reference, kind=classifier.kind, class_names=class_names,
        notes=(*classifier.notes, *adaptations(wanted, mean=mean, std=std, size=size), *matched.notes),
        parameters=classifier.parameters,
        fingerprint=settled.fingerprint(answers=class_names, precision=recipe.train.precision),
        scores=classifier.scores, size=settled.input.size, mean=wanted.mean, std=wanted.std,
        channels=wanted.channels, input=wanted.values,
    )  # fmt: skip
    return Answering(classifier, mean=mean, std=std, columns=matched.columns), facts


def mixture_shares(spec: schema.TeacherTable) -> tuple[float, ...]:
    """Each member's share of the mean, from teacher.mixture; equal by default.

    Raises:
        DeitkitError: other than one weight a teacher, or weights that are no shares.
    """
    count = len(spec.models)
    weights = spec.mixture or [1.0] * count
    if count < 1 or len(weights) != count or min(weights) < 0 or not 0 < sum(weights) < math.inf:
        raise DeitkitError(
            f"teacher.mixture {weights} does not weigh {count} teacher(s)",
            value=weights,
            remedy=f"one weight a teacher, none below 0: --set teacher.mixture={[1.0] * max(1, count)}",
        )
    return tuple(weight / sum(weights) for weight in weights)


def _mixture_facts(
    facts: Sequence[TeacherFacts], shares: Sequence[float], class_names: tuple[str, ...]
) -> TeacherFacts:
    names, parameters = [own.reference for own in facts], [own.parameters for own in facts]
    return TeacherFacts(
        reference=f"a mixture of {len(facts)}",
        kind="mixture",
        class_names=class_names,
        notes=(
            "its probabilities are "
            + " + ".join(f"{share:.3g} x {name}" for name, share in zip(names, shares, strict=True)),
            *(f"{own.reference}: {note}" for own in facts for note in own.notes),
        ),
        parameters=None if None in parameters else sum(count for count in parameters if count is not None),
        fingerprint=digest({"members": [own.fingerprint for own in facts], "shares": list(shares)}),
        scores="probabilities",
        members=tuple(facts),
    )


def check_chunk(shape: StreamShape, spec: schema.TeacherTable) -> None:
    """Refuse a part whose groups the teacher's chunks would cut: its answers would depend on ranks and accumulation.

    Raises:
        DeitkitError: teacher.chunk does not divide the groups of a part.
    """
    groups = shape.groups_per_part
    if groups % spec.chunk == 0:
        return
    fits = [count for count in range(1, groups + 1) if groups % count == 0]
    raise DeitkitError(
        f"teacher.chunk {spec.chunk} does not divide a part's {groups} mix groups (batch {shape.batch_size} / group "
        f"{shape.mix_group} / {shape.ranks} rank(s) / accumulation {shape.accumulation})",
        value=spec.chunk,
        choices=[str(count) for count in fits],
        remedy=f"--set teacher.chunk={max(count for count in fits if count <= max(1, spec.chunk))}",
    )
