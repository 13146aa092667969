"""Imports point one way, and nothing heavy is loaded before a verb runs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import deitkit
from deitkit.cli.verbs import GUIDED, VERBS, Group, Verb

PACKAGE = Path(deitkit.__file__).parent
# A room imports only from its left; inside a room, modules import each other without a circle.
ORDER = (
    "version", "errors", "catalog", "files", "records", "recipe", "measures", "distributed", "runs", "data", "models",
    "teachers", "tape", "predictions", "preflight", "analysis", "training", "report", "explore", "speed", "serve",
    "trackers", "sweep", "doctor", "cli", "__main__",
)  # fmt: skip
HEAVY = {"torch", "torchvision", "timm", "fiftyone", "sklearn", "pyarrow", "pandas", "matplotlib"}


def modules() -> dict[str, Path]:
    """Dotted name below deitkit -> file; the package itself is left out."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in names.items() if name}


def imported(path: Path) -> Iterator[str]:
    """Everything that a file imports, wherever in it: full names, of functions and classes, too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def place(name: str) -> str:
    return name.partition(".")[0]


def module_of(full: str, names: dict[str, Path]) -> str:
    """The module of deitkit that an imported name lives in; "" for other packages."""
    rest = full.removeprefix("deitkit.") if full.startswith("deitkit.") else ""
    while rest and rest not in names:
        rest = rest.rpartition(".")[0]
    return rest


# Direction


def test_every_module_has_its_place_in_the_order() -> None:
    assert {place(name) for name in modules()} == set(ORDER)


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_from_its_left(name: str) -> None:
    allowed = {*ORDER[: ORDER.index(place(name))], place(name), "__version__"}
    found = {place(full.removeprefix("deitkit.")) for full in imported(modules()[name]) if full.startswith("deitkit.")}
    assert found <= allowed


def test_there_is_no_circle_of_imports_lazy_ones_included() -> None:
    names = modules()
    arrows = {
        name: {found for full in imported(path) if (found := module_of(full, names)) not in ("", name)}
        for name, path in names.items()
    }
    while free := [name for name, after in arrows.items() if not after & arrows.keys()]:
        for name in free:
            del arrows[name]
    assert not arrows, f"these import each other: {sorted(arrows)}"


def test_at_the_top_stand_few_modules_beside_the_rooms() -> None:
    beside = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert beside <= set(ORDER)
    assert len(beside) <= 7, sorted(beside)


def test_every_room_says_what_it_is() -> None:
    for name, path in modules().items():
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), name


def test_only_explore_imports_fiftyone() -> None:
    users = {name for name, path in modules().items() if any(place(full) == "fiftyone" for full in imported(path))}
    assert {place(name) for name in users} == {"explore"}


def test_recipes_know_no_torch_and_nothing_imports_click() -> None:
    for name, path in modules().items():
        tops = {place(full) for full in imported(path)}
        assert "click" not in tops, name
        if place(name) in ("errors", "catalog", "files", "records", "recipe") or name in ("runs", "runs.folder"):
            assert not tops & HEAVY, name


def test_public_names_are_where_the_package_says() -> None:
    for name, place_of_it in deitkit._PUBLIC.items():
        module, _, there = place_of_it.partition(":")
        tree = ast.parse(modules()[module.removeprefix("deitkit.")].read_text())
        defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        assert (there or name) in defined, f"{module} defines no {there or name}"
        assert getattr(deitkit, name).__doc__
    assert set(deitkit.__all__) == {"__version__", *deitkit._PUBLIC}
    assert set(deitkit.__all__) <= set(dir(deitkit))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = deitkit.nonsense


# Weight


def loaded_after(code: str, environment: dict[str, str] | None = None) -> set[str]:
    """Top-level names in sys.modules after the code, in a fresh Python."""
    script = f"""
import json, sys
try:
    {code}
except SystemExit:
    pass
print("\\nLOADED" + json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
    output = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **(environment or {})},
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return set(json.loads(output.rpartition("LOADED")[2]))


def command_line(*words: str) -> str:
    return f"sys.argv = ['deitkit', *{list(words)!r}]; import deitkit.cli.app as app; app.run(sys.argv[1:])"


def all_verbs() -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, row in VERBS.items():
        rows += [(name, verb) for verb in row.verbs] if isinstance(row, Group) else [(name,)]
    return rows


