"""The schema that editors get, against the recipes that deitkit itself reads."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from deitkit.recipe.json_schema import json_schema
from deitkit.recipe.keys import recipe_keys
from deitkit.recipe.load import find_recipe
from deitkit.recipe.shipped import recipe_names

jsonschema = pytest.importorskip("jsonschema")


def problems(recipe: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft202012Validator(json_schema())
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(recipe)]


def test_every_shipped_recipe_is_valid_by_it() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    found = {name: problems(tomllib.loads(find_recipe(name).read_text())) for name in recipe_names()}
    assert len(found) > 50
    assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [("optim", "lr", "fast"), ("optim", "rate", 0.1), ("data", "on_bad_image", "maybe"), ("train", "epochs", 0)],
)
def test_what_deitkit_refuses_is_refused_by_it(table: str, key: str, value: object) -> None:
    assert problems({table: {key: value}})


def test_an_optional_value_is_switched_off_by_false_and_no_other_is() -> None:
    assert problems({"ema": False, "optim": {"clip_grad": False}}) == []
    assert problems({"optim": {"lr": False}})


def test_every_key_has_its_words() -> None:
    schema = json_schema()
    for name in recipe_keys():
        table, key = name.split(".", 1)
        part = schema["properties"][table]
        reference = next(each["$ref"] for each in part.get("anyOf", [part]) if "$ref" in each)
        assert schema["$defs"][reference.rpartition("/")[2]]["properties"][key]["description"]
