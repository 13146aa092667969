"""Recipes: found, read, extended, overridden, validated, explained and written. Knows no past run.

A recipe is TOML. A comment behind a value is that value's origin (`lr = 5e-4  # Table 9`). `extends` names one
parent. `deitkit/recipe/schema.py` says what may stand in it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from deitkit.errors import DeitkitError, did_you_mean
from deitkit.recipe.contradictions import contradictions
from deitkit.recipe.schema import Recipe, RecipeTable
from deitkit.recipe.shipped import recipe_names, recipe_root

# The first line of a run's recipe: what stands before and after its name.
RESOLVED = ("# deitkit recipe", ", resolved: every value with its origin")


def find_recipe(name: str, *, near: Path | None = None) -> Path:
    """The file of a shipped recipe's name, of its last part where only one has it, or of a path.

    With `near` the name stands in an `extends`: it is looked for beside that file, then among the shipped recipes, so
    that a file in the working directory never slips under a shipped recipe.

    Raises:
        DeitkitError: nothing of that name; the nearest is suggested.
    """
    shipped = recipe_root() / f"{name}.toml"
    candidates = [Path(name), Path(f"{name}.toml"), shipped]
    if near is not None:
        candidates = [near / name, near / f"{name}.toml", shipped, *candidates]
    for path in candidates:
        if path.is_file():
            return path
    names = recipe_names()
    alike = [known for known in names if known.rsplit("/", 1)[-1] == name]
    if len(alike) == 1:
        return recipe_root() / f"{alike[0]}.toml"
    if alike:
        raise DeitkitError(f"several recipes are called {name!r}", value=name, choices=alike)
    short = {known.rsplit("/", 1)[-1]: known for known in names}
    hint = did_you_mean(name, names) or did_you_mean(short.get(name, ""), names) or did_you_mean(name, short)
    raise DeitkitError(
        f"unknown recipe {name!r}.{hint}",
        value=name,
        remedy="`deitkit recipes list` shows the shipped recipes; a path to a .toml file works, too",
    )


def read_layers(path: Path, _seen: tuple[Path, ...] = ()) -> tuple[dict[str, Any], dict[str, str]]:
    """A recipe file's values merged over its parents', and each value's origin (its comment, or the file)."""
    path = path.resolve()
    if path in _seen:
        raise DeitkitError(f"recipe {path.name} extends itself", value=str(path), remedy="remove one `extends`")
    text, values = _read_toml(path)
    label = recipe_label(path)
    origins = {key: comment or f"recipe {label}" for key, comment in _comments(text)}
    parent = values.pop("extends", None)
    origins.pop("extends", None)
    if parent is None:
        return values, origins
    if not isinstance(parent, str):
        raise DeitkitError(f"{path}: extends: expected one recipe's name", value=parent, remedy='extends = "NAME"')
    base, base_origins = read_layers(find_recipe(parent, near=path.parent), (*_seen, path))
    merged = _merge(base, values)
    kept = {key: origin for key, origin in base_origins.items() if not _switched_off(values, key)}
    return merged, {**kept, **origins}


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    """A recipe file's text and its own values."""
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text)
    except OSError as error:
        what = f"{path} cannot be read: {error.strerror or error}"
        raise DeitkitError(what, value=str(path), remedy="name a recipe that is there") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeitkitError(f"{path}: not valid TOML: {error}", value=str(path), remedy="mend the line named") from error
    _keep_old_rules(text, values)
    return text, values


def _keep_old_rules(text: str, values: dict[str, Any]) -> None:
    """A run's recipe holds every value. One without a rule for holding images out drew them by place; one that does not
    say which weights are kept kept the last, or the best where patience may have ended it."""
    if not (text.startswith(RESOLVED[0]) and RESOLVED[1] in text):
        return
    data, train = values.get("data"), values.get("train")
    if isinstance(data, dict) and "split_rule" not in data:
        data["split_rule"] = "place"
    if isinstance(train, dict) and "keep" not in train:
        train["keep"] = "best" if train.get("patience") else "last"


