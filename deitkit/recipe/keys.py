"""The keys that a recipe may have, read off the schema's text: their words, defaults and closed choices.

Imports no pydantic: completion waits for it at every key that is pressed. A test holds the keys that are read so
against the schema itself.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SCHEMA = Path(__file__).with_name("schema.py")


@dataclass(frozen=True)
class Key:
    """A key of a recipe: what it is, its default, and its values where they are closed."""

    words: str
    default: str
    choices: tuple[str, ...] = ()


@cache
def recipe_keys() -> dict[str, Key]:
    """Dotted key -> what is known of it, read off the schema's text."""
    text = SCHEMA.read_text(encoding="utf-8")
    body = ast.parse(text).body
    tables = {node.name: node for node in body if isinstance(node, ast.ClassDef)}
    named = {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in body if isinstance(node, ast.Assign)}
    lines = text.splitlines()
    keys = {}
    for table in _fields(tables["Recipe"]):
        name = re.match(r"\w+", ast.unparse(table.annotation))
        if name and name[0] in tables:
            for field in _fields(tables[name[0]]):
                keys[f"{_name(table)}.{_name(field)}"] = _key(field, lines, named)
    return keys


def _fields(table: ast.ClassDef) -> list[ast.AnnAssign]:
    return [node for node in table.body if isinstance(node, ast.AnnAssign)]


def _name(field: ast.AnnAssign) -> str:
    return ast.unparse(field.target)


def _key(field: ast.AnnAssign, lines: list[str], named: dict[str, str]) -> Key:
    """`named` are the types that the schema gives a name."""
    annotation = ast.unparse(field.annotation)
    annotation = named.get(annotation, annotation)
    comment = lines[(field.end_lineno or field.lineno) - 1].partition("  # ")[2]
    literal = re.search(r"Literal\[(.*?)\]", annotation)
    choices = tuple(map(str, ast.literal_eval(f"({literal[1]},)"))) if literal else ()
    choices = ("true", "false") if annotation == "bool" else choices
    default = ast.unparse(field.value) if field.value is not None else "no default"
    return Key(comment, default, choices)
