"""How many images a second a model classifies, and what memory that takes, measured here. Reads no image.

The paper times the largest batch that fits into a GPU, the mean of 30 passes (Table 5). Here models take turns in short
blocks of passes, so that a slow moment of the machine hits all of them, and median and quartiles of the blocks are
told. The pixels are noise that is on the device already: the model alone, with no decoding and no transfer.
Legend: B batch.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from deitkit.distributed import is_out_of_memory
from deitkit.errors import DeitkitError
from deitkit.runs.environment import processor

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MEMORY = {"cuda": "peak of torch's allocator on the device", "cpu": "peak of the process's resident memory"}
BLOCKS, FEWEST_BLOCKS = 10, 3  # of passes, timed: as a rule, and of a model however slow
MOST_TIME = 1.5  # of the seconds, for a model with slow passes
SHARE_OF_A_PASS = 1 / 6  # of the seconds: a pass on a CPU takes no longer, unless one image does
MOST_ON_CPU, MOST_ELSEWHERE = 32, 256  # images in a batch, where none is named
MIB = 2**20


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model to be timed: `network` takes images [B, `channels`, H, W] of `size` (height, width) px.

    `integer`: as uint8, else float32 as they are once normalised.
    """

    name: str
    network: nn.Module
    size: tuple[int, int]
    channels: int = 3
    integer: bool = False

    @property
    def pixels(self) -> str:
        return f"{self.size[0]}x{self.size[1]} px"

    def images(self, count: int, device: torch.device) -> Tensor:
        """Noise [count, channels, H, W], always the same."""
        generator = torch.Generator(device).manual_seed(0)
        shape = (count, self.channels, *self.size)
        if self.integer:
            return torch.randint(0, 256, shape, generator=generator, device=device, dtype=torch.uint8)
        return torch.randn(shape, generator=generator, device=device)


@dataclass(frozen=True)
class Protocol:
    """How models are timed: each for `seconds`, in batches of `batch_size`, by default as many as suit the device.

    That is 256, and half as many again and again where they do not fit; on a CPU 32 or the power of two below of which
    a pass takes at most a sixth of the seconds.
    """

    device: torch.device
    batch_size: int | None = None
    precision: Precision = "fp32"
    seconds: float = 3.0

    def check(self) -> None:
        """Raise unless the device has this precision."""
        lacks = self.device.type == "cuda" and not torch.cuda.is_bf16_supported()
        if self.precision == "bf16" and lacks:
            raise DeitkitError("this GPU has no bfloat16", value="bf16", remedy="--amp fp16, or leave --amp out")

    def conditions(self) -> dict[str, Any]:
        """What the numbers depend on besides the model."""
        return {
            "device": device_name(self.device), "threads": torch.get_num_threads(), "precision": self.precision,
            "matmul_precision": torch.get_float32_matmul_precision(), "torch": str(torch.__version__),
            "seconds_a_model": self.seconds, "batch_size": self.batch_size,
            "memory": MEMORY.get(self.device.type, "not measured on this device"),
        }  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """Images per second: the median of `blocks` blocks of passes over `batch_size` images, `low` and `high` quartiles.

    `memory_mb` MiB: weights, and by how much a pass raises the peak above them; None where that cannot be told.
    """

    images_per_s: float
    low: float
    high: float
    blocks: int
    batch_size: int
    memory_mb: float | None


def measure_speed(candidates: Sequence[Candidate], protocol: Protocol, *, say: Callable[[str], None]) -> list[Speed]:
    """Time the models in turn; each is on the device only while it is its turn. `say` is told what happens.

    Raises:
        DeitkitError: a model does not fit, even with one image or with the batch that was named.
    """
    protocol.check()
    runners = []
    for candidate in candidates:
        runners.append(_ready(candidate, protocol, say))
        ms = 1e3 * runners[-1].pass_s
        say(f"{candidate.name}: {candidate.pixels}, {runners[-1].batch} images in {ms:,.0f} ms")
    say(f"timing {len(runners)} in turn, for about {protocol.seconds * len(runners):,.0f} s")
    for turn in range(BLOCKS):
        for place in range(len(runners)):
            runners[(place + turn) % len(runners)].block(protocol)
    return [runner.speed() for runner in runners]


@dataclass
class _Runner:
    """A model that is being timed: `rates` are the images per second of its blocks so far, which took `spent_s`."""

    candidate: Candidate
    batch: int
    pass_s: float
    memory_mb: float | None
    rates: list[float] = field(default_factory=list)
    spent_s: float = 0.0

    def block(self, protocol: Protocol) -> None:
        """As many passes as a block has room for, or none where the time is up."""
        if len(self.rates) >= FEWEST_BLOCKS and self.spent_s + self.pass_s > MOST_TIME * protocol.seconds:
            return
        passes = max(1, int(protocol.seconds / BLOCKS / self.pass_s))
        with _on(self.candidate.network, protocol.device):
            images = self.candidate.images(self.batch, protocol.device)
            if protocol.device.type != "cpu":  # it has just arrived there
                _timed(self.candidate, images, protocol)
            seconds = _timed(self.candidate, images, protocol, passes=passes)
        self.pass_s = seconds / passes  # the next block is as long as it should be
        self.spent_s += seconds
        self.rates.append(passes * self.batch / seconds)

    def speed(self) -> Speed:
        low, median, high = statistics.quantiles(self.rates, n=4, method="inclusive")
        return Speed(median, low, high, len(self.rates), self.batch, self.memory_mb)


