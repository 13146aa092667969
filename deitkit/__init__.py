"""deitkit trains, distils, upscales, fine-tunes and explains data-efficient image transformers (DeiT).

The names below load on first use, so that `import deitkit` costs nothing: no torch, no pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from deitkit.version import __version__ as __version__

if TYPE_CHECKING:
    from deitkit.analysis import attention, disagreement, positions, resolutions, tokens, tradeoff
    from deitkit.analysis import errors as _errors
    from deitkit.analysis.report import Report as Report
    from deitkit.errors import DeitkitError as DeitkitError
    from deitkit.models.load import load_model as load_model
    from deitkit.models.load import upscale as upscale
    from deitkit.models.student import Heads as Heads
    from deitkit.models.student import Student as Student
    from deitkit.models.student import Tokens as Tokens
    from deitkit.predictions import classify
    from deitkit.predictions.evaluate import evaluate as evaluate
    from deitkit.predictions.export import export as export
    from deitkit.predictions.find import predictions_of as predictions_of
    from deitkit.predictions.table import Predictions as Predictions
    from deitkit.recipe.load import load_recipe as load_recipe
    from deitkit.recipe.schema import Recipe as Recipe
    from deitkit.runs.folder import Run as Run
    from deitkit.trackers.feed import tracking as tracking
    from deitkit.training.fit import train_run as train_run
    from deitkit.training.train import train as train

    predict = classify.classify
    analyze_attention = attention.analyze
    analyze_disagreement = disagreement.analyze
    analyze_errors = _errors.analyze
    analyze_positions = positions.analyze
    analyze_resolutions = resolutions.analyze
    analyze_tokens = tokens.analyze
    analyze_tradeoff = tradeoff.analyze


# Name -> module, or module:name where it has another one there.
_PUBLIC = {
    "DeitkitError": "deitkit.errors",
    "Recipe": "deitkit.recipe.schema",
    "load_recipe": "deitkit.recipe.load",
    "Run": "deitkit.runs.folder",
    "train": "deitkit.training.train",
    "train_run": "deitkit.training.fit",
    "tracking": "deitkit.trackers.feed",
    "Heads": "deitkit.models.student",
    "Student": "deitkit.models.student",
    "Tokens": "deitkit.models.student",
    "load_model": "deitkit.models.load",
    "upscale": "deitkit.models.load",
    "predict": "deitkit.predictions.classify:classify",
    "evaluate": "deitkit.predictions.evaluate",
    "export": "deitkit.predictions.export",
    "predictions_of": "deitkit.predictions.find",
    "Predictions": "deitkit.predictions.table",
    "Report": "deitkit.analysis.report",
    "analyze_attention": "deitkit.analysis.attention.analyze:analyze",
    "analyze_disagreement": "deitkit.analysis.disagreement.analyze:analyze",
    "analyze_errors": "deitkit.analysis.errors.analyze:analyze",
    "analyze_positions": "deitkit.analysis.positions.analyze:analyze",
    "analyze_resolutions": "deitkit.analysis.resolutions.analyze:analyze",
    "analyze_tokens": "deitkit.analysis.tokens.analyze:analyze",
    "analyze_tradeoff": "deitkit.analysis.tradeoff.analyze:analyze",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'deitkit' has no attribute {name!r}")
    module, _, there = _PUBLIC[name].partition(":")
    value = getattr(import_module(module), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
