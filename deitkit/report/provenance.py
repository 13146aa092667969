"""Where a run comes from, for its page: recipe with origins, machine, and the commands that give it again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from deitkit.catalog import MODELS
from deitkit.report.folder import RunFolder, teacher_folders
from deitkit.report.views import Command, Setting

GIVEN = ("command line", "--", "quickstart")  # how origins of values begin that no recipe gave
TRAINING_VERBS = ("pretrain", "distill", "finetune")


def settings(folder: RunFolder) -> Mapping[str, list[Setting]]:
    """The recipe by table, each value with its origin, and the shipped value where it is another."""
    recipe, parent = folder.recipe, folder.parent
    if recipe is None:
        return {}
    shipped = parent.flat() if parent else {}
    groups: dict[str, list[Setting]] = {}
    for key, value in recipe.flat().items():
        origin = recipe.origin(key)
        changed = value != shipped.get(key) if parent else origin.startswith(GIVEN)
        was = spell_value(shipped.get(key)) if parent and changed else ""
        table = key.partition(".")[0] if "." in key else "recipe"
        groups.setdefault(table, []).append(Setting(key, spell_value(value), origin, was, changed))
    return groups


def spell_value(value: Any) -> str:
    """A value as TOML has it; `false` is what is switched off."""
    return "false" if value is None else json.dumps(value, ensure_ascii=False)


def environment(folder: RunFolder) -> list[tuple[str, str]]:
    """What the run noted of its machine, versions last."""
    facts = {key: value for key, value in folder.environment.items() if key not in ("versions", "command", "resumed")}
    rows = [("command line", shlex.join(folder.command))] if folder.command else []
    rows += [(key.replace("_", " "), _told(key, value)) for key, value in facts.items() if value not in ({}, [], None)]
    rows += list((folder.environment.get("versions") or {}).items())
    resumed = folder.environment.get("resumed", [])
    return [*rows, ("resumed", f"{len(resumed)} times")] if resumed else rows


def _told(key: str, value: Any) -> str:
    """A fact in words; of the images' own bytes their number and the beginning of what they are known by."""
    if key == "data_content" and isinstance(value, dict):
        return "; ".join(
            f"{split}: {each.get('images')} images, sample {str(each.get('sample'))[:16]}..."
            for split, each in value.items()
            if isinstance(each, dict)
        )
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def commands(folder: RunFolder) -> list[Command]:
    """How to get the same again, and where to look further."""
    path = shlex.quote(str(folder.run.path))
    found = []
    versions = folder.environment.get("versions") or {}
    others = {name: version for name, version in versions.items() if version[:1].isdigit() and name != "deitkit"}
    if others:
        pinned = " ".join(shlex.quote(f"{name}=={version}") for name, version in others.items())
        where = f"The same versions, in a clone of deitkit {versions.get('deitkit', '')}".rstrip()
        found.append(Command(where, f"pip install . {pinned}"))
    if folder.command:
        found.append(Command("The same command, in the folder where it was given", shlex.join(folder.command)))
    if folder.recipe is not None:
        found.append(Command("The same from the resolved recipe alone", _from_recipe(folder)))
    teachers = " ".join(f"--teacher {shlex.quote(word)}" for word in [*teacher_folders(folder).values()][:1])
    distilled = folder.recipe is not None and folder.recipe.model.distilled
    look = [f"deitkit evaluate {path} --per-class"]
    look += [f"deitkit analyze disagreement {path} {teachers}".rstrip()] if teachers or distilled else []
    look += [f"deitkit analyze tokens {path}"] if distilled else []
    is_transformer = folder.recipe is not None and folder.recipe.model.name in MODELS
    verbs = ("errors", "positions", "resolutions") if is_transformer else ("errors",)
    look += [f"deitkit analyze {verb} {path}" for verb in verbs]
    look += [f"deitkit explore {path} --launch", f"deitkit report {path}"]
    found.append(Command("What this page shows, and the images behind it", "\n".join(look)))
    return found


def _from_recipe(folder: RunFolder) -> str:
    recipe, given = folder.recipe, folder.command[1:2]
    guessed = "pretrain" if recipe is None or recipe.teacher is None else "distill"
    guessed = "finetune" if recipe is not None and recipe.start is not None else guessed
    verb = given[0] if given and given[0] in TRAINING_VERBS else guessed
    path = folder.run.path
    again = path.with_name(f"{path.name}-again")
    return shlex.join(["deitkit", verb, "--recipe", str(path / "recipe.toml"), "--output", str(again)])
