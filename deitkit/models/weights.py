"""A reference -> weights and what is known of them: a run, a checkpoint of it, a model folder, a published one, a file.

`describe` reads no weights but a bare file's; `open_reference` does. State-dict keys are timm's. Builds no student.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import timm.models
from safetensors import SafetensorError
from timm.models._hub import load_model_config_from_path
from torch import Tensor

from deitkit.data.open import open_source
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.models import hub
from deitkit.models.description import Known, known_of_config, known_of_file, known_of_own, refuse_other_weights
from deitkit.models.exported import read_exported, tensors_of
from deitkit.models.folder import ModelInfo, find_model, read_config, read_info
from deitkit.models.positions import guess_grid
from deitkit.models.reference import PUBLISHED, Reference
from deitkit.models.student import architecture_of
from deitkit.models.transformers_config import PROCESSOR, is_transformers, known_of_transformers
from deitkit.models.weight_files import forget_weights, read_weights, read_weights_file
from deitkit.runs.checkpoint import load_checkpoint
from deitkit.runs.folder import Run

# How timm says that a file is damaged, foreign or another model's.
REFUSALS = (
    RuntimeError, LookupError, TypeError, ValueError, AssertionError, AttributeError, ArithmeticError, OSError,
    SafetensorError, pickle.UnpicklingError,
)  # fmt: skip
MOST_PIXELS = 8192  # a side of an image
MOST_WIDTH = 64  # heads, patches, groups: small beside any weights


@dataclass(frozen=True)
class Weights:
    """Tensors under timm's keys, and what is known of them."""

    known: Known
    state: dict[str, Tensor]

    @property
    def grid(self) -> tuple[int, int] | None:
        """(rows, columns) of the patches that the position embedding is for; None where there are none."""
        return guess_grid(self.state, size=self.known.size)


def describe(reference: str | Reference) -> Known:
    """What is known of a reference; reads no weights but a bare file's, and downloads at most a config.

    Raises:
        DeitkitError: there is no such model, it is not at hand, or it is of a kind without weights, or one head.
    """
    found = _whole(reference)
    if found.is_step:
        return _known_of_checkpoint(found)
    if found.kind == "published":
        if found.place.startswith("timm:"):
            return _known_of_timm(found.place)
        return _known_of_folder(_hub_folder(found.place), found.place)
    if found.kind == "exported":
        return read_exported(Path(found.place)).known
    folder = _local_folder(found)
    if folder is None:
        return known_of_file(read_weights_file(Path(found.place)), found.place)
    return _known_of_folder(folder, found.word)


def open_reference(reference: str | Reference) -> Weights:
    """A reference's weights, with what is known of them.

    Raises:
        DeitkitError: as `describe`, or they are damaged or refused.
    """
    found = _whole(reference)
    if found.is_step:
        checkpoint = load_checkpoint(Run(found.folder).checkpoints / found.checkpoint)
        return Weights(_known_of_checkpoint(found), checkpoint.model)
    if found.kind == "published":
        if found.place.startswith("timm:"):
            return Weights(_known_of_timm(found.place), _published(found.place))
        folder = _hub_folder(found.place)
        repository, _ = hub.split_id(found.place)
        hub.fetch(repository, hub.WEIGHTS, revision=folder.name, reference=found.place)
        return _weights_of_folder(folder, found.place)
    if found.kind == "exported":
        exported = read_exported(Path(found.place))
        return Weights(exported.known, tensors_of(exported))
    local = _local_folder(found)
    if local is not None:
        return _weights_of_folder(local, found.word)
    content = read_weights_file(Path(found.place))
    forget_weights()  # who opens them keeps them
    return Weights(known_of_file(content, found.place), content.state)


def refuse_larger(known: Known, state: Mapping[str, Tensor]) -> None:
    """Raise, before anything is built, where a model is said to be far larger than its weights.

    Raises:
        DeitkitError: an argument has no counterpart in the weights.
    """
    sides = [side for tensor in state.values() for side in tensor.shape]
    bounds = {"depth": len(state), "size": max(MOST_PIXELS, *sides)}
    for name, value in known.arguments.items():
        most = next((bound for part, bound in bounds.items() if part in name), max(MOST_WIDTH, *sides))
        if any(abs(number) > most for number in _numbers(value)):
            raise DeitkitError(
                f"{known.origin} is damaged: {name} = {value!r} is far more than its weights have",
                value=value,
                remedy="copy its config.json again",
            )


def _numbers(value: Any) -> list[float]:
    """Every number in a value."""
    if isinstance(value, (list, tuple)):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, (int, float)) else []


