"""`deitkit doctor`: what is wrong with a machine is told with its remedy, whatever else is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from deitkit.cli.app import run
from deitkit.doctor import checks, machine, places, software, torch_works
from deitkit.doctor.finding import Finding, ok, problem, warning

ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")
Statvfs = namedtuple("Statvfs", "f_bavail f_frsize")


def test_what_needs_no_torch_is_told_before_torch_is_imported() -> None:
    code = """
import sys
from deitkit.doctor.checks import examine
for name, finding in examine():
    if name == "torch":
        break
    assert not {"torch", "timm", "fiftyone"} & sys.modules.keys(), name
    print(name, finding.state)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == list(checks.CHECKS).index("torch")
    assert "cannot be looked at" not in done.stdout


@pytest.mark.parametrize(("state", "code"), [(ok, 0), (warning, 0), (problem, 2)])
def test_only_a_problem_is_exit_code_2(
    state: object, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = ok("fine") if state is ok else Finding(state.__name__, "so it is", "do this")  # type: ignore[attr-defined]
    monkeypatch.setattr(checks, "CHECKS", {"one": lambda: ok("fine"), "two": lambda: found})
    assert run(["doctor"]) == code
    shown = capsys.readouterr().out
    assert all(words in shown for words in (found.state, found.found, found.remedy))
    assert run(["doctor", "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is (code == 0)
    assert told["checks"]["two"] == {"state": found.state, "found": found.found, "remedy": found.remedy}


def test_a_check_that_breaks_is_a_problem_and_the_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "CHECKS", {"broken": lambda: Path("/nowhere").read_text(), "after": lambda: ok("fine")})
    found = dict(checks.examine())
    assert found["broken"].state == "problem" and "/nowhere" in found["broken"].found
    assert found["after"] == ok("fine")


def test_a_package_that_is_missing_or_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert software.packages().state == "ok"
    lines = ["numpy>=999", "no-such-package>=1", "torch>=2", 'pytest>=999; extra == "dev"']
    monkeypatch.setattr(software.metadata, "requires", lambda name: lines)
    found = software.packages()
    assert found.state == "problem"
    assert (
        "numpy" in found.found and "is not >=999" in found.found and "no-such-package is not installed" in found.found
    )
    assert "torch" not in found.found and "pytest" not in found.found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_that_typer_installs_is_found(shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", f"/bin/{shell}")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    found = software.completion()
    assert found.state == "warning" and "--install-completion" in found.remedy
    from typer._completion_shared import install

    install(shell=shell, prog_name="deitkit", complete_var="_DEITKIT_COMPLETE")
    script = software._script_of(shell)
    assert script is not None and script.is_file()
    assert software.completion().found.startswith(str(script))


def test_little_room_is_a_warning_and_none_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, state in ((2**40, "ok"), (2**30, "warning"), (2**20, "problem")):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda place, free=free: Usage(2**41, 0, free))
        assert machine.disk().state == state


def test_docker_s_64_mib_of_shared_memory_are_too_few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path)
    for free, state in ((64 * 2**20, "warning"), (2**33, "ok")):
        monkeypatch.setattr(machine.os, "statvfs", lambda place, free=free: Statvfs(free, 1))
        assert machine.shared_memory().state == state
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path / "none")
    assert machine.shared_memory().state == "ok"


def test_a_container_s_quota_of_cores_is_read(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine._quota(tmp_path / "cpu.max") == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine._quota(tmp_path / "cpu.max") is None


def test_a_folder_that_takes_no_files_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert machine.rights().state == "ok"
    monkeypatch.setattr(machine, "nearest_folder", lambda path: Path("/proc"))  # root may write anywhere but there
    found = machine.rights()
    assert found.state == "problem" and "/proc" in found.found


def test_data_sets_are_found_where_they_are_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shelf" / "cars").mkdir(parents=True)
    monkeypatch.setenv("DEITKIT_DATA", str(tmp_path / "shelf"))
    assert places.datasets().found.startswith("cars, digits (2 of ")
    monkeypatch.setenv("DEITKIT_DATA", str(tmp_path / "gone"))
    assert places.datasets().state == "warning"


def test_a_driver_whose_gpu_torch_does_not_see_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import torch

    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar 5\n")
    monkeypatch.setattr(torch_works, "DRIVER", tmp_path / "version")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    found = torch_works.devices()
    assert found.state == "problem" and "550.54.15" in found.found
    monkeypatch.setattr(torch_works, "DRIVER", tmp_path / "none")
    assert torch_works.devices().state == "warning"


def test_torch_that_cannot_be_imported_is_told(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text('raise ImportError("libcudart.so.12: cannot open shared object file")')
    code = "from deitkit.doctor import torch_works; print(torch_works.torch_itself())"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "'problem'" in done.stdout and "libcudart.so.12" in done.stdout and "--force-reinstall" in done.stdout


@pytest.mark.slow
def test_the_whole_doctor_runs_here() -> None:
    """torch.compile compiles, and FiftyOne's database starts where it is installed."""
    command = [sys.executable, "-m", "deitkit", "doctor", "--json"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    told = json.loads(done.stdout)
    assert done.returncode == (0 if told["ok"] else 2)
    assert list(told["checks"]) == list(checks.CHECKS)
    assert "cannot be looked at" not in done.stdout
