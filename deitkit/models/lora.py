"""LoRA (Hu et al. 2021, arXiv 2106.09685) on attention and MLP by peft, and its weights merged for everyone else.

While it trains, a matrix W of the network is W + alpha / rank B A, of which A and B learn. What leaves training has W's
own name and holds the sum: checkpoints, model folders, exports and timm read a plain network. Knows no optimiser.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deitkit.errors import DeitkitError, require
from deitkit.models.student import CHANNELS, Student, input_size, rebuild_student

ADAPTER = "default"  # peft's name of the only one
BASE, LEARNED = ".base_layer.", ".lora_"  # parts of peft's names
INSTEAD = "--set train.parts=norms+biases, or --set train.parts=blocks"


def add_lora(student: Student, *, rank: int, alpha: float, seed: int) -> tuple[str, ...]:
    """Put A and B beside every matrix of attention and MLP, B zero; the names of these linear layers.

    Raises:
        DeitkitError: the network has no attention, or peft is not installed.
    """
    targets = lora_targets(student)
    if not targets:
        raise DeitkitError(
            f"{student.architecture} has no attention: LoRA is for transformers",
            value=student.architecture,
            remedy=f"a convnet learns in part by {INSTEAD}",
        )
    require("LoRA", "peft", extra="lora", instead=INSTEAD)
    from peft import LoraConfig, inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))  # type: ignore[arg-type]
        inject_adapter_in_model(config, student.network, adapter_name=ADAPTER)
    return targets


def lora_targets(student: Student) -> tuple[str, ...]:
    """Names of the linear layers inside attention, and inside the MLPs beside it, that are called as layers.

    Some of timm's attentions read a layer's matrix and call it never: what stands beside it would not act. So a
    weightless copy runs once.
    """
    network: nn.Module = student.network
    attentions = attention_modules(network)
    if not attentions:
        return ()
    blocks = {name.rpartition(".")[0] for name in attentions}
    inside = tuple(f"{name}." for name in attentions)
    linears = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    beside = [name for name in linears if any(_is_mlp(network, name, block) for block in blocks)]
    wanted = {name for name in linears if name.startswith(inside)} | set(beside)
    called = _called(student, wanted)
    return tuple(name for name in linears if name in called)


def attention_modules(network: nn.Module) -> list[str]:
    """Names of the innermost modules that attend: timm calls their classes so, some blocks around them, too."""
    named = [
        name
        for name, module in network.named_modules()
        if "Attention" in type(module).__name__ and any(parameter.ndim > 1 for parameter in module.parameters())
    ]
    return [name for name in named if not any(other.startswith(f"{name}.") for other in named)]


def _is_mlp(network: nn.Module, linear: str, block: str) -> bool:
    """Whether the linear layer belongs to an MLP of this block."""
    owner = linear.rpartition(".")[0]
    is_inside = owner.startswith(f"{block}.") if block else bool(owner)
    return is_inside and "Mlp" in type(network.get_submodule(owner)).__name__


def _called(student: Student, names: set[str]) -> set[str]:
    """Which of these modules a forward pass calls."""
    with torch.device("meta"), torch.no_grad():
        copy = rebuild_student(student.architecture, student.arguments).eval()
        called: set[str] = set()
        for name in names:
            copy.network.get_submodule(name).register_forward_hook(lambda *_, name=name: called.add(name))
        copy(torch.zeros(1, CHANNELS, *input_size(student)))
    return called


# Merged


def adapted(network: nn.Module) -> dict[str, Any]:
    """Name -> layer of peft's, of the layers that LoRA stands beside."""
    return {name: module for name, module in network.named_modules() if hasattr(module, "lora_A")}


@torch.no_grad()
def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """The network's state under its own names, LoRA added to its matrices; without LoRA the state itself."""
    state: dict[str, Tensor] = network.state_dict()
    layers = adapted(network)
    if not layers:
        return state
    plain = {key.replace(BASE, "."): value for key, value in state.items() if LEARNED not in key}
    return plain | {f"{name}.weight": _sum(layer) for name, layer in layers.items()}


def _sum(layer: Any) -> Tensor:
    total: Tensor = layer.base_layer.weight + layer.get_delta_weight(ADAPTER)
    return total


def apart(network: nn.Module) -> dict[str, Tensor]:
    """What `plain_state` has added up: A, B, and the matrices without them, under peft's names. A sum cannot be taken
    apart again to the last bit, so a checkpoint keeps them."""
    bases = {f"{name}{BASE}weight" for name in adapted(network)}
    return {key: value for key, value in network.state_dict().items() if LEARNED in key or key in bases}


def load_training_state(network: nn.Module, plain: Mapping[str, Tensor], parts: Mapping[str, Tensor]) -> None:
    """Load what `plain_state` and `apart` gave."""
    if not parts:
        network.load_state_dict(plain)
        return
    keys = network.state_dict().keys()
    network.load_state_dict({key: parts[key] if key in parts else plain[key.replace(BASE, ".")] for key in keys})


@contextmanager
def as_plain(network: nn.Module) -> Iterator[None]:
    """While it is open, the network is the plain one that `plain_state` describes; without LoRA it is so anyway."""
    layers = adapted(network)
    matrices = {name: layer.base_layer.weight for name, layer in layers.items()}
    for name, layer in layers.items():
        plain = layer.base_layer
        plain.weight = nn.Parameter(_sum(layer).detach(), requires_grad=False)
        _put(network, name, plain)
    try:
        yield
    finally:
        for name, layer in layers.items():
            layer.base_layer.weight = matrices[name]
            _put(network, name, layer)


@torch.no_grad()
def merge(network: nn.Module) -> None:
    """Add LoRA to the matrices, and take it away, for good."""
    for name, layer in adapted(network).items():
        layer.base_layer.weight.copy_(_sum(layer))
        _put(network, name, layer.base_layer)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    owner, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(owner), leaf, module)