def _whole(reference: str | Reference) -> Reference:
    found = reference if isinstance(reference, Reference) else Reference.parse(reference)
    found.need_weights()
    return found


# Runs and folders, of deitkit's or of timm's making


def _local_folder(reference: Reference) -> Path | None:
    """The folder of a run or model, or of a model's file beside its config; None for a file alone."""
    path = Path(reference.model)
    if reference.kind == "weights":
        beside = path.name in hub.WEIGHTS and (path.parent / "config.json").is_file()
        return path.parent if beside else None
    return find_model(path)


def _known_of_checkpoint(reference: Reference) -> Known:
    """Of a run that may be unfinished: then its recipe and its data say what the model is."""
    run = Run(reference.folder)
    if (run.model / "config.json").is_file():
        return replace(_known_of_folder(run.model, reference.word), origin=reference.word)
    recipe = run.recipe()
    names = open_source(recipe.data, "train").class_names
    size, (architecture, arguments) = recipe.model.size, architecture_of(recipe.model, len(names))
    info = ModelInfo.of(recipe.data, size, names, recipe=recipe.name)
    return Known(reference.word, architecture, arguments, size, names, info)


def _hub_folder(reference: str) -> Path:
    """The cached folder of a hub repository's commit, with its config.json."""
    repository, revision = hub.split_id(reference)
    return hub.fetch(repository, ["config.json"], revision=revision, reference=reference).parent


def _known_of_folder(folder: Path, reference: str) -> Known:
    config = read_config(folder)
    refuse_other_weights(config, f"{folder}/config.json")
    if is_transformers(config):
        return known_of_transformers(folder, reference, _processor(folder, reference))
    if "architecture" not in config:
        raise DeitkitError(
            f"{reference} is no model of timm's, deitkit's or transformers': its config.json names no architecture",
            value=reference,
            remedy="name its weights file alone, under another name than model.safetensors",
        )
    if read_info(config) is not None:
        return known_of_own(config, reference, where=f"{folder}/config.json")
    pretrained, architecture, arguments = _timm_config(folder)
    try:
        return known_of_config(pretrained, reference, architecture, arguments)
    except REFUSALS as error:
        raise _damaged_config(folder, error) from error


def _processor(folder: Path, reference: str) -> Path | None:
    """The file beside a config.json of transformers that tells mean and std, where there is one."""
    if not reference.startswith(PUBLISHED):
        return folder / PROCESSOR if (folder / PROCESSOR).is_file() else None
    repository, _ = hub.split_id(reference)
    try:
        return hub.fetch(repository, [PROCESSOR], revision=folder.name, reference=reference)
    except DeitkitError:  # not there, or not at hand: `known_of_transformers` says what it supposes
        return None


def _timm_config(folder: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """timm's reading of a folder's config.json: the weights' description, the architecture and its arguments."""
    try:
        return load_model_config_from_path(folder)  # type: ignore[no-any-return]
    except REFUSALS as error:
        raise _damaged_config(folder, error) from error


def _damaged_config(folder: Path, error: Exception) -> DeitkitError:
    what = f"{folder}/config.json is damaged: {type(error).__name__}: {error}"
    return DeitkitError(what, value=str(folder), remedy="copy it again")


def _weights_of_folder(folder: Path, reference: str) -> Weights:
    known = _known_of_folder(folder, reference)
    if read_info(read_config(folder)) is not None:
        return Weights(known, read_weights(folder / "model.safetensors"))
    found = [folder / name for name in hub.WEIGHTS if (folder / name).is_file()]
    found += [path for ending in (".safetensors", ".pth", ".bin") for path in sorted(folder.glob(f"*{ending}"))]
    if not found:
        raise DeitkitError(f"{folder} holds no weights", value=reference, remedy=f"copy its {hub.WEIGHTS[0]} there")
    if is_transformers(read_config(folder)):
        return Weights(known, read_weights(found[0]))
    # Read here, where no pickle of code is executed, as timm 1.0.20 to 1.0.24 does.
    pretrained, architecture, arguments = _timm_config(folder)
    described = {key: value for key, value in pretrained.items() if key not in ("source", "file")}
    described["state_dict"] = read_weights(found[0])
    return Weights(known, _timm_state(reference, architecture, pretrained_cfg=described, **arguments))


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
        is_pickle = path.suffix in (".bin", ".pth", ".pt")
        source = {"state_dict": read_weights(path)} if is_pickle else {"file": str(path)}
        return _timm_state(reference, name, pretrained_cfg_overlay=source)
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
