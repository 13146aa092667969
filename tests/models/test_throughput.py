"""Images per second and memory, measured on networks whose speed and memory are known beforehand."""

from __future__ import annotations

import gc
import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deitkit.distributed import is_out_of_memory
from deitkit.errors import DeitkitError
from deitkit.models.throughput import Candidate, Protocol, device_name, measure_speed, peak_rise

CPU = torch.device("cpu")
MIB = 2**20
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Sleeps(nn.Module):
    """Takes so many seconds an image, and notes each pass: its name and number of images."""

    def __init__(self, seconds: float = 0.0, *, name: str = "", passes: list[tuple[str, int]] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.seconds, self.name = seconds, name
        self.passes = [] if passes is None else passes

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.seconds * len(images))
        self.passes.append((self.name, len(images)))
        return images.new_zeros(len(images), 2)


class Holds(nn.Module):
    """Needs so many bytes at once, in so many parts, beside weights of so many bytes."""

    def __init__(self, held: float, *, parts: int = 1, weights: float = 4.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(int(weights) // 4))
        self.held, self.parts = int(held), parts

    def forward(self, images: Tensor) -> Tensor:
        kept = [torch.ones(self.held // 4 // self.parts, device=images.device) for _ in range(self.parts)]
        return images.mean(dim=(1, 2, 3)) + sum(part[0] for part in kept) + self.weight[0]


class Lacks(Sleeps):
    """Refuses more than `most` images, as a full device would."""

    def __init__(self, most: int, error: Exception) -> None:
        super().__init__()
        self.most, self.error = most, error

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.most:
            raise self.error
        return super().forward(images)


class Notes(nn.Module):
    """Notes how its linear layer is run."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.seen: set[tuple[Any, ...]] = set()

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.linear(images.mean(dim=(2, 3)))
        self.seen.add((answers.dtype, torch.is_inference_mode_enabled(), self.training))
        return answers


def candidate(network: nn.Module, **more: Any) -> Candidate:
    return Candidate(**{"name": "model", "network": network, "size": (4, 4)} | more)


def measured(network: nn.Module, **protocol: Any) -> Any:
    (speed,) = measure_speed([candidate(network)], Protocol(CPU, **protocol), say=lambda text: None)
    return speed


# Speed


def test_images_per_second_are_those_of_a_network_that_takes_a_known_time() -> None:
    speed = measured(Sleeps(1 / 500), batch_size=8, seconds=0.4)
    assert speed.images_per_s == pytest.approx(500, rel=0.15)
    assert speed.low <= speed.images_per_s <= speed.high
    assert (speed.blocks, speed.batch_size) == (10, 8)


def test_a_slow_moment_hits_all_because_models_take_turns() -> None:
    passes: list[tuple[str, int]] = []
    networks = [Sleeps(0.002, name=name, passes=passes) for name in "abc"]
    measure_speed([candidate(each) for each in networks], Protocol(CPU, 1, seconds=0.2), say=lambda text: None)
    blocks = "".join(name for name, _ in itertools.groupby(name for name, _ in passes))
    assert blocks[-30:] == ("abcbcacab") * 3 + "abc", "ten blocks each, another one first in each turn"


def test_the_time_asked_for_bounds_fast_and_slow_models() -> None:
    network = Sleeps(0.001)
    began = time.perf_counter()
    fast = measured(network, batch_size=1, seconds=0.3)
    assert time.perf_counter() - began < 30  # a bound for a hang: other tests run beside it
    assert sum(count for _, count in network.passes) > 10
    assert 3 <= fast.blocks <= 10
    slow = Sleeps(0.2)
    assert measured(slow, batch_size=1, seconds=0.3).blocks == 3
    assert len(slow.passes) < 9


def test_a_batch_suits_the_model_where_none_is_named() -> None:
    assert measured(Sleeps(), seconds=0.1).batch_size == 32
    assert measured(Sleeps(0.006), seconds=0.24).batch_size in (1, 2, 4)  # a pass of at most 40 ms
    assert measured(Sleeps(0.06), seconds=0.24).batch_size == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:125] DefaultCPUAllocator: can't allocate memory"),
        DeitkitError("teacher t.py:f fails: OutOfMemoryError: CUDA out of memory."),
        MemoryError(),
    ],
)
def test_a_batch_that_does_not_fit_is_halved_with_a_word(error: Exception) -> None:
    said: list[str] = []
    (speed,) = measure_speed([candidate(Lacks(10, error))], Protocol(CPU, seconds=0.05), say=said.append)
    assert speed.batch_size == 8
    assert [text for text in said if "fit" in text] == [
        "model: 32 images of 4x4 px do not fit into memory: trying 16",
        "model: 16 images of 4x4 px do not fit into memory: trying 8",
    ]


@pytest.mark.parametrize(
    ("most", "batch_size", "remedy"), [(10, 16, "--batch-size 8"), (0, None, "--device cpu"), (0, 1, "--no-speed")]
)
def test_a_batch_that_was_named_and_does_not_fit_is_an_error(most: int, batch_size: int | None, remedy: str) -> None:
    with pytest.raises(DeitkitError, match="do not fit into the memory of CPU") as caught:
        measured(Lacks(most, torch.OutOfMemoryError("out of memory")), batch_size=batch_size, seconds=0.05)
    assert remedy in caught.value.remedy


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        measured(Lacks(0, RuntimeError("shapes")), seconds=0.05)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_model_is_run_as_it_will_be_used(precision: str, dtype: torch.dtype) -> None:
    network = Notes().train()
    measured(network, precision=precision, seconds=0.05)
    assert network.seen == {(dtype, True, False)}  # no gradients, and in evaluation mode


def test_pixels_are_the_same_noise_each_time_and_as_the_model_takes_them() -> None:
    images = candidate(Sleeps(), size=(4, 6)).images(8, CPU)
    assert images.shape == (8, 3, 4, 6) and images.dtype == torch.float32
    assert torch.equal(images, candidate(Sleeps(), size=(4, 6)).images(8, CPU))
    grey = candidate(Sleeps(), channels=1, integer=True).images(50, CPU)
    assert grey.shape == (50, 1, 4, 4) and grey.dtype == torch.uint8 and int(grey.max()) > 200


def test_what_the_numbers_depend_on_is_told() -> None:
    told = Protocol(CPU, 4, seconds=0.5).conditions()
    assert told["device"] == device_name(CPU) and told["device"].startswith("CPU, ")
    assert (told["threads"], told["torch"]) == (torch.get_num_threads(), torch.__version__)
    assert (told["precision"], told["batch_size"], told["seconds_a_model"]) == ("fp32", 4, 0.5)
    assert "resident memory" in told["memory"]


# Memory


@pytest.mark.parametrize("parts", [1, 20, 400])
def test_memory_is_that_of_a_layer_that_holds_200_megabytes(parts: int) -> None:
    network, images = Holds(200e6, parts=parts), torch.ones(1, 3, 4, 4)
    rises = [peak_rise(lambda: network(images), CPU) for _ in range(3)]
    if rises[0] is None:
        pytest.skip("this system does not tell a process its peak of memory")
    # The first holds what torch needs for itself; what was freed must be seen again.
    assert rises[1:] == pytest.approx([200e6 / MIB] * 2, rel=0.03)


def test_memory_of_a_model_is_its_weights_and_what_a_pass_needs_more() -> None:
    speed = measured(Holds(100e6, weights=40e6), batch_size=2, seconds=0.1)
    if speed.memory_mb is None:
        pytest.skip("this system does not tell a process its peak of memory")
    assert speed.memory_mb == pytest.approx(140e6 / MIB, rel=0.05)
    assert measured(Holds(4.0), seconds=0.05).memory_mb < 4


def test_an_earlier_peak_does_not_count() -> None:
    Holds(300e6)(torch.ones(1, 3, 4, 4))
    gc.collect()
    rise = peak_rise(lambda: None, CPU)
    assert rise is None or rise < 4


def test_what_cannot_be_measured_is_none_and_speed_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, text: str) -> int:
        raise PermissionError(f"{path}: {text}")

    assert measured(nn.Identity(), seconds=0.05).memory_mb is None  # its weights, if any, are not torch's
    monkeypatch.setattr(Path, "write_text", refuse)
    speed = measured(Holds(1e6), seconds=0.05)
    assert speed.memory_mb is None and speed.images_per_s > 0
    assert peak_rise(lambda: None, torch.device("mps")) is None


# On a GPU


@needs_cuda
def test_memory_on_a_gpu_is_that_of_a_layer_that_holds_200_megabytes() -> None:
    device = torch.device("cuda", 0)
    network, images = Holds(200e6).to(device), torch.ones(1, 3, 4, 4, device=device)
    assert peak_rise(lambda: network(images), device) == pytest.approx(200e6 / MIB, rel=0.02)
    (speed,) = measure_speed(
        [candidate(Holds(100e6, weights=40e6))], Protocol(device, 2, seconds=0.1), say=lambda text: None
    )
    assert speed.memory_mb == pytest.approx(140e6 / MIB, rel=0.02)


@needs_cuda
def test_a_gpu_is_waited_for_and_left_empty() -> None:
    device = torch.device("cuda", 0)
    network = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(200)))
    before = torch.cuda.memory_allocated(device)
    for precision in ("fp32", "fp16"):
        (speed,) = measure_speed(
            [candidate(network, size=(224, 224))], Protocol(device, 64, precision, 0.5), say=lambda text: None
        )
        images = candidate(network, size=(224, 224)).images(64, device)
        network.to(device)
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=precision == "fp16"):
            network(images)
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            for _ in range(10):
                network(images)
            last.record()
        torch.cuda.synchronize(device)
        assert speed.images_per_s == pytest.approx(640e3 / first.elapsed_time(last), rel=0.25)
        network.to("cpu")
        del images
    assert torch.cuda.memory_allocated(device) <= before + MIB


@needs_cuda
def test_a_batch_too_large_for_a_gpu_is_halved() -> None:
    device = torch.device("cuda", 0)
    free, _ = torch.cuda.mem_get_info(device)

    class Greedy(Holds):
        def forward(self, images: Tensor) -> Tensor:
            torch.empty(len(images) * (free // 100), dtype=torch.uint8, device=images.device)
            return super().forward(images)

    (speed,) = measure_speed([candidate(Greedy(4.0))], Protocol(device, seconds=0.1), say=lambda text: None)
    assert speed.batch_size == 64
