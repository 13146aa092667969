"""ONNX files that deitkit exported, read back: what they say of themselves, their tensors, and their answers.

An `ExportedStudent` answers by onnxruntime with the file's own graph. `open_exported` gives its tensors under timm's
names, so that what looks inside a model can rebuild it. `deitkit.models.export.onnx` writes such files.
Legend: B batch, K classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deitkit.errors import DeitkitError
from deitkit.models.description import Known, known_of_own
from deitkit.models.folder import parse_config
from deitkit.models.onnx_session import Sessions, require_onnx
from deitkit.models.student import Heads, Student
from deitkit.models.weight_files import ABOUT

IMAGES = "images"  # [B, 3, H, W] float32, normalised: what the network takes, behind pre-processing in the graph
OUTPUTS = {"class": "class_logits", "distillation": "distillation_logits", "fused": "probabilities"}
# Metadata: timm's name of a tensor -> the graph's, with TRANSPOSED behind it where it is; or [number, shape].
TENSORS = "deitkit.tensors"
TRANSPOSED = "^T"


@dataclass(frozen=True)
class Exported:
    """The file at `path` in memory: the whole `proto`, which is onnx's, and what is known of the model."""

    path: Path
    proto: Any
    known: Known

    @property
    def metadata(self) -> dict[str, str]:
        return {entry.key: entry.value for entry in self.proto.metadata_props}


def read_exported(path: Path) -> Exported:
    """An ONNX file of deitkit's.

    Raises:
        DeitkitError: it is damaged, or onnx is not installed.
    """
    onnx, _ = require_onnx(path)
    try:
        proto = onnx.load(path)
    except Exception as error:  # protobuf's errors are no others'
        raise _damaged(path, error) from error
    about = {entry.key: entry.value for entry in proto.metadata_props}.get(ABOUT)
    if about is None:
        raise _damaged(path, f"its metadata have no {ABOUT!r}")
    return Exported(path, proto, known_of_own(parse_config(about, str(path)), str(path)))


def _damaged(path: Path, reason: object) -> DeitkitError:
    return DeitkitError(f"{path} is damaged: {reason}", value=str(path), remedy="copy it again, or export it anew")


def tensors_of(exported: Exported) -> dict[str, Tensor]:
    """The network's state dict under timm's names, in float32.

    Raises:
        DeitkitError: the file keeps no whole weights, as one of 8 bits does not.
    """
    onnx, _ = require_onnx(exported.path)
    names = exported.metadata.get(TENSORS)
    if names is None:
        why = "keeps its weights in 8 bits" if exported.metadata.get("precision") == '"int8"' else "has merged weights"
        raise DeitkitError(
            f"{exported.path} {why}: it answers, but cannot be looked into or trained further",
            value=str(exported.path),
            remedy="name the run that it was exported from, or export it anew: --to safetensors",
        )
    inside = {tensor.name: tensor for tensor in exported.proto.graph.initializer}
    state: dict[str, Tensor] = {}
    try:
        for ours, theirs in json.loads(names).items():
            if not isinstance(theirs, str):
                number, shape = theirs
                state[ours] = torch.full(shape, number)
                continue
            array = onnx.numpy_helper.to_array(inside[theirs.removesuffix(TRANSPOSED)])
            array = array.T if theirs.endswith(TRANSPOSED) else array
            state[ours] = torch.from_numpy(np.array(array, order="C"))
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise _damaged(exported.path, error) from error
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


class ExportedStudent(Student):
    """images [B, 3, H, W] -> Heads, by the file's own graph; what the graph does before `images` is left out, because
    deitkit makes its views itself. `weights` counts the graph's numbers."""

    def __init__(self, exported: Exported) -> None:
        self._heads = tuple(name for name in ("class", "distillation") if OUTPUTS[name] in _output_names(exported))
        network = nn.Module()
        network.pretrained_cfg = {"fixed_input_size": True}  # type: ignore[assignment]  # timm's words
        with open(exported.path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        known = exported.known
        super().__init__(network, known.architecture or "", {**known.arguments, "content": content})
        self.classes = len(known.class_names or ())
        self.weights = sum(math.prod(tensor.dims) for tensor in exported.proto.graph.initializer)
        self.sessions = Sessions(exported.path, _behind_preprocessing(exported))

    @property
    def distilled(self) -> bool:
        return "distillation" in self._heads

    @property
    def num_classes(self) -> int:
        return self.classes

    def forward(self, images: Tensor) -> Heads:
        """images [B, 3, H, W] -> Heads, each [B, K], on the images' device.

        Raises:
            DeitkitError: onnxruntime refuses the images.
        """
        session = self.sessions.on(images.device)
        try:
            found = session.run(
                [OUTPUTS[head] for head in self._heads], {IMAGES: images.float().contiguous().cpu().numpy()}
            )
        except Exception as error:  # onnxruntime's errors share no class
            raise DeitkitError(
                f"{self.sessions.path} cannot run on {tuple(images.shape)}: {error}",
                value=str(self.sessions.path),
                remedy="copy it again, or export it anew",
            ) from error
        logits = [torch.from_numpy(array).to(images.device) for array in found]
        return Heads(logits[0], logits[1] if self.distilled else None)


def _output_names(exported: Exported) -> set[str]:
    return {output.name for output in exported.proto.graph.output}


def _behind_preprocessing(exported: Exported) -> bytes | None:
    """The part of the graph that takes `images`; None where that is all of it."""
    if exported.proto.graph.input[0].name == IMAGES:
        return None
    from onnx.utils import Extractor

    outputs = [output.name for output in exported.proto.graph.output]
    part: bytes = Extractor(exported.proto).extract_model([IMAGES], outputs).SerializeToString()
    return part
