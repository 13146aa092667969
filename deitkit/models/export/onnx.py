"""A model as an ONNX file: images [B, 3, H, W], any B -> logits of each head [B, K] and fused probabilities [B, K].

Class names, pre-processing and what rebuilds the model stand in its metadata, each value as JSON. With pre-processing
in the graph its input is uint8 pixels [B, h, w, 3] of any size. `deitkit.models.exported` reads such files.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deitkit.errors import DeitkitError
from deitkit.models.export.answers import Answers
from deitkit.models.export.preprocess import with_preprocessing
from deitkit.models.export.quantise import quantised
from deitkit.models.export.quiet import quiet
from deitkit.models.export.wanted import Wanted
from deitkit.models.exported import IMAGES, TENSORS, TRANSPOSED, ExportedStudent, read_exported
from deitkit.models.folder import config_of
from deitkit.models.load import LoadedModel, ModelInfo
from deitkit.models.student import Heads, Student
from deitkit.models.weight_files import ABOUT
from deitkit.version import __version__

LARGEST = 2**31 - 1  # bytes of a protobuf message


def write(model: LoadedModel, path: Path, wanted: Wanted, *, calibration: Tensor | None = None) -> None:
    """Write the file; for one of 8 bits `calibration` are images [N, 3, H, W] as the model takes them.

    Raises:
        DeitkitError: the opset is unknown to the exporter, or the model is too large for one file.
    """
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if wanted.opset > newest:
        what = f"onnx {onnx.__version__} knows no opset {wanted.opset}"
        raise DeitkitError(what, value=wanted.opset, remedy=f"--opset {newest}, or `pip install -U onnx`")
    proto = _graph(model, wanted, calibration)
    if proto.ByteSize() > LARGEST:
        what = f"{proto.ByteSize():,} bytes are more than one ONNX file holds"
        raise DeitkitError(what, remedy="--precision fp16, or --to safetensors")
    onnx.save(proto, path)


def answer(path: Path, images: Tensor) -> Heads:
    """What onnxruntime makes of the file: images [B, 3, H, W] -> Heads."""
    return ExportedStudent(read_exported(path))(images)  # type: ignore[no-any-return]


def _graph(model: LoadedModel, wanted: Wanted, calibration: Tensor | None) -> Any:
    """The whole model as protobuf."""
    import onnx

    answers = Answers(model, half=wanted.precision == "fp16")
    proto = _traced(answers, wanted, model.info.size)
    if calibration is not None:
        proto = quantised(proto, calibration)
    if wanted.preprocess:
        proto = with_preprocessing(proto, model.info)
    metadata = about(model.info, wanted) | {ABOUT: config_of(model.student, model.info)}
    if names := tensor_names(proto, answers.student):
        metadata[TENSORS] = names
    proto.producer_name, proto.producer_version = "deitkit", __version__
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in metadata.items()})
    return proto


def _traced(answers: Answers, wanted: Wanted, size: tuple[int, int]) -> Any:
    """The network's graph, by torch's exporter."""
    with quiet():
        program = torch.onnx.export(
            answers.eval(), (torch.zeros(2, 3, *size),), dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},), input_names=[IMAGES], output_names=answers.names,
            opset_version=wanted.opset, verbose=False,
        )  # fmt: skip
    if program is None:
        raise TypeError("torch.onnx.export gave no program")
    return program.model_proto


def about(info: ModelInfo, wanted: Wanted) -> dict[str, Any]:
    """What a reader must know to use the file, in words that need no deitkit."""
    shown = {
        "resize_short_side": [int(side / info.crop_ratio) for side in info.size], "crop": "centre",
        "image_size": list(info.size), "interpolation": info.interpolation, "antialias": True,
        "exif_orientation": info.exif_orientation, "channels": "rgb", "input": "0..1", "mean": info.mean,
        "std": info.std, "inside_the_graph": wanted.preprocess,
    }  # fmt: skip
    taken: dict[str, Any] = {"input": "0..255"}  # uint8, before anything is done to it
    if not wanted.preprocess:
        taken = {"input": "0..1", "mean": info.mean, "std": info.std, "image_size": list(info.size)}
    return {
        "class_names": info.class_names, "channels": "rgb", **taken, "preprocessing": shown,
        "precision": wanted.precision,
    }  # fmt: skip


def tensor_names(proto: Any, student: Student) -> dict[str, str | list[Any]]:
    """timm's name of each tensor -> the graph's, found by content, or [number, shape] of one that is all one number,
    as biases at their start: the exporter may leave it out. Empty where one is not in the graph as it was."""
    import onnx

    places: dict[tuple[Any, ...], str] = {}
    for tensor in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.ndim == 2:
            places[_content(array.T)] = tensor.name + TRANSPOSED
        places[_content(array)] = tensor.name
    found: dict[str, str | list[Any]] = {}
    for key, value in student.network.state_dict().items():
        name = places.get(_content(value.detach().cpu().numpy()))
        if name is not None:
            found[key] = name
        elif value.numel() and bool((value == value.flatten()[0]).all()):
            found[key] = [value.flatten()[0].item(), list(value.shape)]
        else:
            return {}
    return found


def _content(array: Any) -> tuple[Any, ...]:
    """What equal tensors have in common."""
    return array.shape, str(array.dtype), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
