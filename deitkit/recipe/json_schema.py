"""Recipes as a JSON schema (draft 2020-12), by which editors complete and check TOML. It validates nothing."""

from __future__ import annotations

from typing import Any

from deitkit.recipe.keys import recipe_keys
from deitkit.recipe.schema import Recipe

DRAFT = "https://json-schema.org/draft/2020-12/schema"
EXTENDS = {"type": "string", "description": "the recipe that this one changes: a shipped one's name or a .toml file"}


def json_schema() -> dict[str, Any]:
    """What may stand in a recipe's file: the schema's tables with each key's words, `false` where TOML has no null.

    No key is required, since a file may extend another.
    """
    schema = _as_toml(Recipe.model_json_schema())
    for name, table in schema["properties"].items():
        for key, known in recipe_keys().items():
            if key.startswith(f"{name}."):
                _table_of(schema, table)["properties"][key.partition(".")[2]]["description"] = known.words
    schema["properties"] = {"extends": EXTENDS, **schema["properties"]}
    return {"$schema": DRAFT, **schema, "title": "deitkit recipe"}


def _table_of(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The definition of a table that may be off."""
    references = [each["$ref"] for each in part.get("anyOf", [part]) if "$ref" in each]
    table: dict[str, Any] = schema["$defs"][references[0].rpartition("/")[2]] if references else part
    return table


def _as_toml(part: Any) -> Any:
    """Null becomes false, and nothing is required."""
    if isinstance(part, list):
        return [_as_toml(each) for each in part]
    if not isinstance(part, dict):
        return part
    if part == {"type": "null"}:
        return {"const": False}
    kept = {key: value for key, value in part.items() if key != "required" and (key, value) != ("default", None)}
    return {key: _as_toml(value) for key, value in kept.items()}
