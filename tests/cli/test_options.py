"""Options: each defined once, and groups of them that a verb takes as one parameter."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import deitkit.cli
from deitkit.cli.options import AsJson, Dataset, spread

ROOM = Path(deitkit.cli.__file__).parent
# One word, several meanings: --epochs 3 and --epochs 0:3, --dataset once and often, a teacher and a mixture of them.
OF_THEIR_OWN = {
    "--amp", "--batch-size", "--data", "--dataset", "--epochs", "--limit", "--logits", "--model", "--output", "--port",
    "--recipe", "--split", "--strict", "--teacher", "--to", "--top", "--verify", "--yes",
}  # fmt: skip


@dataclass(frozen=True)
class Group:
    dataset: Dataset = "digits"
    as_json: AsJson = False


def verb(name: str, count: Annotated[int, typer.Option("--count", min=1)] = 2, *, where: Group) -> None:
    """Says what it got."""
    typer.echo(f"{name} {count} {where}")


def call(*words: str) -> None:
    app = typer.Typer()
    app.command()(spread(verb))
    app(list(words), standalone_mode=False)


def test_a_group_s_fields_are_options_and_come_back_as_the_group(capsys) -> None:
    call("a", "--dataset", "cars", "--json")
    assert capsys.readouterr().out == "a 2 Group(dataset='cars', as_json=True)\n"
    call("a", "--count", "3")
    assert capsys.readouterr().out == "a 3 Group(dataset='digits', as_json=False)\n"


def test_an_option_is_defined_once() -> None:
    defined: Counter[str] = Counter()
    for path in ROOM.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option":
                defined.update({str(each.value).partition("/")[0] for each in node.args[:1]})
    assert {name for name, times in defined.items() if times > 1} <= OF_THEIR_OWN
