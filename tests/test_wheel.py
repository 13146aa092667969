"""The wheel as a user has it: in an environment of its own, called in another folder, without the sources."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from deitkit.recipe.shipped import recipe_names

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel in it; its dependencies, minutes to install, are this one's."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("deitkit-*.whl")
    new = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(new)], check=True, timeout=300)
    (own,) = new.glob("lib/python*/site-packages")
    (own / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    install = [*pip, "--python", str(new / "bin" / "python"), "install", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return new / "bin"


def call(environment: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [str(environment / words[0]), *words[1:]], cwd=folder, env={**clean, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip


def test_it_is_the_wheel_that_is_called(environment: Path, tmp_path: Path) -> None:
    place = call(environment, tmp_path, "python", "-c", "import deitkit; print(deitkit.__file__)").stdout.strip()
    assert Path(place).is_relative_to(environment.parent) and not Path(place).is_relative_to(ROOT)


def test_every_recipe_is_found_and_valid(environment: Path, tmp_path: Path) -> None:
    found = json.loads(call(environment, tmp_path, "deitkit", "recipes", "list", "--json").stdout)
    assert [row["name"] for row in found] == recipe_names()
    checked = call(environment, tmp_path, "deitkit", "recipes", "check", *recipe_names())
    assert checked.returncode == 0, checked.stderr


def test_the_quickstart_runs(environment: Path, tmp_path: Path) -> None:
    done = call(environment, tmp_path, "deitkit", "quickstart", "-o", "runs/q", "--set", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "q" / "student_32" / "result.json").is_file()
    shown = call(environment, tmp_path, "deitkit", "report", "runs/q/student_32", "--json")
    assert shown.returncode == 0, shown.stderr
