"""deitkit trains, distils, upscales, fine-tunes and explains data-efficient image transformers (DeiT).

The names below load on first use, so that `import deitkit` costs nothing: no torch, no pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deitkit.version import __version__ as __version__

if TYPE_CHECKING:
    from deitkit.analysis.report import Report as Report
    from deitkit.errors import DeitkitError as DeitkitError
    from deitkit.models.load import load_model as load_model
    from deitkit.models.load import upscale as upscale
    from deitkit.models.student import Heads as Heads
    from deitkit.models.student import Student as Student
    from deitkit.models.student import Tokens as Tokens
    from deitkit.predictions.table import Predictions as Predictions
    from deitkit.recipe.load import load_recipe as load_recipe
    from deitkit.recipe.schema import Recipe as Recipe
    from deitkit.runs.folder import Run as Run
    from deitkit.training.fit import train_run as train_run


_PUBLIC = {
    "DeitkitError": "deitkit.errors",
    "Recipe": "deitkit.recipe.schema",
    "load_recipe": "deitkit.recipe.load",
    "Run": "deitkit.runs.folder",
    "Heads": "deitkit.models.student",
    "Student": "deitkit.models.student",
    "Tokens": "deitkit.models.student",
    "load_model": "deitkit.models.load",
    "upscale": "deitkit.models.load",
    "Predictions": "deitkit.predictions.table",
    "train_run": "deitkit.training.fit",
    "Report": "deitkit.analysis.report",
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