@pytest.mark.parametrize(
    "code",
    ["import deitkit", "import deitkit; deitkit.DeitkitError", command_line("--help"), command_line("--version")],
    ids=["import", "errors", "help", "version"],
)
def test_plain_import_and_help_load_neither_the_heavy_modules_nor_pydantic(code: str) -> None:
    assert not loaded_after(code) & {*HEAVY, "pydantic", "numpy"}


@pytest.mark.parametrize("words", [(), ("recipes",), ("analyze", "--help")], ids=" ".join)
def test_deitkit_without_a_verb_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    assert not loaded_after(command_line(*words)) & HEAVY


@pytest.mark.parametrize("verb", all_verbs(), ids=" ".join)
def test_a_verbs_help_loads_nothing_heavy(verb: tuple[str, ...]) -> None:
    assert not loaded_after(command_line(*verb, "--help")) & HEAVY


@pytest.mark.parametrize(
    "words",
    [
        ("recipes", "list"), ("recipes", "list", "--json"), ("recipes", "show", "distill/deit_tiny"),
        ("recipes", "diff", "pretrain/deit_tiny", "pretrain/deit_base"), ("runs", "list"), ("pretrian",),
        ("data", "list"), ("data", "list", "--json"), ("data", "info", "cars"), ("data", "info", "cifar11"),
        ("pretrain", "--nonsense"), ("recipes", "shwo"), ("pretrain", "--recipe", "no/such_recipe"),
        ("pretrain", "--set", "optim.lrr=1"), ("pretrain", "--log", "nothing"),
        ("distill", "--recipe", "pretrain/deit_tiny"),
        ("finetune", "--from", "nothing", "--data", "x"), ("distill", "--teacher", "nothing", "--data", "x"),
        ("evaluate", "nothing"), ("evaluate", "nothing", "--device", "gpu"), ("upscale", "nothing", "--to", "32"),
        ("predict", "nothing", "--model", "timm:deit_tiny_patch16_224"), ("predict", "x", "--model", "nothing"),
        *(("analyze", verb, "nothing") for verb in ("disagreement", "tokens", "positions", "errors", "resolutions")),
        ("analyze", "tradeoff", "nothing"), ("analyze", "attention", "--model", "nothing"), ("teacher", "check", "no"),
        ("tape", "record", "--teacher", "nothing"), ("tape", "show", "nothing"), ("tape", "merge", "no", "-o", "x"),
        ("report", "nothing"), ("explore", "nothing"), ("runs", "show", "nothing"), ("runs", "compare", "no", "none"),
        ("data", "verify", "nothing"), ("data", "stats", "nothing"), ("data", "pack", "nothing"),
        ("data", "preview", "nothing"), ("runs", "watch", "nothing"), ("runs", "resume", "nothing"),
        ("sweep", "nothing"), ("sweep", "sweep/paper_grid", "--dry-run"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_listing_and_what_is_named_wrongly_load_nothing_heavy(words: tuple[str, ...]) -> None:
    assert not loaded_after(command_line(*words)) & HEAVY


def test_images_are_counted_and_their_sizes_told_without_torch() -> None:
    assert not loaded_after(command_line("data", "info", "digits")) & {"torch", "timm", "torchvision"}


@pytest.mark.parametrize("line", ["deitkit ", "deitkit re", "deitkit recipes ", "deitkit pretrain --"])
def test_completion_loads_nothing_heavy(line: str) -> None:
    words = line.split(" ")
    environment = {
        "_DEITKIT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)
    }  # fmt: skip
    assert not loaded_after(command_line(), environment) & HEAVY


def test_the_table_of_verbs_names_functions_that_are_there() -> None:
    rows: list[Verb] = [GUIDED]
    for row in VERBS.values():
        rows += row.verbs.values() if isinstance(row, Group) else [row]
    for verb in rows:
        tree = ast.parse(modules()[verb.module.removeprefix("deitkit.")].read_text())
        functions = {
            node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)
        }
        assert verb.function in functions, f"{verb.module} defines no {verb.function}"
        first = functions[verb.function].splitlines()[0]
        assert first.startswith(verb.help.rstrip(".")), f"{verb.help!r} is not how {verb.function} begins: {first!r}"
