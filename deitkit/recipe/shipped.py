"""Where the shipped recipes lie and how they are called. Reads none of them, and imports nothing: completion asks."""

from __future__ import annotations

from pathlib import Path

SWEEPS = "sweep/"  # the folder of sweeps


def recipe_root() -> Path:
    """The shipped recipes: inside the package when installed, beside it in an editable install."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    """Names of all shipped recipes, such as `pretrain/deit_tiny`."""
    return [name for name in _names() if not name.startswith(SWEEPS)]


def sweep_names() -> list[str]:
    """Names of the shipped sweeps, which are no recipes: each is many runs of one."""
    return [name for name in _names() if name.startswith(SWEEPS)]


def _names() -> list[str]:
    root = recipe_root()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.toml"))
