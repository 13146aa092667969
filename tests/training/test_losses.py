"""Losses against the paper's equations written out in float64 with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deitkit.teachers.output import hard_labels
from deitkit.training.losses import combine, hard_distillation, label_loss, soft_distillation

B, K, TAU, LAMBDA = 7, 11, 3.0, 0.1


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(B, K, dtype=torch.float64) * 3


@pytest.fixture
def teacher_logits() -> torch.Tensor:
    return torch.randn(B, K, dtype=torch.float64) * 3


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(z: np.ndarray, targets: np.ndarray) -> float:
    return float(-(targets * np.log(softmax(z))).sum(axis=1).mean())


def kl_teacher_student(z_student: np.ndarray, z_teacher: np.ndarray, tau: float) -> np.ndarray:
    """KL(teacher || student) of each image, at temperature tau."""
    p, q = softmax(z_teacher / tau), softmax(z_student / tau)
    return (p * (np.log(p) - np.log(q))).sum(axis=1)


def test_label_loss_equals_cross_entropy_with_distributions(logits: torch.Tensor) -> None:
    targets = torch.rand(B, K, dtype=torch.float64).softmax(dim=1)
    assert label_loss(logits, targets).item() == pytest.approx(
        cross_entropy(logits.numpy(), targets.numpy()), rel=1e-12
    )


def test_soft_loss_equals_equation_2(logits: torch.Tensor, teacher_logits: torch.Tensor) -> None:
    targets = torch.eye(K, dtype=torch.float64)[torch.arange(B)]
    z, zt = logits.numpy(), teacher_logits.numpy()
    expected = (1 - LAMBDA) * cross_entropy(z, targets.numpy()) + LAMBDA * TAU**2 * kl_teacher_student(
        z, zt, TAU
    ).mean()
    terms = combine(
        label_loss(logits, targets),
        soft_distillation(logits, teacher_logits, tau=TAU),
        class_weight=1 - LAMBDA,
        distillation_weight=LAMBDA,
    )
    assert terms.total.item() == pytest.approx(expected, rel=1e-12)


def test_hard_loss_equals_equation_3(logits: torch.Tensor, teacher_logits: torch.Tensor) -> None:
    labels = torch.arange(B)
    eye = np.eye(K)
    z = logits.numpy()
    expected = 0.5 * cross_entropy(z, eye[:B]) + 0.5 * cross_entropy(z, eye[teacher_logits.numpy().argmax(axis=1)])
    terms = combine(
        label_loss(logits, torch.eye(K, dtype=torch.float64)[labels]),
        hard_distillation(logits, hard_labels(teacher_logits)),
        class_weight=0.5,
        distillation_weight=0.5,
    )
    assert terms.total.item() == pytest.approx(expected, rel=1e-12)


def test_the_kl_runs_from_teacher_to_student(logits: torch.Tensor, teacher_logits: torch.Tensor) -> None:
    backwards = soft_distillation(teacher_logits, logits, tau=TAU).item()
    assert soft_distillation(logits, teacher_logits, tau=TAU).item() != pytest.approx(backwards, rel=1e-3)


def test_numel_reduction_is_the_batch_mean_over_classes(logits: torch.Tensor, teacher_logits: torch.Tensor) -> None:
    whole = soft_distillation(logits, teacher_logits, tau=TAU)
    reference = soft_distillation(logits, teacher_logits, tau=TAU, reduction="numel")
    assert reference.item() == pytest.approx(whole.item() / K, rel=1e-12)
    assert reference.item() == pytest.approx(
        float(kl_teacher_student(logits.numpy(), teacher_logits.numpy(), TAU).sum() * TAU**2 / (B * K)), rel=1e-12
    )


def test_a_student_that_equals_its_teacher_has_no_soft_loss(logits: torch.Tensor) -> None:
    assert soft_distillation(logits, logits.clone(), tau=TAU).item() == pytest.approx(0.0, abs=1e-12)


def test_terms_are_reported_before_weighing(logits: torch.Tensor) -> None:
    terms = combine(torch.tensor(2.0), torch.tensor(4.0), class_weight=0.25, distillation_weight=0.5)
    assert (terms.label.item(), terms.distillation.item(), terms.total.item()) == (2.0, 4.0, 2.5)
