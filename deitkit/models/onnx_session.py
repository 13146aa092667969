"""Sessions of onnxruntime (`deitkit[onnx]`), with options under which answers repeat. Knows no model of deitkit's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from deitkit.errors import DeitkitError, require

# Fixed: how a sum is cut among threads may change its last bits, and with them a hard label.
THREADS = 4


class Sessions:
    """The sessions of one ONNX model, a file or its bytes, one for each device that asked: on CUDA where onnxruntime
    can, else on the CPU."""

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        """Start the CPU's. `content` stands for the file's own bytes.

        Raises:
            DeitkitError: onnxruntime is not installed, or the file is damaged.
        """
        self.path, self.content = path, content
        self.started = {"cpu": start_session(path, torch.device("cpu"), content)}

    @property
    def cpu(self) -> Any:
        return self.started["cpu"]

    def on(self, device: torch.device) -> Any:
        """The session for a device."""
        key = str(device) if device.type == "cuda" and has_cuda() else "cpu"
        if key not in self.started:
            self.started[key] = start_session(self.path, device, self.content)
        return self.started[key]


def start_session(path: Path, device: torch.device, content: bytes | None = None) -> Any:
    """A session of a file, or of `content` in its place.

    Raises:
        DeitkitError: onnxruntime is not installed, or the file is damaged.
    """
    onnxruntime = require_onnx(path)[1]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # data workers need the cores
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        return onnxruntime.InferenceSession(content or str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's errors share no class
        raise DeitkitError(
            f"{path} is no ONNX model that onnxruntime {onnxruntime.__version__} can load: {error}",
            value=str(path),
            remedy="copy it again, with the .data file beside it where there is one; or export it anew",
        ) from error


def require_onnx(path: Path) -> tuple[Any, Any]:
    """(onnx, onnxruntime).

    Raises:
        DeitkitError: one of them is not installed.
    """
    require(str(path), "onnx", "onnxruntime", extra="onnx")
    import onnx
    import onnxruntime

    return onnx, onnxruntime


def has_cuda() -> bool:
    """Whether this onnxruntime runs on CUDA."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()
