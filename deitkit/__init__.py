"""deitkit trains, distils, upscales, fine-tunes and explains data-efficient image transformers (DeiT).

The names below load on first use, so that `import deitkit` costs nothing: no torch, no pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deitkit.analysis.report import Report as Report
    from deitkit.errors import DeitkitError as DeitkitError
    from deitkit.model import Heads as Heads
    from deitkit.model import Student as Student
    from deitkit.model import Tokens as Tokens
    from deitkit.predictions import Predictions as Predictions
    from deitkit.recipe import load_recipe as load_recipe
    from deitkit.run import Run as Run
    from deitkit.schema import Recipe as Recipe
    from deitkit.train import train_run as train_run
    from deitkit.weights import load_model as load_model
    from deitkit.weights import upscale as upscale

__version__ = "0.1.0"

_PUBLIC = {
    "DeitkitError": "deitkit.errors",
    "Recipe": "deitkit.schema",
    "load_recipe": "deitkit.recipe",
    "Run": "deitkit.run",
    "Heads": "deitkit.model",
    "Student": "deitkit.model",
    "Tokens": "deitkit.model",
    "load_model": "deitkit.weights",
    "upscale": "deitkit.weights",
    "Predictions": "deitkit.predictions",
    "train_run": "deitkit.train",
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
