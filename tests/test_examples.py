"""The scripts in examples/, run as their first lines say: each in an empty folder, without arguments or a network."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def runs_alone(path: Path) -> bool:
    """Whether its docstring says that it runs without arguments; what stands behind two spaces is a remark."""
    return bool(re.search(rf"^ *python examples/{path.name}(?:  .*)?$", path.read_text(), re.MULTILINE))


ALONE = {path.name: path for path in sorted(EXAMPLES.glob("*.py")) if runs_alone(path)}
MINUTES = 5


def test_there_is_an_example_for_every_analysis() -> None:
    from deitkit.cli.verbs import VERBS, Group

    group = VERBS["analyze"]
    assert isinstance(group, Group)
    assert {f"analyze_{verb}.py" for verb in group.verbs} | {"explore_predictions.py"} <= set(ALONE)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_an_example_runs_in_an_empty_folder(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ALONE[name])], cwd=tmp_path, capture_output=True, text=True, timeout=60 * MINUTES,
        env={**os.environ, "OMP_NUM_THREADS": "1", "FIFTYONE_DATABASE_DIR": str(tmp_path / "mongodb")},
    )  # fmt: skip
    if done.returncode and "MongoDB, does not answer" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    named = re.findall(r"runs/examples/\S+\.(?:json|csv|png|svg)", done.stdout)
    assert all((tmp_path / path).stat().st_size for path in named)


NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    """Its code cells, in order, in one Python; no cell needs IPython's own commands."""
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells), "outputs go stale: clear them"
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    script = tmp_path / "notebook.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=60 * MINUTES,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("onnxruntime alone decides as deitkit does")


def test_there_is_a_notebook_and_its_cells_are_python() -> None:
    assert NOTEBOOKS
    for path in NOTEBOOKS:
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                ast.parse("".join(cell["source"]))
