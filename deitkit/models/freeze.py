"""Which parameters of a student learn (`train.parts`), from when on all of them do. Builds no optimiser, which leaves
out what is frozen.

"classifier", "classifier+last_norm": FixRes (Touvron et al. 2019, arXiv 1906.06423, Sec. 4); "blocks": the last ones by
timm's own groups of layers; "norms+biases": BitFit (Ben Zaken et al. 2021, arXiv 2106.10199), and norms; "attention":
Touvron et al. 2022, Three things everyone should know about vision transformers (arXiv 2203.09795, Sec. 4); "lora":
`lora`. The classifier learns in each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deitkit.errors import DeitkitError
from deitkit.models.lora import LEARNED, add_lora, attention_modules, merge
from deitkit.models.start import classifier_keys
from deitkit.models.student import Student, input_size, rebuild_student
from deitkit.recipe.schema import Parts, Train

# A network that learns inside every block trains as a whole one does: with stochastic depth and dropout.
THROUGHOUT = ("norms+biases", "attention", "lora")
TOLD_MODULES, MOST_TOLD = 6, 12  # modules that are named each by itself, and kinds of them


@dataclass(frozen=True)
class Frozen:
    """What learns: names of parameters, and how many numbers of how many they hold."""

    parts: Parts
    names: tuple[str, ...]
    learning: int
    total: int

    def summary(self) -> str:
        owners = (name.rpartition(".")[0].partition(LEARNED)[0] for name in self.names)
        modules = list(dict.fromkeys(owners))
        if len(modules) > TOLD_MODULES:
            modules = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name) for name in modules))
        more = [f"{len(modules) - MOST_TOLD} more"] if len(modules) > MOST_TOLD else []
        modules = modules[:MOST_TOLD] + more
        rest = "moves nowhere" if self.parts in THROUGHOUT else "is held as in evaluation"
        return (
            f"train.parts = {self.parts}: {', '.join(modules)} learn, {self.learning:,} of {self.total:,} parameters; "
            f"the rest {rest}"
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


@dataclass(frozen=True)
class HeldNorms:
    """The same where all else trains: these batch norms use and keep their running statistics."""

    norms: tuple[str, ...]

    def __call__(self, student: Student, inputs: Any) -> None:
        for name in self.norms:
            student.network.get_submodule(name).eval()


def freeze(student: Student, parts: Parts, *, train: Train | None = None) -> Frozen:
    """Let only `parts` of the student learn: call it once, before the optimiser and DDP look. `train` has the values
    that belong to the parts.

    "classifier": every head; "classifier+last_norm": the last norm, too, a batch norm with its running statistics.
    The paper fine-tunes that norm; the authors' code moves its statistics alone.

    Raises:
        DeitkitError: the network does not have these parts.
    """
    train = train or Train()
    network: nn.Module = student.network
    if parts == "lora":
        add_lora(student, rank=train.lora_rank, alpha=train.lora_alpha, seed=train.seed)
    names = _learning(student, parts, blocks=train.blocks)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)
    if parts in THROUGHOUT:
        held = [name for name, module in network.named_modules() if _is_frozen_batch_norm(module)]
        if held:
            student.register_forward_pre_hook(HeldNorms(tuple(held)))
    elif parts != "all":
        student.register_forward_pre_hook(HeldParameters(tuple(_whole_modules(network))))
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    learning = tuple(name for name in sizes if name in names)
    return Frozen(parts, learning, sum(sizes[name] for name in learning), sum(sizes.values()))


def unfreeze(student: Student) -> None:
    """Let everything learn from now on; LoRA is merged before."""
    merge(student.network)
    # torch gives hooks back by handle alone, and copies of a student have their own
    hooks = student._forward_pre_hooks
    for key in [key for key, hook in hooks.items() if isinstance(hook, (HeldParameters, HeldNorms))]:
        del hooks[key]
    student.requires_grad_(True)


def _learning(student: Student, parts: Parts, *, blocks: int) -> set[str]:
    """Names of the network's parameters that learn."""
    network: nn.Module = student.network
    names = [name for name, _ in network.named_parameters()]
    if parts == "all":
        return set(names)
    found = set(_inside(names, _classifier(student)))
    if parts == "classifier+last_norm":
        found |= set(_inside(names, last_norms(student)))
    elif parts == "blocks":
        found |= _last_blocks(student, blocks)
    elif parts == "norms+biases":
        norms = {name for name, module in network.named_modules() if _is_norm(module)}
        found |= {name for name in names if name.endswith("bias") or name.rpartition(".")[0] in norms}
    elif parts == "attention":
        found |= set(_inside(names, _attention(student)))
    elif parts == "lora":
        found |= {name for name in names if LEARNED in name}
    return found


def _inside(names: list[str], modules: tuple[str, ...]) -> Iterator[str]:
    return (name for name in names if name.startswith(tuple(f"{module}." for module in modules)))


def _whole_modules(network: nn.Module) -> Iterator[str]:
    """The outermost modules of which every parameter learns."""
    above: tuple[str, ...] = ()
    for name, module in network.named_modules():
        parameters = [parameter.requires_grad for parameter in module.parameters()]
        if name and parameters and all(parameters) and not name.startswith(above):
            above += (f"{name}.",)
            yield name


def _is_frozen_batch_norm(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and not any(p.requires_grad for p in module.parameters())


def _last_blocks(student: Student, blocks: int) -> set[str]:
    """Parameters of the last blocks, and of what lies behind them, as timm groups a network's layers: first the stem,
    at last the classifier, and the last norm with the block before it."""
    network = student.network
    layers: dict[str, int] = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    last = max(layers.values())
    if blocks > last - 1:
        raise DeitkitError(
            f"train.blocks is {blocks}, but {student.architecture} has {last - 1} blocks",
            value=blocks,
            remedy=f"--set train.blocks={max(1, last - 1)}, or --set train.parts=all",
        )
    return {name for name, layer in layers.items() if layer >= last - blocks}


def _attention(student: Student) -> tuple[str, ...]:
    modules = tuple(attention_modules(student.network))
    if not modules:
        raise DeitkitError(
            f"{student.architecture} has no attention that could learn",
            value=student.architecture,
            remedy="--set train.parts=norms+biases, or --set train.parts=blocks",
        )
    return modules


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
        heads = copy(torch.zeros(1, 3, *input_size(student)))
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