def recipe_label(path: Path) -> str:
    """A shipped recipe's name, or the file's name."""
    root = recipe_root().resolve()
    path = path.resolve()
    return path.relative_to(root).with_suffix("").as_posix() if path.is_relative_to(root) else path.stem


def recipe_header(path: Path) -> str:
    """The comment at a recipe's head: source, cost, results and command."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("# ").rstrip())
    return "\n".join(lines)


def _comments(text: str) -> Iterator[tuple[str, str]]:
    import tomlkit  # not where nobody asks for a comment: it takes longer than all the rest
    from tomlkit.items import AbstractTable, InlineTable

    # The raw body: looked up by key, tomlkit gives plain booleans, which have lost their comments.
    def walk(body: Any, prefix: str, around: str) -> Iterator[tuple[str, str]]:
        for key, item in body:
            if key is None:
                continue
            name, comment = f"{prefix}{key.key}", item.trivia.comment.lstrip("# ").strip() or around
            if not isinstance(item, AbstractTable) or name == "model.options":
                yield name, comment
            else:  # a comment behind an inline table counts for all its values; one behind [table] for none
                inner = comment if isinstance(item, InlineTable) else ""
                yield from walk(item.value.body, f"{name}.", inner)

    yield from walk(tomlkit.parse(text).body, "", "")


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key; `options`, which belong to one model, are replaced as a whole."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and key != "options":
            merged[key] = _merge(old, value)
        else:
            merged[key] = value
    return merged


def _switched_off(values: Mapping[str, Any], key: str) -> bool:
    table, dot, _ = key.partition(".")
    return bool(dot) and values.get(table) is False


@dataclass(frozen=True)
class Draft:
    """A recipe as its files have it, parents merged in, each value with its origin: not validated yet."""

    name: str
    values: dict[str, Any]
    origins: dict[str, str]


def read_recipe(name: str) -> Draft:
    """The files of a recipe, each read once.

    Raises:
        DeitkitError: nothing of that name, or a file is no TOML.
    """
    path = find_recipe(name)
    values, origins = read_layers(path)
    values.pop("name", None)
    origins.pop("name", None)
    return Draft(recipe_label(path), values, origins)


def load_recipe(name: str, overrides: Mapping[str, Any] | None = None, *, origin: str = "--set") -> Recipe:
    """Read, extend, override (dotted key -> value) and validate a recipe.

    Raises:
        DeitkitError: naming *all* unknown keys, wrong values and contradictions at once.
    """
    return override(read_recipe(name), overrides or {}, origin=origin)


def parse_override(text: str) -> tuple[str, Any]:
    """`optim.lr=1e-4` -> ("optim.lr", 1e-4); what is no TOML value is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise DeitkitError(f"--set {text!r}: expected key=value", value=text, remedy="for example --set optim.lr=1e-4")
    try:
        return key.strip(), tomllib.loads(f"v = {value.strip()}")["v"]
    except (ValueError, RecursionError):  # no TOML, integers of thousands of digits, brackets a thousand deep
        return key.strip(), value.strip()


def override(recipe: Recipe | Draft, overrides: Mapping[str, Any], *, origin: str = "--set") -> Recipe:
    """A recipe with dotted keys replaced, validated as a whole. They count as given by whoever runs deitkit."""
    given = frozenset(overrides) | (recipe.given if isinstance(recipe, Recipe) else frozenset())
    if isinstance(recipe, Recipe):
        values = recipe.model_dump(mode="json", exclude={"name"})
        values = {key: False if value is None else value for key, value in values.items()}
        origins = dict(recipe.origins)
    else:
        values, origins = recipe.values, dict(recipe.origins)
    for key, value in overrides.items():
        front, _, option = key.partition(".options.")
        if option:  # one option of a model, beside its others
            table = values.get(front)
            options = table.get("options") if isinstance(table, Mapping) else None
            key, value = f"{front}.options", {**(options if isinstance(options, Mapping) else {}), option: value}
        over: Any = value
        for part in reversed(key.split(".")):
            over = {part: over}
        values = _merge(values, over)
        origins[key] = origin
    return validate(values, name=recipe.name, origins=origins, given=given)


