"""Where the shipped recipes lie and how they are called. Reads none of them, and imports nothing: completion asks."""

from __future__ import annotations

from pathlib import Path


def recipe_root() -> Path:
    """The shipped recipes: inside the package when installed, beside it in an editable install."""
    package = Path(__file__).parents[1]
    inside = package / "recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    """Names of all shipped recipes, such as `pretrain/deit_tiny`."""
    root = recipe_root()
    return sorted(path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.toml"))
