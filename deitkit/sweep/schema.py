"""What a sweep's file may say, read and checked before anything runs. Imports no torch and no Optuna."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from deitkit.errors import DeitkitError, did_you_mean, is_installed
from deitkit.recipe.load import all_keys, find_recipe, override, read_layers, read_recipe, recipe_label
from deitkit.recipe.pick import Verb
from deitkit.recipe.schema import Count, RecipeTable
from deitkit.recipe.shipped import recipe_root, sweep_names
from deitkit.sweep.space import Space, Values, grid, grid_size, parse_space

MOST_RUNS = 10_000
MOST_CHECKED = 200  # points of a grid that are held against the recipe beforehand, each with all its values
FREE = "model.options."  # arguments of the architecture: any name may stand there
SEED = "train.seed"
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class SweepRecipe(RecipeTable):
    """A sweep's file. `keys`: recipe key -> a list of values, or { low, high, log, steps }; `set` is for every run."""

    recipe: str = ""  # what every run begins as: a shipped recipe's name, or a file
    verb: Verb | None = None  # pretrain, distill or finetune; by default as the recipe is
    method: Literal["grid", "random", "tpe"] = "grid"  # every combination, draws, or Optuna's estimator
    runs: Count | None = None  # points of random and tpe
    seeds: Count | list[Seed] = 1  # of training: how many, from 0, or which
    seed: Seed = 0  # of the draws
    prune: bool = True  # tpe: end a run that is worse than the median at the same epoch
    baseline: dict[str, Any] = Field(default_factory=dict)  # values of the point that all are compared with
    keys: dict[str, Any] = Field(default_factory=dict)
    set: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """A checked sweep: what each run is called with, and which points there are to be."""

    name: str
    verb: Verb
    recipe: str  # "" where the data choose it
    method: Literal["grid", "random", "tpe"]
    space: Space
    seeds: tuple[int, ...]
    points: int
    fixed: Values
    baseline: Values
    seed: int = 0
    prune: bool = True

    @property
    def prunes(self) -> bool:
        """Whether runs are ended early."""
        return self.method == "tpe" and self.prune

    @property
    def runs(self) -> int:
        return self.points * len(self.seeds)


def find_sweep(name: str) -> Path:
    """The file of that path, or of a shipped sweep's name.

    Raises:
        DeitkitError: there is none.
    """
    for path in (Path(name), Path(f"{name}.toml"), recipe_root() / f"{name}.toml"):
        if path.is_file():
            return path
    raise DeitkitError(
        f"there is no sweep {name}.{did_you_mean(name, sweep_names())}",
        value=name, choices=sweep_names(), remedy="name a .toml file, or one of these",
    )  # fmt: skip


