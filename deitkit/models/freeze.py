"""Which parameters of a student learn (`train.parts`). What does not learn is held as it is in evaluation.

Made for FixRes (Touvron et al. 2019, arXiv 1906.06423, Sec. 4): a convnet is adapted to another resolution by its
classifier and the batch norm before the global pooling alone. Builds no optimiser, which leaves out what is frozen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deitkit.errors import DeitkitError
from deitkit.models.start import classifier_keys
from deitkit.models.student import Student, rebuild_student

Parts = Literal["all", "classifier", "classifier+last_norm"]


@dataclass(frozen=True)
class Frozen:
    """What learns: names of parameters, and how many numbers of how many they hold."""

    parts: Parts
    names: tuple[str, ...]
    learning: int
    total: int

    def summary(self) -> str:
        modules = dict.fromkeys(name.rpartition(".")[0] for name in self.names)
        return (
            f"train.parts = {self.parts}: {', '.join(modules)} learn, {self.learning:,} of {self.total:,} parameters; "
            "the rest is held as in evaluation"
        )


@dataclass(frozen=True)
class HeldParameters:
    """A hook before a student's forward pass: in training, only these modules of its network are in training mode.

    It outlasts every `train()` and is copied with the student. Frozen batch norms thus use and keep their running
    statistics, and stochastic depth and dropout are off, as in the authors' FixRes code.
    """

    learning: tuple[str, ...]

    def __call__(self, student: Student, inputs: Any) -> None:
        if student.training:
            student.network.eval()
            for name in self.learning:
                student.network.get_submodule(name).train()


def freeze(student: Student, parts: Parts) -> Frozen:
    """Let only `parts` of the student learn, for good: call it once, before the optimiser and DDP look.

    "classifier": every head; "classifier+last_norm": the last norm, too, a batch norm with its running statistics.
    The paper fine-tunes that norm; the authors' code moves its statistics alone.

    Raises:
        DeitkitError: the network has no classifier, or none of the norms asked for.
    """
    network: nn.Module = student.network
    names = {name for name, _ in network.named_parameters()}
    if parts != "all":
        modules = _classifier(student) + (last_norms(student) if parts == "classifier+last_norm" else ())
        names = {name for name in names if name.rpartition(".")[0] in modules}
        student.register_forward_pre_hook(HeldParameters(modules))
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    learning = tuple(name for name in sizes if name in names)
    return Frozen(parts, learning, sum(sizes[name] for name in learning), sum(sizes.values()))


def _classifier(student: Student) -> tuple[str, ...]:
    modules = tuple(dict.fromkeys(key.rpartition(".")[0] for key in classifier_keys(student)))
    if not modules:
        raise DeitkitError(
            f"{student.architecture} has no classifier that could learn alone",
            value=student.architecture,
            remedy="--set train.parts=all",
        )
    return modules


def last_norms(student: Student) -> tuple[str, ...]:
    """Names of the norms with the fewest operations between them and the classifier.

    Several where they are equally near: RegNetY-16GF's last block adds the norms of its branch and of its shortcut.
    Read off the autograd graph of a weightless copy, so that neither names nor the order of definition matter.

    Raises:
        DeitkitError: the network normalises nowhere.
    """
    with torch.device("meta"), torch.enable_grad():
        copy = rebuild_student(student.architecture, student.arguments).eval()
        heads = copy(torch.zeros(1, 3, *_input_size(student)))
    owners = {
        id(parameter): name
        for name, module in copy.network.named_modules()
        if _is_norm(module)
        for parameter in module.parameters(recurse=False)
    }
    nodes = [logits.grad_fn for logits in (heads.classes, heads.distillation) if logits is not None]
    seen = set(nodes)
    while nodes:
        found = dict.fromkeys(owners[leaf] for node in nodes for leaf in _leaves(node) if leaf in owners)
        if found:
            return tuple(sorted(found))
        nodes = list(dict.fromkeys(before for node in nodes for before, _ in node.next_functions if before is not None))
        nodes = [node for node in nodes if node not in seen]
        seen.update(nodes)
    raise DeitkitError(
        f"{student.architecture} has no norm that could learn",
        value=student.architecture,
        remedy="--set train.parts=classifier",
    )


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, (_BatchNorm, nn.LayerNorm, nn.GroupNorm)) or "Norm" in type(module).__name__


def _leaves(node: Any) -> Iterator[int]:
    """The parameters that an operation reads itself, by identity."""
    for before, _ in node.next_functions:
        if hasattr(before, "variable"):
            yield id(before.variable)


def _input_size(student: Student) -> tuple[int, int]:
    """Height and width in pixels that the architecture was built for."""
    size = student.arguments.get("img_size") or student.network.pretrained_cfg["input_size"][1:]
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)
