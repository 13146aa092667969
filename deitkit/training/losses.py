"""Training losses: cross-entropy on mixed labels, and distillation (DeiT Sec. 4, eq. 2 and 3). Runs no networks.

Legend: B batch, K classes. Every loss is a mean over B, except where a reduction says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from deitkit.training.class_terms import ClassTerms

Reduction = Literal["batchmean", "numel"]
NO_TERMS = ClassTerms()


@dataclass(frozen=True)
class Terms:
    """A step's loss: `total` = class_weight * label + distillation_weight * distillation. Scalars."""

    total: Tensor
    label: Tensor
    distillation: Tensor | None


def full_precision(logits: Tensor) -> Tensor:
    """Half-precision logits as float32, others as they are: a log-softmax over K classes needs the digits."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def label_loss(logits: Tensor, targets: Tensor, terms: ClassTerms = NO_TERMS) -> Tensor:
    """Cross-entropy of logits [B, K] with label distributions [B, K], summed over K, averaged over B.

    `terms` may weigh each class's part (the mean stays over B, as torch's for distributions), and shift the logits.
    """
    logits = full_precision(logits)
    logits = logits if terms.shift is None else logits + terms.shift
    targets = targets if terms.weights is None else targets * terms.weights
    return -(targets * F.log_softmax(logits, dim=-1)).sum(dim=-1).mean()


def soft_distillation(
    logits: Tensor, teacher_logits: Tensor, *, tau: float, reduction: Reduction = "batchmean"
) -> Tensor:
    """tau**2 * KL(teacher || student) at temperature tau, both [B, K] (eq. 2's last term).

    "batchmean": summed over K, averaged over B, as in the paper. "numel": averaged over B and K, as in the
    reference code (K times smaller). Eq. 2 writes KL(student, teacher); the reference code computes
    KL(teacher || student), and so does this.
    """
    student = F.log_softmax(full_precision(logits) / tau, dim=-1)
    teacher = F.log_softmax(full_precision(teacher_logits) / tau, dim=-1)
    kl = F.kl_div(student, teacher, reduction="sum", log_target=True) * tau**2
    return kl / (logits.numel() if reduction == "numel" else logits.shape[0])


def hard_distillation(logits: Tensor, teacher_labels: Tensor) -> Tensor:
    """Cross-entropy of logits [B, K] with the teacher's decisions [B], never smoothed; mean over B (eq. 3)."""
    return F.cross_entropy(full_precision(logits), teacher_labels)


def combine(label: Tensor, distillation: Tensor | None, *, class_weight: float, distillation_weight: float) -> Terms:
    """Weigh the two terms: eq. 2 with weights 1 - lambda and lambda, eq. 3 with one half each."""
    total = class_weight * label
    if distillation is not None:
        total = total + distillation_weight * distillation
    return Terms(total, label, distillation)