def read_sweep(name: str, *, recipe: str = "", seeds: int | None = None) -> Sweep:
    """A sweep's file, checked as a whole. `recipe` and `seeds` of the command line come first.

    Raises:
        DeitkitError: naming all that is wrong in it.
    """
    path = find_sweep(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DeitkitError(f"{path}: not valid TOML: {error}", value=str(path), remedy="mend the line named") from error
    try:
        file = SweepRecipe.model_validate(values)
    except ValidationError as error:
        raise _refused(path, [_explain(problem) for problem in error.errors()]) from error
    base = recipe or (_recipe_near(file.recipe, path.parent) if file.recipe else "")
    space, problems = parse_space(file.keys)
    fixed, baseline = flat(file.set), flat(file.baseline)
    problems += [f"{key}: unknown key.{did_you_mean(key, all_keys())}" for key in unknown([*space, *fixed])]
    problems += [f"baseline: {key} is not among the keys" for key in baseline if key not in space]
    problems += _wrong_method(file, space, baseline)
    if SEED in space:
        problems.append(f"{SEED}: seeds = [...] varies the seed, so that runs of one point are averaged")
    if problems:
        raise _refused(path, problems)
    chosen = tuple(range(seeds)) if seeds else _seeds(file)
    points = grid_size(space) if file.method == "grid" else (file.runs or 0) + bool(baseline)
    sweep = Sweep(
        path.stem, file.verb or verb_of(base), base, file.method, space, chosen, points,
        fixed, baseline, file.seed, file.prune,
    )  # fmt: skip
    refuse_many(sweep)
    _refuse_impossible(sweep, path)
    return replace(sweep, baseline=baseline or _own_values(sweep))


def _own_values(sweep: Sweep) -> Values:
    """The point of a grid that is the recipe's own, if it has it."""
    if not sweep.recipe or sweep.method != "grid":
        return {}
    values = override(read_recipe(sweep.recipe), sweep.fixed).flat()
    own = {key: values.get(key) for key in sweep.space}
    return own if all(own[key] in each.grid() for key, each in sweep.space.items()) else {}


def refuse_many(sweep: Sweep) -> None:
    """Raise for more runs than anybody waits for, before one is made."""
    if sweep.runs > MOST_RUNS:
        size = f"{sweep.points:,} points, {sweep.runs:,} runs"
        raise DeitkitError(
            f"the {sweep.method} of {sweep.name} has {size}: more than {MOST_RUNS:,}",
            value=sweep.runs,
            remedy='fewer values, or method = "random" (or "tpe") with runs = 50',
        )


def verb_of(recipe: str) -> Verb:
    """The verb that a recipe belongs to.

    Raises:
        DeitkitError: there is no recipe to tell it.
    """
    if not recipe:
        raise DeitkitError(
            "the sweep names neither a recipe nor a verb", remedy='recipe = "NAME", or verb = "finetune"'
        )
    values = read_recipe(recipe).values
    return "finetune" if values.get("start") else "distill" if values.get("teacher") else "pretrain"


def flat(values: Mapping[str, Any], prefix: str = "") -> Values:
    """Tables as dotted keys."""
    found: Values = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def unknown(keys: list[str]) -> list[str]:
    """Those that no recipe may have."""
    known = set(all_keys())
    return [key for key in keys if key not in known and not key.startswith(FREE)]


def _recipe_near(name: str, folder: Path) -> str:
    """A shipped recipe's name, or the path of a file."""
    path = find_recipe(name, near=folder)
    read_layers(path)
    return recipe_label(path) if path.resolve().is_relative_to(recipe_root().resolve()) else str(path)


def _seeds(file: SweepRecipe) -> tuple[int, ...]:
    return tuple(range(file.seeds)) if isinstance(file.seeds, int) else tuple(dict.fromkeys(file.seeds))


def _wrong_method(file: SweepRecipe, space: Space, baseline: Values) -> list[str]:
    """What does not fit the method, before points are made."""
    problems = []
    if file.method == "grid":
        problems += [f"{key}: a range in a grid needs steps = N" for key, each in space.items() if not each.size]
        problems += ["runs: a grid has as many points as there are combinations"] if file.runs else []
    elif not file.runs:
        problems.append(f"runs: {file.method} needs their number")
    if file.method != "grid" and not space:
        problems.append(f"keys: {file.method} has nothing to vary")
    if file.method != "grid" and baseline and baseline.keys() != space.keys():
        problems.append("baseline: it is a point of its own here, and needs a value of every key")
    if file.method == "tpe" and not is_installed("optuna"):
        problems.append("method: tpe needs Optuna: pip install 'deitkit[sweep]'")
    return problems + ([] if file.seeds else ["seeds: there is none"])


def _refuse_impossible(sweep: Sweep, path: Path) -> None:
    """Hold the values against the recipe: each alone, and every point of a small grid."""
    if not sweep.recipe:
        return
    draft = read_recipe(sweep.recipe)
    tried: list[Values] = [{}]
    if sweep.method == "grid" and sweep.points <= MOST_CHECKED:
        tried += grid(sweep.space)
    else:
        for key, each in sweep.space.items():
            ends = each.values if hasattr(each, "values") else (each.low, each.high)
            tried += [{key: value} for value in ends]
    problems: list[str] = []
    for values in tried:
        try:
            override(draft, {**sweep.fixed, **values})
        except DeitkitError as error:
            problems += error.problems
    if problems:
        raise _refused(path, list(dict.fromkeys(problems)))


def _refused(path: Path, problems: list[str]) -> DeitkitError:
    remedy = f"mend {path}; `deitkit recipes show pretrain/deit_base` shows every key"
    return DeitkitError(f"sweep {path}: {len(problems)} problem(s)", value=str(path), problems=problems, remedy=remedy)


def _explain(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"][:1])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown.{did_you_mean(key, list(SweepRecipe.model_fields))}"
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]} (got {problem['input']!r})"