def validate(
    values: Mapping[str, Any], *, name: str, origins: Mapping[str, str], given: frozenset[str] = frozenset()
) -> Recipe:
    """Values -> Recipe, or one error with every problem in it. `given` are keys that no file gave."""
    if both := {"origins", "given"} & values.keys():
        problems = [f"{key}: unknown key" for key in sorted(both)]
        raise DeitkitError(f"recipe {name}: {len(both)} problem(s)", value=name, problems=problems)
    try:
        recipe = Recipe.model_validate({**values, "name": name, "origins": dict(origins), "given": given})
    except ValidationError as error:
        raise DeitkitError(
            f"recipe {name}: {error.error_count()} problem(s)",
            value=name,
            problems=[_explain(problem) for problem in error.errors()],
            remedy="`deitkit recipes show pretrain/deit_base` shows every key with a value and its origin",
        ) from error
    problems = contradictions(recipe)
    if problems:
        raise DeitkitError(f"recipe {name}: {len(problems)} contradiction(s)", value=name, problems=problems)
    return recipe


def all_keys() -> list[str]:
    """Every dotted key that a recipe may have."""
    keys = []
    for table, field in Recipe.model_fields.items():
        for candidate in (field.annotation, *get_args(field.annotation)):
            if isinstance(candidate, type) and issubclass(candidate, RecipeTable):
                keys += [f"{table}.{key}" for key in candidate.model_fields]
    return keys


def _explain(problem: Any) -> str:
    parts = [str(part) for part in problem["loc"] if str(part) not in _UNION_TAGS]
    key = ".".join(parts[:2]) if parts[:2] != ["model", "options"] else ".".join(parts)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key.{_meant(key)}"
    if problem["type"] == "missing":
        return f"{key}: is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{key}: {message} (got {problem['input']!r})"


def _meant(key: str) -> str:
    """` Did you mean X?` for an unknown key; one without its table (`lr`) is looked for in all tables."""
    if "." in key:
        return did_you_mean(key, all_keys())
    tables = [name for name in Recipe.model_fields if name not in ("name", "origins", "given")]
    found = [known for known in all_keys() if known.partition(".")[2] == key]
    if found:
        return f" Did you mean {' or '.join(found)}?"
    hint = did_you_mean(key, [*tables, *(known.partition(".")[2] for known in all_keys())])
    near = hint.removeprefix(" Did you mean ").removesuffix("?")
    return _meant(near) if near and near not in tables else hint


_UNION_TAGS = {"int", "float", "tuple[int, int]", "constrained-int", "constrained-float", "literal['lr']", "str"}


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML, every value with its origin as a comment; loading it gives an equal recipe."""
    import tomlkit

    document = tomlkit.document()
    document.add(tomlkit.comment(f"{RESOLVED[0].lstrip('# ')} {recipe.name}{RESOLVED[1]}"))
    dumped = recipe.model_dump(mode="json", exclude={"name"})
    for key in [key for key, value in dumped.items() if value is None]:
        document.add(key, tomlkit.item(False).comment(recipe.origin(key)))
    for table_name, values in dumped.items():
        if values is None:
            continue
        table = tomlkit.table()
        for key, value in values.items():
            item = tomlkit.item(False if value is None else value)
            table.add(key, item.comment(recipe.origin(f"{table_name}.{key}")))
        document.add(table_name, table)
    return tomlkit.dumps(document)


def read_resolved(path: Path, *, name: str, origins: Mapping[str, str] | None = None) -> Recipe:
    """A recipe that `to_toml` wrote, with its origins: by its comments, unless they are given."""
    if origins is None:
        values, origins = read_layers(path)
    else:
        _, values = _read_toml(path)
    return validate(values, name=name, origins=origins)
