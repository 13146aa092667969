"""A reference -> weights and what is known of them. A run, a model folder, timm:NAME, hf-hub:OWNER/NAME, or a file.

`describe` reads no weights; `open_reference` does. State-dict keys are timm's. Knows no student and no data.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import timm.models
from safetensors import SafetensorError
from timm.data.imagenet_info import infer_imagenet_subset
from timm.models._hub import load_model_config_from_path
from torch import Tensor

from deitkit.catalog import MODELS
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.models import hub
from deitkit.models.class_names import _synsets, imagenet_names, numbered
from deitkit.models.folder import ModelInfo, find_model, read_config, read_info
from deitkit.models.positions import count_prefix, guess_grid
from deitkit.models.weight_files import WeightsFile, read_weights, read_weights_file
from deitkit.recipe.schema import Data

# How timm says that a file is damaged, foreign or another model's.
REFUSALS = (RuntimeError, KeyError, TypeError, ValueError, AssertionError, SafetensorError, pickle.UnpicklingError)


@dataclass(frozen=True)
class Weights:
    """Tensors under timm's keys, and what is known of them."""

    known: Known
    state: dict[str, Tensor]

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of the patches that the position embedding is for; None where there are none."""
        return guess_grid(self.state, size=self.known.size)


def describe(reference: str) -> Known:
    """What is known of a reference; downloads at most a config.

    Raises:
        DeitkitError: there is no such thing, or it is not at hand.
    """
    if reference.startswith("timm:"):
        return _known_of_timm(reference)
    if reference.startswith(hub.PREFIXES):
        return _known_of_folder(_hub_folder(reference), reference)
    folder = _local_folder(reference)
    if folder is not None:
        return _known_of_folder(folder, reference)
    return known_of_file(read_weights_file(Path(reference)), reference)


def open_reference(reference: str) -> Weights:
    """A reference's weights, with what is known of them.

    Raises:
        DeitkitError: there is no such thing, it is damaged or refused, or it is not at hand.
    """
    if reference.startswith("timm:"):
        known = _known_of_timm(reference)
        return Weights(known, _published(reference))
    if reference.startswith(hub.PREFIXES):
        folder = _hub_folder(reference)
        repository, _ = hub.split_id(reference)
        hub.fetch(repository, hub.WEIGHTS, revision=folder.name, reference=reference)
        return _weights_of_folder(folder, reference)
    local = _local_folder(reference)
    if local is not None:
        return _weights_of_folder(local, reference)
    content = read_weights_file(Path(reference))
    return Weights(known_of_file(content, reference), content.state)


# Runs and folders, of deitkit's or of timm's making


def _local_folder(reference: str) -> Path | None:
    """The folder of a run or model, or of a model's file beside its config; None for a file alone."""
    path = Path(reference)
    if path.is_file():
        beside = path.name in hub.WEIGHTS and (path.parent / "config.json").is_file()
        return path.parent if beside else None
    if not path.exists():
        remedy = "`deitkit runs list` shows the runs"
        if timm.is_model(reference.partition(".")[0]):
            remedy = f"timm's published weights are written timm:{reference}"
        elif re.fullmatch(r"[\w.-]+/[\w.-]+", reference):
            remedy += f"; a model of the Hugging Face hub is written hf-hub:{reference}"
        raise DeitkitError(f"model {path} does not exist", value=reference, remedy=remedy)
    return find_model(path)


def _hub_folder(reference: str) -> Path:
    """The cached folder of a hub repository's commit, with its config.json."""
    repository, revision = hub.split_id(reference)
    return hub.fetch(repository, ["config.json"], revision=revision, reference=reference).parent


def _known_of_folder(folder: Path, reference: str) -> Known:
    config = read_config(folder)
    if "architecture" not in config:
        named = str(config.get("_name_or_path") or reference).rpartition("/")[2].replace("-", "_")
        published = f"timm:{named} has these weights" if timm.is_model(named) else "name a model of timm's or deitkit's"
        raise DeitkitError(
            f"{reference} is no model of timm's: its config.json names no architecture",
            value=reference,
            remedy=published,
        )
    info = read_info(config)
    if info is not None:
        return Known(reference, config["architecture"], dict(config["model_args"]), info.size, info.class_names, info)
    pretrained, architecture, arguments = load_model_config_from_path(folder)
    return known_of_config(pretrained, reference, architecture, arguments)


def _weights_of_folder(folder: Path, reference: str) -> Weights:
    known = _known_of_folder(folder, reference)
    if read_info(read_config(folder)) is not None:
        return Weights(known, read_weights(folder / "model.safetensors"))
    return Weights(known, _timm_state(reference, f"local-dir:{folder}"))


# timm's published weights


def _known_of_timm(reference: str) -> Known:
    name = reference.removeprefix("timm:")
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        near = did_you_mean(architecture, timm.list_models())
        raise DeitkitError(
            f"timm has no model {architecture!r}.{near}",
            value=reference,
            remedy="`python -c 'import timm; print(timm.list_pretrained())'` lists all with weights",
        )
    return known_of_config(_published_config(reference), reference, architecture, {})


