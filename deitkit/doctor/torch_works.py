"""What torch can do here: its devices, bfloat16, torch.compile. Each is tried, because versions alone do not tell."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from deitkit.doctor.finding import Finding, ok, problem, warning

if TYPE_CHECKING:
    import torch

DRIVER = Path("/proc/driver/nvidia/version")
MATCHING = "install the torch that fits the driver: https://pytorch.org/get-started/locally"
GIB = 2**30


def torch_itself() -> Finding:
    """torch and torchvision can be imported."""
    try:
        import torch
        import torchvision
    except (ImportError, OSError) as error:
        return problem(f"torch cannot be imported: {error}", "pip install --force-reinstall torch torchvision")
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    threads = f"{torch.get_num_threads()} thread(s)"
    return ok(f"{torch.__version__} (built for {built}), torchvision {torchvision.__version__}, {threads}")


def devices() -> Finding:
    """Every device multiplies; a driver without a device that torch sees is a problem."""
    import torch

    driver = _driver()
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        broken = [words for index in range(len(names)) if (words := _broken(torch.device("cuda", index)))]
        found = ", ".join(f"{each.name} of {each.total_memory / GIB:.0f} GiB" for each in names) + driver
        return problem(f"{found}: {broken[0]}", MATCHING) if broken else ok(found)
    if torch.backends.mps.is_available():
        broken_mps = _broken(torch.device("mps"))
        return problem(f"mps: {broken_mps}", MATCHING) if broken_mps else ok("mps")
    if driver:
        return problem(f"torch sees no GPU{driver}", MATCHING)
    return warning("the processor alone", "small models and images train on it; others want a GPU")


def _driver() -> str:
    """`, driver 550.54`, where NVIDIA's is loaded."""
    found = re.search(r"Kernel Module.*?(\d+\.[\d.]+)", DRIVER.read_text()) if DRIVER.is_file() else None
    return f", driver {found[1]}" if found else ""


def _broken(device: torch.device) -> str:
    """Why a device cannot multiply, or nothing."""
    import torch

    try:
        found = (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "" if found == 512 else f"{device} multiplies wrongly"


def bf16() -> Finding:
    """Whether `train.precision = "bf16"`, the default, has hardware; elsewhere runs are in fp32."""
    import torch

    if not torch.cuda.is_available():
        return ok("runs are in fp32 on this device")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return ok("yes")
    return warning("this GPU has no bfloat16 of its own", "--set train.precision=fp32")


def compiling() -> Finding:
    """torch.compile makes a small function run, with the compiler that it finds."""
    import torch

    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # says where it looks for CUDA
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compiled = torch.compile(lambda values: torch.nn.functional.gelu(values * 2 + 1))
    values = torch.linspace(-1, 1, 8, device=device)
    try:
        found = compiled(values)
    except Exception as error:  # a missing compiler, header or Triton: each its own kind
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return warning(f"torch.compile fails: {lines[0]}", "install a C++ compiler (g++), on a GPU Triton as well")
    if not torch.allclose(found, torch.nn.functional.gelu(values * 2 + 1), atol=1e-6):
        return warning("torch.compile gives other numbers", "install another version of torch")
    return ok(f"torch.compile works ({device})")
