"""What a teacher says of a batch: logits or labels, and the labels that the student learns from them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TeacherOutput:
    """A teacher's answers to a batch, given live or replayed from a tape.

    labels [B] int64: its decisions. logits [B, K]: up to a constant an image, so that log-probabilities are logits,
    too; None where only the decisions are known.
    """

    labels: Tensor
    logits: Tensor | None

    @classmethod
    def of_logits(cls, logits: Tensor) -> TeacherOutput:
        """What a live teacher says."""
        return cls(hard_labels(logits), logits)


def hard_labels(teacher_logits: Tensor) -> Tensor:
    """The teacher's decisions: [B, K] -> int64 [B]."""
    return teacher_logits.argmax(dim=-1)
