"""The teacher: any frozen classifier, images -> logits [B, K] (DeiT Sec. 4). Knows no student and no label.

It sees the very views that the student sees, mixed and normalised; its own normalisation is applied on the device.
"""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from torch import Tensor, nn

from deitkit.catalog import DATASETS
from deitkit.data.loader import per_channel
from deitkit.errors import DeitkitError
from deitkit.model import Student
from deitkit.schema import Recipe
from deitkit.weights import LoadedModel, ModelInfo, load_model


class Teacher(nn.Module):
    """A frozen classifier that runs on whole chunks of mix groups, so that its decisions depend on nothing else."""

    factor: Tensor | None
    offset: Tensor | None

    def __init__(self, student: Student, *, rescale: tuple[Tensor, Tensor] | None, chunk: int) -> None:
        """`rescale` = (factor, offset), each [1, 3, 1, 1], from the student's normalisation to its own; `chunk` in
        mix groups."""
        super().__init__()
        self.classifier = student.eval().requires_grad_(False)
        self.chunk = chunk
        self.register_buffer("factor", None if rescale is None else rescale[0])
        self.register_buffer("offset", None if rescale is None else rescale[1])

    def train(self, mode: bool = True) -> Teacher:
        """A teacher never trains: its batch norms and dropouts stay in evaluation mode."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor, *, group: int) -> Tensor:
        """Mixed, normalised views [n*G, 3, H, W] -> logits [n*G, K], one fixed-size chunk at a time."""
        if self.factor is not None and self.offset is not None:
            images = images * self.factor + self.offset
        parts = [self.classifier(chunk).average_logits() for chunk in torch.split(images, self.chunk * group)]
        return torch.cat(parts).float()


def open_teacher(recipe: Recipe, class_names: tuple[str, ...]) -> Teacher:
    """The recipe's teacher, checked against the student's classes.

    Raises:
        DeitkitError: it has other classes, or no trained weights are at hand.
    """
    spec = recipe.teacher
    if spec is None:
        raise DeitkitError("the recipe has no [teacher]", remedy="--teacher RUN")
    (name,) = spec.models
    model = _pretrained(name) if name.startswith("timm:") else load_model(name)
    _refuse_other_classes(model, class_names, recipe)
    _refuse_other_resolution(model, recipe)
    return Teacher(model.student, rescale=_rescale(recipe, model.info), chunk=spec.chunk)


def _pretrained(name: str) -> LoadedModel:
    """A timm model with its published weights; an untrained teacher is refused."""
    architecture = name.removeprefix("timm:")
    if not timm.is_model(architecture.split(".")[0]):
        raise DeitkitError(f"timm has no model {architecture!r}", value=name, remedy="mend teacher.model")
    try:
        network: Any = timm.create_model(architecture, pretrained=True)
    except Exception as error:  # the hub client has a dozen kinds of errors; every one means: no weights
        raise DeitkitError(
            f"the weights of {architecture} are not at hand: {type(error).__name__}",
            value=name,
            remedy=f"where there is a network: python -c \"import timm; timm.create_model('{architecture}', "
            'pretrained=True)"; or train a teacher: deitkit pretrain --recipe pretrain/convnet --data DATA',
        ) from error
    config = resolve_data_config({}, model=network)  # type: ignore[no-untyped-call]
    size = (config["input_size"][1], config["input_size"][2])
    names = tuple(str(index) for index in range(network.num_classes))
    info = ModelInfo(names, size, config["mean"], config["std"], config["crop_pct"], config["interpolation"])
    return LoadedModel(Student(network, architecture, {}), info, name)


def _refuse_other_classes(model: LoadedModel, class_names: tuple[str, ...], recipe: Recipe) -> None:
    theirs = model.info.class_names
    if theirs == class_names:
        return
    numbered = theirs == tuple(str(index) for index in range(len(theirs)))
    imagenet = recipe.data.dataset == "imagenet" and len(class_names) == DATASETS["imagenet"].classes
    if numbered and imagenet and len(theirs) == len(class_names):
        return  # published ImageNet classifiers number their classes in the order of the sorted wnids
    if set(theirs) == set(class_names):
        difference = "the same classes in another order"
    else:
        difference = (
            f"{len(theirs)} classes ({_sample(theirs)}), the data has {len(class_names)} ({_sample(class_names)})"
        )
    raise DeitkitError(
        f"teacher {model.origin} has other classes: {difference}",
        value=model.origin,
        remedy=f"fine-tune it on this data first: deitkit finetune --recipe RECIPE --from {model.origin} "
        f"--dataset {recipe.data.dataset}",
    )


def _refuse_other_resolution(model: LoadedModel, recipe: Recipe) -> None:
    """A convnet takes any size; a transformer only the one that its position embedding is for."""
    size = recipe.model.size
    if getattr(model.student.network, "pos_embed", None) is None or tuple(model.info.size) == size:
        return
    raise DeitkitError(
        f"teacher {model.origin} takes {model.info.size[0]}x{model.info.size[1]} px, the student "
        f"{size[0]}x{size[1]}: it sees the student's own views",
        value=model.origin,
        remedy=f"deitkit upscale {model.origin} --to {size[0]}, fine-tune that, and name it as the teacher",
    )


def _sample(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _rescale(recipe: Recipe, info: ModelInfo) -> tuple[Tensor, Tensor] | None:
    """Student's normalisation -> teacher's: x' = x * std/std' + (mean - mean')/std'."""
    if (recipe.data.mean, recipe.data.std) == (tuple(info.mean), tuple(info.std)):
        return None
    mean, std, own_mean, own_std = (
        per_channel(values, torch.device("cpu")) for values in (recipe.data.mean, recipe.data.std, info.mean, info.std)
    )
    return std / own_std, (mean - own_mean) / own_std
