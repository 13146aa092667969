"""A reference -> weights and what is known of them. A run, a model folder, timm:NAME, hf-hub:OWNER/NAME, or a file.

`describe` reads no weights; `open_reference` does. State-dict keys are timm's. Knows no student and no data.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import timm.models
from safetensors import SafetensorError
from timm.models._hub import load_model_config_from_path
from torch import Tensor

from deitkit import hub
from deitkit.errors import DeitkitError, did_you_mean
from deitkit.known import Known, known_of_config, known_of_file
from deitkit.model_folder import find_model, read_config, read_info
from deitkit.positions import guess_grid
from deitkit.weight_files import read_weights, read_weights_file

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
