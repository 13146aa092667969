"""Pages of the site that are written by nobody: README as its home, commands, recipe keys, recipes, Python, examples.

A hook of MkDocs (mkdocs.yml). What it shows is read off the command line, the recipes' schema and the package itself,
so that no page can say what the code does not.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
HELP_COLUMNS = 100
SCHEMA = "reference/recipe.schema.json"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them beside those that are written."""
    from mkdocs.structure.files import File

    for path, text in pages():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links into the repository lead to the page that shows the file."""
    return re.sub(r"\]\((?:\.\./)*examples/(\w+)\.(py|ipynb)\)", r"](reference/examples.md#\1\2)", markdown)


def pages() -> Iterator[tuple[str, str]]:
    """(path in the site, its text)."""
    yield "index.md", moved((ROOT / "README.md").read_text(encoding="utf-8"))
    yield "contributing.md", moved((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    yield "changelog.md", moved((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    yield "reference/commands.md", commands()
    yield "reference/recipe-keys.md", recipe_keys()
    yield SCHEMA, schema()
    yield "reference/recipes.md", recipes()
    yield "reference/python.md", python()
    yield "reference/examples.md", examples()


def moved(readme: str) -> str:
    """A text of the repository's root, its links as seen from the site's root."""
    names = {"docs/": "", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
    for before, after in names.items():
        readme = readme.replace(f"]({before}", f"]({after}").replace(f'src="{before}', f'src="{after}')
    return readme


# Commands


def commands() -> str:
    """Every verb's own help."""
    from deitkit.cli.verbs import VERBS, Group

    text = ["# Commands", "", "What `--help` of each prints. Every verb that prints results has `--json`."]
    for name, row in VERBS.items():
        text += ["", f"## {name}", "", row.help]
        for words in [(name, verb) for verb in row.verbs] if isinstance(row, Group) else [(name,)]:
            text += ["", *([f"### {' '.join(words)}", ""] if len(words) > 1 else []), fenced(helps(*words))]
    return "\n".join(text)


def helps(*words: str) -> str:
    """What a verb's --help prints on a plain terminal of 100 columns."""
    from deitkit.cli.app import run

    shown = io.StringIO()
    os.environ.update(COLUMNS=str(HELP_COLUMNS), NO_COLOR="1", TERM="dumb")
    with contextlib.redirect_stdout(shown):
        run([*words, "--help"])
    return "\n".join(line.rstrip() for line in shown.getvalue().strip("\n").splitlines())


def fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


# Recipes


def recipe_keys() -> str:
    """Every key that a recipe may have, with its words, default and choices."""
    from deitkit.recipe.keys import recipe_keys as known_keys

    text = [
        "# Recipe keys",
        "",
        "What may stand in a recipe, and behind `--set KEY=VALUE`. `false` switches an optional value off. Editors",
        "that know TOML schemas complete and check recipes with the first line",
        "",
        fenced("#:schema recipe.schema.json", "toml"),
        "",
        f"of [{Path(SCHEMA).name}]({Path(SCHEMA).name}), which `deitkit recipes schema` writes, too.",
    ]
    table = ""
    for key, known in known_keys().items():
        if key.partition(".")[0] != table:
            table = key.partition(".")[0]
            text += ["", f"## {table}", "", "| Key | What it is | Default | Choices |", "|---|---|---|---|"]
        row = [f"`{key}`", known.words, f"`{known.default}`", ", ".join(f"`{each}`" for each in known.choices)]
        text.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |")
    return "\n".join(text)


def schema() -> str:
    from deitkit.recipe.json_schema import json_schema

    return json.dumps(json_schema(), indent=2)


def recipes() -> str:
    """Every shipped recipe with what its header says."""
    from deitkit.recipe.load import find_recipe, recipe_header
    from deitkit.recipe.shipped import recipe_names

    text = ["# Shipped recipes", "", "`deitkit recipes show NAME` has each value with its origin."]
    folder = ""
    for name in recipe_names():
        if name.partition("/")[0] != folder:
            folder = name.partition("/")[0]
            text += ["", f"## {folder}/"]
        text += ["", f"### {name}", "", fenced(recipe_header(find_recipe(name)))]
    return "\n".join(text)


# Python


def python() -> str:
    """The package's front, and the rooms behind it that examples use."""
    import deitkit

    text = [
        "# Python",
        "",
        "What `import deitkit` gives. Names load on first use. Shapes stand in the docstrings: B batch, K classes,",
        "N patches, T tokens, D width, L layers.",
    ]
    for name, place in deitkit._PUBLIC.items():
        module, _, there = place.partition(":")
        text += ["", f"## deitkit.{name}", "", f"::: {module}.{there or name}"]
    return "\n".join(text)


def examples() -> str:
    """Every script of examples/, whole."""
    text = ["# Examples", "", "Scripts and notebooks of the repository's `examples/`."]
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text += ["", f"## {path.name}"]
        for cell in cells:
            source = "".join(cell["source"])
            text += [
                "",
                fenced(source, "python") if cell["cell_type"] == "code" else re.sub(r"^#+ (.*)", r"**\1**", source),
            ]
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text(encoding="utf-8")
        title = (ast.get_docstring(ast.parse(code)) or "").splitlines()[0]
        text += ["", f"## {path.name}", "", title, "", fenced(code.rstrip(), "python")]
    return "\n".join(text)
