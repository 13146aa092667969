"""Fusing the two heads better than by the paper's plain sum (DeiT Sec. 4). Opens no file, runs no network.

`fit` holds the two families and fits them to validation labels; `compare` judges them, on images that a fit did not
see, beside the paper's sum and the reference code's average. `FittedFusion` itself is `deitkit.model`'s.
"""

from deitkit.fusion.compare import Comparison, FusionReport, Score, compare_fusions, fit_to, fused_by, name_of
from deitkit.fusion.fit import KINDS, fit_fusion

__all__ = [
    "KINDS", "Comparison", "FusionReport", "Score", "compare_fusions", "fit_fusion", "fit_to", "fused_by", "name_of",
]  # fmt: skip
