"""Teachers in ONNX files: whatever TensorFlow, JAX or scikit-learn trained. Run by onnxruntime (`deitkit[onnx]`).

Taken are images [B, 3, H, W] or [B, H, W, 3], of one channel, or flat [B, 3HW] in the order of [H, W, 3]; floating
point or uint8; a batch of any size or of one. What it says of itself may stand in its metadata, each value as JSON:
class_names, mean, std, image_size, channels, input, scores.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deitkit.errors import DeitkitError, one_of
from deitkit.models.onnx_session import Sessions, has_cuda
from deitkit.recipe import schema
from deitkit.teachers.classifier import Raw
from deitkit.teachers.facts import Said, digest, pair, read_said, shown

Layout = Literal["NCHW", "NHWC", "flat"]
DTYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}  # fmt: skip


@dataclass(frozen=True)
class Port:
    """The input: its name, where the channels are, the size (height, width) px and the batch, None for any."""

    name: str
    layout: Layout
    channels: int
    size: tuple[int, int] | None
    batch: int | None
    dtype: Any


class OnnxNetwork(nn.Module):
    """images [B, C, H, W], adapted -> scores [B, K], on the images' device. A fixed batch is filled up with zeros."""

    def __init__(self, sessions: Sessions, port: Port, output: str) -> None:
        super().__init__()
        self.sessions, self.port, self.output = sessions, port, output

    def forward(self, images: Tensor) -> Tensor:
        """Scores [B, K].

        Raises:
            DeitkitError: onnxruntime refuses the images.
        """
        session = self.sessions.on(images.device)
        if self.port.layout != "NCHW":
            images = images.permute(0, 2, 3, 1)
        if self.port.layout == "flat":
            images = images.flatten(1)
        array = images.contiguous().cpu().numpy().astype(self.port.dtype, copy=False)
        step = self.port.batch or max(1, len(array))
        try:
            parts = [self._run(session, array[start : start + step]) for start in range(0, len(array), step)]
        except Exception as error:  # onnxruntime's errors share no class
            raise DeitkitError(
                f"teacher {self.sessions.path} cannot run on {array.shape} of {array.dtype}: {error}",
                value=str(self.sessions.path),
                remedy="export it anew, or set teacher.image_size",
            ) from error
        return torch.from_numpy(np.concatenate(parts)).to(images.device)

    def _run(self, session: Any, array: NDArray[Any]) -> NDArray[Any]:
        count = len(array)
        if self.port.batch is not None and count < self.port.batch:
            missing = np.zeros((self.port.batch - count, *array.shape[1:]), array.dtype)
            array = np.concatenate([array, missing])
        (scores,) = session.run([self.output], {self.port.name: array})
        return np.asarray(scores)[:count].reshape(count, -1)


def open_onnx(reference: str, spec: schema.TeacherTable, *, size: tuple[int, int] | None) -> Raw:
    """An ONNX file as a classifier.

    Raises:
        DeitkitError: it is missing or damaged, has no image input, or several outputs and none is chosen.
    """
    path = Path(reference)
    if not path.is_file():
        raise DeitkitError(f"teacher {reference} does not exist", value=reference, remedy="mend the path")
    sessions = Sessions(path)
    session = sessions.cpu
    metadata = read_metadata(session.get_modelmeta().custom_metadata_map, reference)
    port = read_port(session.get_inputs(), reference, flat_size=metadata.size or pair(spec.image_size))
    output = choose_output(session.get_outputs(), spec.output, reference)
    parameters, content = _read_graph(path)
    notes = [f"of its outputs {output!r} is taken"] if len(session.get_outputs()) > 1 else []
    if port.layout == "flat":
        notes.append(f"it takes flat pixels: {shown(port.size)} px in the order of rows, columns, channels")
    if torch.cuda.is_available() and not has_cuda():
        notes.append("this onnxruntime knows no CUDA: the teacher runs on the CPU (pip install onnxruntime-gpu)")
    return Raw(
        network=OnnxNetwork(sessions, port, output),
        said=metadata if port.size is None else metadata.model_copy(update={"image_size": port.size}),
        identity=digest({"content": content, "output": output}),
        parameters=parameters,
        fixed=port.size is not None,
        integer=port.dtype is np.uint8,
        grey=port.channels == 1,
        notes=tuple(notes),
    )


