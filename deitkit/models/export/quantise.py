"""An ONNX graph with 8-bit products, its ranges calibrated on real images (static quantisation, onnxruntime's).

Weights of linear layers and convolutions are signed, a scale a channel; what they multiply is unsigned, which AVX-512
and AVX2 have instructions for. Attention, norms and softmax stay in float32.
"""

from __future__ import annotations

import copy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from deitkit.models.export.quiet import quiet
from deitkit.models.exported import IMAGES

CALIBRATED = 128  # images
BATCH = 8


def quantised(proto: Any, images: Tensor) -> Any:
    """The graph that takes `images` [N, 3, H, W] in float32, in 8 bits."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(torch.split(images, BATCH))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.left, None)
            return None if batch is None else {IMAGES: batch.numpy()}

    with TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            copy.deepcopy(proto), path, Batches(), quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"], extra_options={"MatMulConstBOnly": True},
        )  # fmt: skip
        return onnx.load(path)
