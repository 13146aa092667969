"""A classifier's scores as logits: probabilities recognised and turned round, and what is not finite found.

Legend: B batch, K classes. Runs no network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deitkit.errors import DeitkitError

FLOOR = 1e-12  # of a probability relative to its row's largest, before the logarithm
TOLERANCE = 1e-3  # of a row's sum
LOOK_EVERY = 50  # batches: reading a flag makes the host wait for the device


def are_probabilities(scores: Tensor) -> bool:
    """Whether every row [K] of scores [B, K] lies within 0..1 and sums to 1."""
    within = (scores.min() >= 0) & (scores.max() <= 1 + TOLERANCE)
    return bool(within & ((scores.sum(dim=-1) - 1).abs().max() <= TOLERANCE))


def log_probabilities(probabilities: Tensor) -> Tensor:
    """Probabilities [B, K] -> logits [B, K], a row's largest being 0.

    Divided by the largest first: the logarithm of two close probabilities may round to one number, that of their
    quotient does not. So hard labels, ties among them, stay what they are.
    """
    probabilities = probabilities.float()
    return (probabilities / probabilities.amax(dim=-1, keepdim=True)).clamp_min(FLOOR).log()


class FiniteCheck:
    """Refuses a teacher whose answers are not finite: on the CPU each batch, elsewhere every 50th.

    Elsewhere a look at the answers would make the host wait for the device at each step. So the batches' flags are
    joined on the device and looked at now and then; `look` does it now, and belongs before anything is saved.
    """

    def __init__(self, reference: str, *, every: int | None = None) -> None:
        """`every` batches, by default what the device affords."""
        self.reference, self.every = reference, every
        self.finite: Tensor | None = None
        self.unseen = 0

    def __call__(self, logits: Tensor) -> None:
        """Take note of a batch's logits [B, K].

        Raises:
            DeitkitError: these, or earlier ones, are not finite.
        """
        finite = torch.isfinite(logits).all()
        self.finite = finite if self.finite is None else self.finite & finite
        self.unseen += 1
        if self.unseen >= (self.every or (1 if logits.device.type == "cpu" else LOOK_EVERY)):
            self.look()

    def look(self) -> None:
        """Wait for the device, and refuse what is not finite.

        Raises:
            DeitkitError: since the last look, some logit was NaN or infinite.
        """
        finite, batches = self.finite, self.unseen
        self.finite, self.unseen = None, 0
        if finite is None or bool(finite):
            return
        where = "this batch" if batches == 1 else f"the last {batches} batches"
        raise DeitkitError(
            f"teacher {self.reference} answers with NaN or infinite logits (in {where})",
            value=self.reference,
            remedy="deitkit teacher check looks at it; its weights may be damaged, its input wrongly scaled, or bf16 "
            "too coarse for it: --set train.precision=fp32",
        )
