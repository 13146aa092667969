"""`deitkit recipes`: list, show, diff, copy, check. Reads recipes and runs none."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from deitkit.cli import render
from deitkit.cli.options import AsJson, Overwrite, Set, output_option
from deitkit.errors import DeitkitError, quoted
from deitkit.files import output_file, write_atomic
from deitkit.recipe.shipped import recipe_names, recipe_root

if TYPE_CHECKING:
    from deitkit.recipe.schema import Recipe

Name = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name or a .toml file.")]
Other = Annotated[str, typer.Argument(metavar="OTHER", help="Another one.")]


class RecipeHeader(NamedTuple):
    """What a recipe's leading comment says; empty where it says nothing."""

    title: str
    cost: str
    published: str
    measured: str
    command: str


def list_recipes(
    words: Annotated[list[str] | None, typer.Argument(metavar="WORD", help="Only names with all these words.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the shipped recipes, with the accuracy that the paper reports.

    Example: deitkit recipes list distill
    Example: deitkit recipes list
    Example: deitkit recipes list finetune 384 --json
    """
    from deitkit.recipe.load import find_recipe

    names = [name for name in recipe_names() if all(word in name for word in words or ())]
    headers = {name: read_header(find_recipe(name)) for name in names}
    if as_json:
        render.print_json([{"name": name, **header._asdict()} for name, header in headers.items()])
        return
    rows = [[name, header.title, header.published] for name, header in headers.items()]
    render.print_table("Shipped recipes", ["name", "what it does", "published top-1"], rows)
    render.say("next: deitkit recipes show NAME")


def show(name: Name, sets: Set = None, as_json: AsJson = False) -> None:
    """Show a recipe with each value's origin: a table of the paper, the reference code, ours, or --set.

    Example: deitkit recipes show distill/deit_tiny --set train.epochs=100
    Example: deitkit recipes show finetune/cars
    Example: deitkit recipes show mine.toml --json
    """
    from deitkit.recipe.load import find_recipe, load_recipe, parse_override, recipe_header

    recipe = load_recipe(name, dict(parse_override(text) for text in sets or ()))
    if as_json:
        tables = recipe.model_dump(mode="json", exclude={"name"})
        origins = {key: recipe.origin(key) for key in recipe.flat()}
        render.print_json({"recipe": {"name": recipe.name}, **tables, "origins": origins})
        return
    render.say(recipe_header(find_recipe(name)))
    rows = [[key, spell(value), recipe.origin(key)] for key, value in recipe.flat().items()]
    render.print_table(recipe.name, ["key", "value", "origin"], rows)


def diff(name: Name, other: Other, as_json: AsJson = False) -> None:
    """Show where two recipes differ, with each value's origin.

    Example: deitkit recipes diff pretrain/deit_base pretrain/vit_base
    Example: deitkit recipes diff finetune/cars finetune/cars_384
    Example: deitkit recipes diff runs/mine/recipe.toml finetune/own
    """
    from deitkit.recipe.load import load_recipe

    first, second = load_recipe(name), load_recipe(other)
    keys = differing(first, second)
    if as_json:
        found = {key: {"first": side(first, key), "second": side(second, key)} for key in keys}
        render.print_json({"first": first.name, "second": second.name, "differences": found})
        return
    rows = [[key, *side(first, key).values(), *side(second, key).values()] for key in keys]
    rows = [[spell(value) for value in row] for row in rows]
    columns = ["key", first.name, "origin", second.name, "origin"]
    render.print_table(f"{first.name} and {second.name}", columns, rows)
    render.say(f"{len(keys)} of {len(first.flat().keys() | second.flat().keys())} values differ")


def copy(
    name: Name,
    destination: Annotated[str, typer.Argument(metavar="[FILE]", help="The new file [default: ./NAME.toml].")] = "",
    output: Annotated[str, output_option("The new file, as an option.")] = "",
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Copy a recipe to a file of your own, to change it there.

    The copy holds what the recipe itself holds and still extends the same parent.

    Example: deitkit recipes copy distill/deit_tiny runs/my_recipe.toml --overwrite
    Example: deitkit recipes copy finetune/own
    Example: deitkit recipes copy pretrain/own mine.toml
    """
    from deitkit.recipe.load import find_recipe, load_recipe

    if destination and output and destination != output:
        raise DeitkitError("two destinations", value=f"{destination}, {output}", remedy="give the file once")
    source = find_recipe(name)
    load_recipe(name)
    target = Path(destination or output or source.name)
    target = target / source.name if target.is_dir() else target
    if target.suffix != ".toml":
        raise DeitkitError(f"{target} is no .toml file", value=str(target), remedy=f"name it {target}.toml")
    if target.exists() and target.resolve() == source.resolve():
        raise DeitkitError(f"{target} is the recipe itself", value=str(target), remedy="name another file")
    target = output_file(target, overwrite=overwrite)
    text = retarget(source.read_text(encoding="utf-8"), source=source, target=target)
    write_atomic(target, text.replace(f"--recipe {name} ", f"--recipe {target} "))
    if as_json:
        render.print_json({"recipe": name, "file": str(target)})
        return
    render.say(f"wrote {target}; next: edit it, then: deitkit recipes check {quoted(target)}")


def schema(
    output: Annotated[str, output_option("The schema's file [default: standard output].")] = "",
    overwrite: Overwrite = False,
) -> None:
    """Write the JSON schema of recipes, by which editors complete and check them.

    The first line of a recipe names it: #:schema recipe.schema.json

    Example: deitkit recipes schema
    Example: deitkit recipes schema -o recipe.schema.json
    Example: deitkit recipes schema -o recipe.schema.json --overwrite
    """
    import json

    from deitkit.files import output_file, write_atomic
    from deitkit.recipe.json_schema import json_schema

    text = json.dumps(json_schema(), indent=2) + "\n"
    if not output:
        typer.echo(text, nl=False)
        return
    write_atomic(output_file(Path(output), overwrite=overwrite), text)
    render.say(f"wrote {output}")


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recipe files, folders of them, or names.")],
    as_json: AsJson = False,
) -> None:
    """Check recipe files: all errors of all files at once.

    Example: deitkit recipes check pretrain/deit_tiny distill/deit_tiny
    Example: deitkit recipes check mine.toml
    Example: deitkit recipes check recipes --json
    """
    from deitkit.recipe.load import load_recipe

    found: dict[str, list[str]] = {}
    for file in recipe_files(files):
        try:
            load_recipe(file)
            found[file] = []
        except DeitkitError as error:
            found[file] = list(error.problems) or [error.what]
        except (OSError, ValueError, RecursionError) as error:  # no file of ours, or no text at all
            found[file] = [f"{type(error).__name__}: {error}"]
    bad = {file: problems for file, problems in found.items() if problems}
    if as_json:
        render.print_json({"valid": not bad, "files": found})
        if bad:
            raise typer.Exit(2)
        return
    if bad:
        raise DeitkitError(
            f"{len(bad)} of {len(found)} recipes have errors",
            problems=[f"{file}: {problem}" for file, problems in bad.items() for problem in problems],
            remedy="mend the lines named; `deitkit recipes show pretrain/deit_base` shows every key",
        )
    render.say(f"{len(found)} recipes are valid")


def read_header(path: Path) -> RecipeHeader:
    """A recipe file's leading comment, taken apart: title, `Cost:`, `Published:`, `Measured:` and the command."""
    from deitkit.recipe.load import recipe_header

    lines = recipe_header(path).splitlines()
    said = " ".join(line for line in lines if not line.startswith("deitkit "))

    def after(label: str) -> str:
        match = re.search(rf"\b{label}: (.*?)\.?(?= (?:Source|Cost|Published|Measured): |$)", said)
        return match.group(1) if match else ""

    command = next((line for line in lines if line.startswith("deitkit ")), "")
    return RecipeHeader(lines[0] if lines else "", after("Cost"), after("Published"), after("Measured"), command)


def spell(value: Any) -> Any:
    """A recipe's value for a table: None is off."""
    return "off" if value is None else value


def side(recipe: Recipe, key: str) -> dict[str, Any]:
    """A recipe's half of a difference."""
    return {"value": recipe.flat().get(key), "origin": recipe.origin(key)}


def differing(first: Recipe, second: Recipe) -> list[str]:
    """Dotted keys whose values differ; of a table that only one of them has, its keys and not the table."""
    one, two = first.flat(), second.flat()
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    return [key for key in keys if not any(other.startswith(f"{key}.") for other in keys)]


def retarget(text: str, *, source: Path, target: Path) -> str:
    """The recipe's text with `extends` naming the same parent from its new place.

    A shipped parent keeps its name; a file beside the source becomes a path relative to the target.
    """
    from deitkit.recipe.load import find_recipe

    match = re.search(r'^extends\s*=\s*["\'](.+?)["\']', text, re.MULTILINE)
    if match is None:
        return text
    parent = find_recipe(match.group(1), near=source.parent).resolve()
    root = recipe_root().resolve()
    if parent.is_relative_to(root):
        name = parent.relative_to(root).with_suffix("").as_posix()
        beside = [target.parent / name, target.parent / f"{name}.toml"]
        if any(path.exists() for path in beside):
            raise DeitkitError(
                f"{target} would extend {beside[1]} instead of the shipped {name}",
                value=str(target),
                remedy="name a file in another folder",
            )
    else:
        name = Path(os.path.relpath(parent, target.resolve().parent)).as_posix()
    return text[: match.start(1)] + name + text[match.end(1) :]


def recipe_files(names: list[str]) -> list[str]:
    """Files and names as given; a folder stands for all .toml files below it."""
    files: list[str] = []
    for name in names:
        if not Path(name).is_dir():
            files.append(name)
            continue
        inside = sorted(str(path) for path in Path(name).rglob("*.toml"))
        if not inside:
            raise DeitkitError(f"{name} holds no .toml files", value=name, remedy="name recipe files")
        files += inside
    return files