def _published_config(reference: str) -> dict[str, Any]:
    """timm's entry of published weights."""
    name = reference.removeprefix("timm:")
    try:
        config = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:  # an unknown tag
        config = None
    if config is None or not config.has_weights:
        published = timm.list_pretrained(f"{name.partition('.')[0]}.*")
        raise DeitkitError(
            f"timm publishes no weights {name}",
            value=reference,
            choices=[f"timm:{other}" for other in published],
            remedy="" if published else "train it first: deitkit pretrain, then --from its run",
        )
    return dict(vars(config))


def _published(reference: str) -> dict[str, Tensor]:
    """Published weights through timm, which translates old keys; the file is fetched first, by deitkit."""
    name, config = reference.removeprefix("timm:"), _published_config(reference)
    if config["hf_hub_id"]:
        names = [config["hf_hub_filename"]] if config["hf_hub_filename"] else hub.WEIGHTS
        path = hub.fetch(config["hf_hub_id"], names, reference=reference)
        return _timm_state(reference, name, pretrained_cfg_overlay={"file": str(path)})
    try:
        return _timm_state(reference, name)
    except OSError as error:
        url = str(config["url"])
        raise hub.offline(reference, f"curl -LO {url}", url.rpartition("/")[2], error) from error


def _timm_state(reference: str, name: str, **more: Any) -> dict[str, Tensor]:
    try:
        network: Any = timm.create_model(name, pretrained=True, **more)
    except REFUSALS as error:
        raise DeitkitError(
            f"timm cannot load {reference}: {error}", value=reference, remedy="copy it again, or name another"
        ) from error
    state: dict[str, Tensor] = network.state_dict()
    return state


IMAGENET = "imagenet"


IMAGENET_TAG = re.compile(r"in(1|12|21|22)k")


@dataclass(frozen=True)
class Known:
    """What is known of a model without its weights; None where it is not.

    `architecture` and `arguments` rebuild it in timm, `size` is (height, width) px, `notes` are worth saying.
    """

    origin: str
    architecture: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    class_names: tuple[str, ...] | None = None
    info: ModelInfo | None = None
    notes: tuple[str, ...] = ()

    @property
    def distilled(self) -> bool:
        return "_distilled" in (self.architecture or "")


def known_of_config(config: Mapping[str, Any], origin: str, architecture: str, arguments: Mapping[str, Any]) -> Known:
    """From timm's description of weights: classes and protocol."""
    names, size = _class_names(config), (int(config["input_size"][1]), int(config["input_size"][2]))
    classes = int(config.get("num_classes") or 0)
    info = ModelInfo(
        class_names=names or numbered(classes),
        size=size,
        mean=_triple(config["mean"]),
        std=_triple(config["std"]),
        crop_ratio=Data().crop_ratio,  # one protocol for all; timm's crop_pct differs from model to model
        interpolation=str(config.get("interpolation") or "bicubic"),
        dataset=IMAGENET if names == imagenet_names() else "",
    )
    built = {
        "num_classes": classes,
        **({"img_size": list(size)} if config.get("fixed_input_size") else {}),
        **arguments,
    }
    return Known(origin, architecture, built, size, names, info)


def _class_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names in the config, or the wnids of the ImageNet that timm's tag names, or None."""
    labels = config.get("label_names")
    if isinstance(labels, (list, tuple)) and len(labels) == config.get("num_classes"):
        return tuple(map(str, labels))
    subset = infer_imagenet_subset(dict(config))
    if subset is None or not IMAGENET_TAG.search(str(config.get("tag") or "")):
        return None
    return _synsets(subset)


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third


def known_of_file(content: WeightsFile, reference: str) -> Known:
    """What a file alone says: an architecture by name, or a transformer by its tensors' shapes; no class names."""
    shaped = transformer_of(content.state)
    if content.architecture is None or not timm.is_model(content.architecture):
        architecture, arguments, size = shaped or (None, {}, None)
        return Known(reference, architecture, arguments, size, notes=content.notes)
    config = timm.models.get_pretrained_cfg(content.architecture) or timm.models.PretrainedCfg()
    heads = config.classifier if isinstance(config.classifier, tuple) else (config.classifier,)
    head = content.state.get(f"{heads[0]}.weight")
    arguments = {} if head is None else {"num_classes": head.shape[0]}
    if shaped is None:
        return Known(reference, content.architecture, arguments, config.input_size[1:], notes=content.notes)
    return Known(
        reference, content.architecture, {**arguments, "img_size": list(shaped[2])}, shaped[2], notes=content.notes
    )


def transformer_of(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any], tuple[int, int]] | None:
    """timm's architecture, arguments and input size of a DeiT, read off its shapes; None where it is none."""
    try:
        patch = state["patch_embed.proj.weight"].shape[-1]
        classes, width = state["head.weight"].shape
        grid = guess_grid(state)
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    except (KeyError, ValueError):
        return None
    if grid is None:
        return None
    heads = next((known.num_heads for known in MODELS.values() if known.embed_dim == width), max(1, width // 64))
    size = (grid[0] * patch, grid[1] * patch)
    kind = "_distilled" if count_prefix(state) == 2 else ""
    return f"deit_base{kind}_patch16_224", {
        "num_classes": classes, "img_size": list(size), "patch_size": patch, "embed_dim": width, "depth": depth,
        "num_heads": heads,
    }, size  # fmt: skip
