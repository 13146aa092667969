"""The student: images -> Heads, and Tokens on request; built from the catalog or any timm name (paper Sec. 3-4).

State-dict keys of `Student.network` are timm's, so released checkpoints load. Knows no teacher, loss or data set.
Legend: B batch, K classes, D width, L layers, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import timm
import torch
from timm.layers.weight_init import trunc_normal_
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from deitkit.catalog import MODELS
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.recipe.schema import Model

NamedFusion = Literal["softmax", "average_logits"]
FUSIONS: tuple[NamedFusion, ...] = get_args(NamedFusion)
FittedKind = Literal["weighted_softmax", "weighted_logits"]
TOKEN_NAMES = ("class", "distillation")
CHANNELS = 3  # red, green and blue


@dataclass(frozen=True)
class FittedFusion:
    """A fusion whose numbers `deitkit.predictions.fusion_choice` fitted to the images of `fitted_on` (`fingerprint`).

    a, b are the logits of class and distillation head, t_a, t_b the temperatures, w the weight: the class head's share.
    "weighted_softmax": w softmax(a / t_a) + (1 - w) softmax(b / t_b); the paper's sum with w = 1/2, t_a = t_b = 1.
    "weighted_logits": softmax(w a / t_a + (1 - w) b / t_b); with these numbers the reference code's average.
    """

    kind: FittedKind
    weight: float
    temperatures: tuple[float, float]
    fitted_on: str = ""
    fingerprint: str = ""

    def fuse(self, classes: Tensor, distillation: Tensor) -> Tensor:
        """Logits of both heads, each [B, K] -> probabilities [B, K]."""
        scaled, other = classes.float() / self.temperatures[0], distillation.float() / self.temperatures[1]
        if self.kind == "weighted_logits":
            return (self.weight * scaled + (1 - self.weight) * other).softmax(dim=-1)
        return self.weight * scaled.softmax(dim=-1) + (1 - self.weight) * other.softmax(dim=-1)


Fusion = NamedFusion | FittedFusion


@dataclass(frozen=True)
class Heads:
    """Logits of the class head and, on a distilled student, of the distillation head; each [B, K]."""

    classes: Tensor
    distillation: Tensor | None = None

    def fused(self, fusion: Fusion = "softmax") -> Tensor:
        """Probabilities [B, K]; "softmax" is the mean of the heads' softmaxes, the paper's sum (Sec. 4) scaled."""
        if self.distillation is None:
            return self.classes.float().softmax(dim=-1)
        if isinstance(fusion, FittedFusion):
            return fusion.fuse(self.classes, self.distillation)
        if fusion == "average_logits":
            return self.average_logits().float().softmax(dim=-1)
        return (self.classes.float().softmax(dim=-1) + self.distillation.float().softmax(dim=-1)) / 2

    def shifted(self, shift: Tensor) -> Heads:
        """The same with `shift` [K] added to the logits of each head."""
        return Heads(self.classes + shift, None if self.distillation is None else self.distillation + shift)

    def average_logits(self) -> Tensor:
        """Mean of the heads' logits [B, K]: the reference implementation's fusion, which may decide otherwise."""
        return self.classes if self.distillation is None else (self.classes + self.distillation) / 2

    def probabilities(self, fusion: Fusion = "softmax") -> dict[str, Tensor]:
        """Head name -> probabilities [B, K]; a plain classifier has only "class"."""
        classes = self.classes.float().softmax(dim=-1)
        if self.distillation is None:
            return {"class": classes}
        distillation = self.distillation.float().softmax(dim=-1)
        return {"class": classes, "distillation": distillation, "fused": self.fused(fusion)}

    def logits(self) -> dict[str, Tensor]:
        """Head name -> logits [B, K]; a fused prediction has none of its own."""
        return {"class": self.classes} | ({} if self.distillation is None else {"distillation": self.distillation})


@dataclass(frozen=True)
class Tokens:
    """The prefix tokens on their way: parameters alone, with position embedding, after each block, after the norm.

    embedding [T, D]; input [T, D]; layers [L, T, B, D]; normed [T, B, D].
    """

    names: tuple[str, ...]
    embedding: Tensor
    input: Tensor
    layers: Tensor
    normed: Tensor


class Student(nn.Module):
    """images [B, 3, H, W] -> Heads. Wraps a timm network; `architecture` and `arguments` rebuild it."""

    network: Any  # timm's networks share no typed interface

    def __init__(self, network: nn.Module, architecture: str, arguments: dict[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.architecture = architecture
        self.arguments = arguments

    @property
    def distilled(self) -> bool:
        return isinstance(self.network, VisionTransformerDistilled)

    @property
    def num_classes(self) -> int:
        return int(self.network.num_classes)

    def forward(self, images: Tensor) -> Heads:
        """images [B, 3, H, W] -> Heads, each [B, K]; the heads stay apart in training and in evaluation."""
        if not isinstance(self.network, VisionTransformerDistilled):
            return Heads(self.network(images))
        features = self.network.forward_features(images)
        drop = self.network.head_drop
        return Heads(self.network.head(drop(features[:, 0])), self.network.head_dist(drop(features[:, 1])))

    def tokens(self, images: Tensor) -> Tokens:
        """images [B, 3, H, W] -> Tokens.

        Raises:
            DeitkitError: the network has no tokens (a convnet).
        """
        network = self.network
        if not isinstance(self.network, VisionTransformer) or network.cls_token is None or network.pos_embed is None:
            raise DeitkitError(
                f"{self.architecture} has no class token",
                value=self.architecture,
                remedy="tokens exist in vision transformers only; choose a DeiT run",
            )
        parts = [network.cls_token, network.dist_token] if self.distilled else [network.cls_token]
        embedding = torch.cat([part[0] for part in parts])
        count = embedding.shape[0]
        x = network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(images))))
        layers = []
        for block in network.blocks:
            x = block(x)
            layers.append(x[:, :count].transpose(0, 1))
        return Tokens(
            names=TOKEN_NAMES[:count],
            embedding=embedding,
            # DeiT III gives the prefix tokens no position.
            input=embedding if network.no_embed_class else embedding + network.pos_embed[0, :count],
            layers=torch.stack(layers),
            normed=network.norm(x)[:, :count].transpose(0, 1),
        )


def architecture_of(model: Model, num_classes: int) -> tuple[str, dict[str, Any]]:
    """The timm architecture and the arguments that build this model; both fit into a timm config.json."""
    if model.name.startswith("timm:"):
        arguments = {"num_classes": num_classes, **model.options}
        if model.drop_path:
            arguments.setdefault("drop_path_rate", model.drop_path)
        if model.dropout:
            arguments.setdefault("drop_rate", model.dropout)
        architecture = model.name.removeprefix("timm:")
        built_for = timm.models.get_pretrained_cfg(architecture) if timm.is_model(architecture) else None
        if built_for and built_for.fixed_input_size and tuple(built_for.input_size[1:]) != model.size:
            arguments.setdefault("img_size", list(model.size))  # a transformer of timm's at another size than its own
        return architecture, arguments
    variant = MODELS[model.name]
    # timm's distilled transformer has a position for every token; `start` gives those that had none one of zeros.
    options = {key: value for key, value in model.options.items() if not (model.distilled and key == "no_embed_class")}
    return f"{variant.timm}{'_distilled' if model.distilled else ''}_patch16_224", {
        "num_classes": num_classes,
        "img_size": list(model.size),
        "patch_size": variant.patch_size,
        "embed_dim": variant.embed_dim,
        "depth": variant.depth,
        "num_heads": variant.num_heads,
        "drop_path_rate": model.drop_path,
        "proj_drop_rate": model.dropout,
        "pos_drop_rate": model.dropout,
        **options,
    }


def build_student(model: Model, num_classes: int, *, seed: int = 0) -> Student:
    """A freshly initialised student; the same seed gives the same weights.

    Raises:
        DeitkitError: timm knows no such architecture, or refuses an option.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return rebuild_student(*architecture_of(model, num_classes))


