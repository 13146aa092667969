"""Python, the packages that deitkit needs, and the shell's completion. Imports none of the packages."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from deitkit.doctor.finding import Finding, ok, problem, warning
from deitkit.version import __version__

NAMED = ("torch", "torchvision", "timm", "numpy", "pillow", "fiftyone")  # of the packages, those whose version is told
INSTALL = "make setup, or pip install -c constraints.txt -e . in deitkit's folder"


def python() -> Finding:
    """The interpreter and the environment that it runs in."""
    found = f"{platform.python_version()} in {sys.prefix}"
    if sys.prefix == sys.base_prefix and "CONDA_PREFIX" not in os.environ:
        return warning(f"{found}, which is no virtual environment", "python3 -m venv .venv, and install deitkit there")
    return ok(found)


def packages() -> Finding:
    """Every package that deitkit requires, at a version that it works with."""
    try:
        required = metadata.requires("deitkit") or []
    except metadata.PackageNotFoundError:
        return warning(f"deitkit {__version__} runs from its folder and is not installed", INSTALL)
    wrong = [words for line in required if (words := _unmet(line))]
    if wrong:
        return problem("; ".join(wrong), INSTALL)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in NAMED)
    return ok(f"deitkit {__version__}, {versions}")


def _unmet(line: str) -> str:
    """What is wrong with one requirement, or nothing; one of an extra is not asked for."""
    from packaging.requirements import Requirement

    requirement = Requirement(line)
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return ""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is not installed"
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version} is not {requirement.specifier}"


def completion() -> Finding:
    """Whether the shell completes deitkit's verbs: `--install-completion` has been run for it."""
    shell = Path(os.environ.get("SHELL", "")).name
    script = _script_of(shell)
    if script is None:
        return ok(f"not told for {shell or 'an unknown shell'}: `deitkit --show-completion` prints its script")
    if not script.is_file():
        return warning(f"not installed for {shell}", "deitkit --install-completion, then open a new terminal")
    if shutil.which("deitkit") is None:
        return warning(f"{script}, but deitkit is not on the PATH", f". {Path(sys.prefix, 'bin', 'activate')}")
    return ok(str(script))


def _script_of(shell: str) -> Path | None:
    """Where typer puts a shell's script; None for a shell that it is not known of."""
    places = {
        "bash": ".bash_completions/deitkit.sh",
        "zsh": ".zfunc/_deitkit",
        "fish": ".config/fish/completions/deitkit.fish",
    }
    return Path.home() / places[shell] if shell in places else None