def read_metadata(values: dict[str, str], reference: str) -> Said:
    """What the file's metadata say, each value as JSON; plain text counts as text."""
    found = {}
    for key in Said.model_fields:
        if key in values:
            try:
                found[key] = json.loads(values[key])
            except ValueError:
                found[key] = values[key]
    return read_said(found, reference=reference)


def read_port(inputs: list[Any], reference: str, *, flat_size: tuple[int, int] | None) -> Port:
    """The image input, by its shape: entries are numbers, or names where any number fits.

    Raises:
        DeitkitError: there are several, or it takes no images.
    """
    described = [f"{one.name}: {one.type} {one.shape}" for one in inputs]
    if len(inputs) != 1 or inputs[0].type not in DTYPES:
        raise _no_images(reference, described)
    shape = [length if isinstance(length, int) and length > 0 else None for length in inputs[0].shape]
    name, dtype = inputs[0].name, DTYPES[inputs[0].type]
    if len(shape) == 2 and shape[1]:
        channels, pixels = _unflattened(shape[1], flat_size, reference)
        return Port(name, "flat", channels, pixels, shape[0], dtype)
    if len(shape) != 4:
        raise _no_images(reference, described)
    for channels in (3, 1):
        for layout, place in (("NCHW", 1), ("NHWC", 3)):
            if shape[place] == channels:
                height, width = shape[2:4] if layout == "NCHW" else shape[1:3]
                size = (height, width) if height and width else None
                return Port(name, "NCHW" if place == 1 else "NHWC", channels, size, shape[0], dtype)
    raise _no_images(reference, described)


def _unflattened(features: int, size: tuple[int, int] | None, reference: str) -> tuple[int, tuple[int, int]]:
    """(channels, size) of flat pixels: of the size that is known, else of a square."""
    for channels in (3, 1):
        side = math.isqrt(features // channels)
        pixels = size or (side, side)
        if channels * pixels[0] * pixels[1] == features:
            return channels, pixels
    raise DeitkitError(
        f"teacher {reference} takes {features:,} numbers an image: not three colours or grey of {shown(size)} px",
        value=reference,
        remedy="teacher.image_size = [HEIGHT, WIDTH] says how they are pixels",
    )


def _no_images(reference: str, described: list[str]) -> DeitkitError:
    return DeitkitError(
        f"teacher {reference} has no input that takes images",
        value=reference,
        problems=[f"input {one}" for one in described],
        remedy="export it with one input [B, 3, H, W] or [B, H, W, 3], floating point or uint8, its 3 written out",
    )


def choose_output(outputs: list[Any], wanted: str | None, reference: str) -> str:
    """The name of the output that holds the scores: the recipe's, or the only one that can.

    Raises:
        DeitkitError: no such output, or several could be it.
    """
    names = [str(one.name) for one in outputs]
    described = [f"output {one.name}: {one.type} {one.shape}" for one in outputs]
    if wanted is not None:
        return one_of(wanted, names, what=f"output (teacher.output) of teacher {reference}")
    scores = [one.name for one in outputs if _can_be_scores(one)]
    if len(scores) == 1:
        return str(scores[0])
    raise DeitkitError(
        f"teacher {reference} has {len(scores)} outputs that could be its scores",
        value=reference,
        choices=names,
        problems=described,
        remedy=f"--set teacher.output={scores[0]}"
        if scores
        else "export it with scores [B, K] as a tensor (scikit-learn: options={'zipmap': False})",
    )


def _can_be_scores(output: Any) -> bool:
    """Floating point, [B, K]; a trailing 1x1 does no harm."""
    floating = output.type in ("tensor(float)", "tensor(double)", "tensor(float16)")
    shape = output.shape or []
    return floating and (len(shape) == 2 or (len(shape) == 4 and list(shape[2:]) == [1, 1]))


def _read_graph(path: Path) -> tuple[int, str]:
    """(number of weights, sha256 over the file and the weights that it keeps in others)."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    outside = {entry.value for tensor in graph.initializer for entry in tensor.external_data if entry.key == "location"}
    hashed = hashlib.sha256()
    for file in (path, *(path.parent / name for name in sorted(outside))):
        with file.open("rb") as content:
            hashed.update(hashlib.file_digest(content, "sha256").digest())
    return sum(math.prod(tensor.dims) for tensor in graph.initializer), hashed.hexdigest()