def rebuild_student(architecture: str, arguments: dict[str, Any]) -> Student:
    """A student from what a model folder's config names; randomly initialised."""
    refuse_sources(arguments, f"the arguments of {architecture}")
    if not timm.is_model(architecture):
        near = did_you_mean(architecture, timm.list_models())
        raise DeitkitError(
            f"timm has no model {architecture!r}.{near}",
            value=architecture,
            remedy="`python -c 'import timm; print(timm.list_models())'` lists all",
        )
    if arguments.get("in_chans", CHANNELS) != CHANNELS:
        raise DeitkitError(
            f"in_chans is {arguments['in_chans']}: images come with {CHANNELS} channels, grey ones, too",
            value=arguments["in_chans"],
            remedy="leave in_chans out of model.options",
        )
    if "_distilled" in architecture and arguments.get("reg_tokens"):
        raise DeitkitError(
            "a distillation token beside register tokens: timm has no such transformer",
            value=arguments["reg_tokens"],
            remedy="--set model.distilled=false, or weights without registers",
        )
    try:
        network = timm.create_model(architecture, pretrained=False, **arguments)
    except (TypeError, ValueError, AssertionError, ArithmeticError, LookupError, AttributeError, RuntimeError) as error:
        raise DeitkitError(
            f"timm's {architecture} refuses {arguments}: {error}", value=architecture, remedy="mend model.options"
        ) from error
    if isinstance(network, VisionTransformer) and network.cls_token is not None and not network.cls_token.is_meta:
        # timm starts the class token at std 1e-6; DeiT at .02 like every other parameter (reference code).
        trunc_normal_(network.cls_token, std=0.02)
    return Student(network, architecture, arguments)


# Arguments and config entries by which timm reads weights from elsewhere, which may be pickles that run code.
SOURCES = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
CONFIG_SOURCES = ("file", "url", "custom_load", "hf_hub_filename", "state_dict")


def refuse_sources(values: Mapping[str, Any], where: str, names: Sequence[str] = SOURCES) -> None:
    """Raise where a model's description names a source of other weights.

    Raises:
        DeitkitError: it does; nothing was read.
    """
    found = [name for name in names if values.get(name)]
    if found:
        raise DeitkitError(
            f"{where} would read other weights: {', '.join(f'{name} = {values[name]!r}' for name in found)}",
            value=found[0],
            remedy="take that entry out, and name the weights file itself where it is meant and trusted",
        )


def input_size(student: Student) -> tuple[int, int]:
    """Height and width in pixels that the architecture was built for."""
    size = student.arguments.get("img_size") or student.network.pretrained_cfg["input_size"][1:]
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


def count_parameters(model: Model, num_classes: int) -> int:
    """Number of trainable numbers, without allocating any."""
    with torch.device("meta"):
        student = rebuild_student(*architecture_of(model, num_classes))
    return sum(parameter.numel() for parameter in student.parameters())
