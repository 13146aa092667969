"""What the arrays of the measures are called, once for all of them: N images, K classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]  # [N], from 0
Decisions = NDArray[np.int64]  # [N], the most probable classes
Hits = NDArray[np.bool_]  # [N], whether a decision is the label
Logits = NDArray[Any]  # [N, K], of any precision; log-probabilities are logits, too
