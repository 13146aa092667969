"""deitkit trains, distils, upscales, fine-tunes and explains data-efficient image transformers (DeiT).

The names below load on first use, so that `import deitkit` costs nothing: no torch, no pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deitkit.errors import DeitkitError as DeitkitError
    from deitkit.recipe import load_recipe as load_recipe
    from deitkit.schema import Recipe as Recipe

__version__ = "0.1.0"

_PUBLIC = {
    "DeitkitError": "deitkit.errors",
    "Recipe": "deitkit.recipe",
    "load_recipe": "deitkit.recipe",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'deitkit' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
