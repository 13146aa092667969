"""What the shell offers for values, and that it comes at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from deitkit.catalog import DATASETS
from deitkit.cli import complete
from deitkit.recipe.keys import recipe_keys
from deitkit.recipe.load import load_recipe
from deitkit.recipe.schema import Recipe
from deitkit.recipe.shipped import recipe_names
from deitkit.runs.folder import Run

ROOT = Path(__file__).parents[2]


def offered(line: str, folder: Path) -> list[str]:
    """What bash would show behind the line."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "_DEITKIT_COMPLETE": "complete_bash", "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "deitkit"], cwd=folder, env=environment, capture_output=True, text=True, timeout=60
    )
    assert not done.stderr
    return done.stdout.split()


def values(offers: object) -> list[str]:
    return [value for value, _ in offers]  # type: ignore[attr-defined]


def test_the_keys_read_off_the_schemas_text_are_the_schemas() -> None:
    expected = set()
    for name, field in Recipe.model_fields.items():
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for table in [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]:
            expected |= {f"{name}.{key}" for key in table.model_fields}
    assert set(recipe_keys()) == expected


def test_every_key_is_offered_with_what_it_is() -> None:
    """The words stand behind the field in the schema, and nowhere else."""
    assert [key for key, known in recipe_keys().items() if not known.words] == []
    offers = dict(complete.settings("optim."))
    assert offers["optim.lr="].startswith("peak learning rate") and offers["optim.lr="].endswith("[0.0005]")


def test_closed_values_of_a_key_are_offered_behind_it() -> None:
    assert values(complete.settings("teacher.labels=")) == ["teacher.labels=hard", "teacher.labels=soft"]
    assert "train.deterministic=true" in values(complete.settings("train.deterministic="))
    assert "data.category=genus" in values(complete.settings("data.category="))  # which the schema names elsewhere
    assert values(complete.settings("optim.lr=")) == []
    assert values(complete.settings("no.such=")) == []


def test_every_recipe_and_data_set_is_offered() -> None:
    assert values(complete.recipes("")) == recipe_names()
    assert values(complete.datasets("")) == [*DATASETS, "folder"]


def test_runs_their_checkpoints_and_heads_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("quickstart/teacher")
    run = Run.create("runs/quick/teacher", recipe, environment={}, overwrite=False)
    Run.create("runs/other", recipe, environment={}, overwrite=False)
    for name in ("step-000000120", "best"):
        (run.checkpoints / name).mkdir(parents=True)
        (run.checkpoints / name / "manifest.json").write_text("{}")
    assert values(complete.references("runs/")) == ["runs/other", "runs/quick/teacher"]
    assert values(complete.references("runs/quick/teacher@")) == [
        "runs/quick/teacher@best", "runs/quick/teacher@120"
    ]  # fmt: skip
    assert values(complete.references("runs/quick/teacher:")) == [
        f"runs/quick/teacher:{head}" for head in ("class", "distillation", "fused")
    ]
    assert "timm:regnety_160.deit_in1k" in values(complete.references("timm:"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deitkit pretrain --recipe pretrain/deit_t", {"pretrain/deit_tiny"}),
        ("deitkit finetune --dataset ca", {"cars"}),
        ("deitkit distill --set teacher.labels=h", {"teacher.labels=hard"}),
        ("deitkit pretrain --set optim.weight", {"optim.weight_decay="}),
        ("deitkit evaluate x --device c", {"cpu", "cuda"}),
    ],
)
def test_the_shell_gets_them(line: str, expected: set[str], tmp_path: Path) -> None:
    assert set(offered(line, tmp_path)) == expected


def test_no_value_needs_pydantic_or_anything_heavier() -> None:
    code = (
        "import sys; from deitkit.cli import complete\n"
        "for offers in complete.OFFERS.values(): list(offers(''))\n"
        "print(sorted({'pydantic', 'torch', 'timm', 'numpy'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout == "[]\n"
    )