def _ready(candidate: Candidate, protocol: Protocol, say: Callable[[str], None]) -> _Runner:
    """The batch that fits, the time of a pass and its memory, after the passes that warm up."""
    with _on(candidate.network, protocol.device):
        batch, seconds = _fitting(candidate, protocol, say)
        rise = peak_rise(lambda: _timed(candidate, candidate.images(batch, protocol.device), protocol), protocol.device)
    weights = weight_bytes(candidate.network)
    known = rise is not None and weights > 0  # onnxruntime's weights are not torch's to count
    return _Runner(candidate, batch, seconds, weights / MIB + (rise or 0.0) if known else None)


def _fitting(candidate: Candidate, protocol: Protocol, say: Callable[[str], None]) -> tuple[int, float]:
    """Images in a batch, and the seconds of a pass."""
    on_cpu = protocol.device.type == "cpu"
    batch = protocol.batch_size or (MOST_ON_CPU if on_cpu else MOST_ELSEWHERE)
    if on_cpu and protocol.batch_size is None:
        alone = _tried(candidate, 1, protocol)
        while batch > 1 and alone is not None and batch * alone > protocol.seconds * SHARE_OF_A_PASS:
            batch //= 2
    while (seconds := _tried(candidate, batch, protocol)) is None:
        if protocol.batch_size is not None or batch == 1:
            raise DeitkitError(
                f"{candidate.name}: {batch} image{'s' if batch > 1 else ''} of {candidate.pixels} do not fit into "
                f"the memory of {device_name(protocol.device)}",
                value=batch,
                remedy=f"--batch-size {batch // 2}" if batch > 1 else "--device cpu, or --no-speed",
            )
        batch //= 2
        say(f"{candidate.name}: {2 * batch} images of {candidate.pixels} do not fit into memory: trying {batch}")
    return batch, seconds


def _tried(candidate: Candidate, batch: int, protocol: Protocol) -> float | None:
    """Seconds of the best of two passes, after one that chooses kernels; None where memory does not suffice."""
    try:
        images = candidate.images(batch, protocol.device)
        _timed(candidate, images, protocol)
        return min(_timed(candidate, images, protocol) for _ in range(2))
    except Exception as error:  # every library has an error of its own for it
        if not is_out_of_memory(error):
            raise
    if protocol.device.type == "cuda":  # outside of the except clause, which holds what it failed with
        torch.cuda.empty_cache()
    return None


@torch.inference_mode()
def _timed(candidate: Candidate, images: Tensor, protocol: Protocol, *, passes: int = 1) -> float:
    """Seconds of so many passes over images [B, C, H, W], the device's work included."""
    dtype = DTYPES.get(protocol.precision)
    with torch.autocast(protocol.device.type, dtype=dtype, enabled=dtype is not None):
        wait(protocol.device)
        began = time.perf_counter()
        for _ in range(passes):
            candidate.network(images)
        wait(protocol.device)
    return max(time.perf_counter() - began, 1e-9)  # a clock's tick may outlast a pass, and rates divide by this


@contextlib.contextmanager
def _on(network: nn.Module, device: torch.device) -> Iterator[None]:
    """A network on a device in evaluation mode, and off it again, so that its memory is the next one's."""
    network.eval()
    if device.type != "cpu":
        network.to(device)
    try:
        yield
    finally:
        if device.type != "cpu":
            network.to("cpu")


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def weight_bytes(network: nn.Module) -> int:
    """Bytes of the parameters and buffers, each counted once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*network.parameters(), *network.buffers()))


def device_name(device: torch.device) -> str:
    """What the device is called by its maker."""
    if device.type == "cpu":
        return f"CPU, {processor()}"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


# Memory


def peak_rise(call: Callable[[], object], device: torch.device) -> float | None:
    """MiB by which a call raises the peak of memory above what is in use before; None where the system does not tell.

    On CUDA that of torch's allocator. On a CPU that of the process, which Linux alone can be told to forget; what was
    freed before is given back first, so that it is not taken again unseen.
    """
    before = _forget_peak(device)
    if before is None:
        return None
    call()
    after = _peak(device)
    return None if after is None else max(0.0, after - before)


def _forget_peak(device: torch.device) -> float | None:
    """MiB in use, now the peak."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device) / MIB
    if device.type != "cpu" or platform.system() != "Linux":
        return None
    with contextlib.suppress(AttributeError):  # a C library without it keeps what was freed, and the rise is less
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak becomes what is resident now
    except OSError:
        return None
    return _peak(device)


def _peak(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    found = [
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return found[0] / 1024 if found else None
