"""Teachers that timm builds: timm:NAME with published weights, a run, a model folder, a hub repository, a file.

A transformer runs at the size of its position embedding only; a convnet takes views as they come. A distilled teacher
answers with its heads fused, as its folder says.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from deitkit.errors import DeitkitError, quoted
from deitkit.models.exported import ExportedStudent
from deitkit.models.load import LoadedModel, load_classifier, load_model
from deitkit.models.reference import Reference
from deitkit.models.student import Fusion, Heads, Student
from deitkit.recipe import schema
from deitkit.teachers.classifier import Raw, hash_state
from deitkit.teachers.facts import Said
from deitkit.teachers.scores import log_probabilities


class ModelNetwork(nn.Module):
    """images [B, 3, H, W] -> logits [B, K], of one `head` where it is named."""

    def __init__(self, student: Student, fusion: Fusion, head: str = "") -> None:
        super().__init__()
        self.student, self.fusion, self.head = student, fusion, head

    def forward(self, images: Tensor) -> Tensor:
        heads: Heads = self.student(images)
        if heads.distillation is None or self.head == "class":
            return heads.classes
        if self.head == "distillation":
            return heads.distillation
        return log_probabilities(heads.probabilities(self.fusion)["fused"])


def open_model(reference: str, spec: schema.TeacherTable, *, size: tuple[int, int] | None) -> Raw:
    """A model with its weights; an untrained one is refused.

    Raises:
        DeitkitError: there is no such model, or its weights are not at hand.
    """
    model, head = _load(reference), Reference.parse(reference).head
    info, student = model.info, model.student
    fixed = is_fixed(student)
    said = Said(
        class_names=info.class_names if model.is_named else None,
        mean=info.mean, std=info.std, image_size=info.size if fixed else None,
        channels="rgb", input="0..1", scores="logits",
    )  # fmt: skip
    return Raw(
        network=ModelNetwork(student, info.fusion, head),
        said=said,
        identity=hash_state(
            student.network,
            architecture=student.architecture,
            arguments=student.arguments,
            fusion=info.fusion,
            **({"head": head} if head else {}),
        ),
        parameters=student.weights
        if isinstance(student, ExportedStudent)
        else sum(parameter.numel() for parameter in student.parameters()),
        outputs=student.num_classes,
        fixed=fixed,
        notes=("it has two heads: their fused prediction teaches",) if student.distilled and not head else (),
    )


def _load(reference: str) -> LoadedModel:
    """The model; where it is not at hand, the remedy names the teacher's option."""
    found = Reference.parse(reference)
    try:
        model = (load_classifier if found.kind == "exported" else load_model)(replace(found, head=""))
    except DeitkitError as error:
        raise DeitkitError(
            error.what if found.word in error.what else f"teacher {reference}: {error.what}",
            value=error.value, choices=error.choices, problems=error.problems,
            remedy=error.remedy.replace("deitkit finetune --from", "--teacher"),
        ) from error  # fmt: skip
    if found.head in ("distillation", "fused") and not model.student.distilled:
        raise DeitkitError(
            f"teacher {found.word} has one head, and no {found.head} head", value=reference, choices=("class",),
            remedy=f"--teacher {found.word}",
        )  # fmt: skip
    if model.student.num_classes < 2:
        raise DeitkitError(
            f"teacher {reference} has no classifier: it was published as a backbone",
            value=reference,
            remedy=f"deitkit finetune --from {quoted(reference)} gives it one",
        )
    return model


def is_fixed(student: Student) -> bool:
    """Whether it runs at one size only: by timm's own account, or for a position embedding's sake."""
    config = getattr(student.network, "pretrained_cfg", None) or {}
    return bool(config.get("fixed_input_size")) or getattr(student.network, "pos_embed", None) is not None
