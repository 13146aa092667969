"""`deitkit recipes`: list, show, diff, copy, check. Reads recipes, runs none."""

from __future__ import annotations

from typing import Annotated

import typer

from deitkit.cli import render

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def list_recipes(as_json: AsJson = False) -> None:
    """List the shipped recipes.

    Example: deitkit recipes list
    """
    from deitkit.recipe import recipe_names

    render.print_table("Recipes", ["name"], [[name] for name in recipe_names()])
