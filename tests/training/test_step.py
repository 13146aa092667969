"""One step: which loss falls on which head, the noise of a part, and accumulation as one batch."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch

from deitkit.data.views.loader import Batch
from deitkit.distributed import World
from deitkit.errors import DeitkitError
from deitkit.models.student import Heads
from deitkit.teachers.output import TeacherOutput
from deitkit.training.losses import hard_distillation, label_loss, soft_distillation
from deitkit.training.step import build, loss_terms, noise_seed, train_step
from tests.training.test_fit import tiny

B, K = 8, 10
CPU = torch.device("cpu")


def batch(lam: float = 0.7) -> Batch:
    labels = torch.arange(B) % K
    return Batch(torch.randn(B, 3, 16, 16), labels, labels.flip(0), torch.full((B,), lam), B)


def heads(*, distilled: bool = True) -> Heads:
    return Heads(torch.randn(B, K), torch.randn(B, K) if distilled else None)


def taught(**teacher: Any) -> dict[str, Any]:
    return {"teacher": {"model": "runs/t", **teacher}, "loss": {"second_token": "teacher"}}


def test_hard_token_distillation_weighs_both_heads_alike_and_smooths_only_true_labels() -> None:
    spec, answer, views, logits = tiny(**taught()), heads(), batch(), torch.randn(B, K)
    expected = 0.5 * label_loss(answer.classes, views.targets(K, 0.1))
    assert answer.distillation is not None
    expected = expected + 0.5 * hard_distillation(answer.distillation, logits.argmax(1))
    torch.testing.assert_close(loss_terms(answer, views, TeacherOutput.of_logits(logits), spec).total, expected)


def test_soft_token_distillation_is_equation_2() -> None:
    spec = tiny(**taught(labels="soft", tau=3.0, weight=0.1))
    answer, views, logits = heads(), batch(), torch.randn(B, K)
    assert answer.distillation is not None
    expected = 0.9 * label_loss(answer.classes, views.targets(K, 0.1))
    expected = expected + 0.1 * soft_distillation(answer.distillation, logits, tau=3.0)
    torch.testing.assert_close(loss_terms(answer, views, TeacherOutput.of_logits(logits), spec).total, expected)


def test_usual_distillation_puts_both_terms_on_the_class_head() -> None:
    spec = tiny(**taught(), model={"distilled": False})
    answer, views, logits = heads(distilled=False), batch(), torch.randn(B, K)
    expected = 0.5 * label_loss(answer.classes, views.targets(K, 0.1))
    expected = expected + 0.5 * hard_distillation(answer.classes, logits.argmax(1))
    torch.testing.assert_close(loss_terms(answer, views, TeacherOutput.of_logits(logits), spec).total, expected)


def test_the_control_gives_both_tokens_the_same_target() -> None:
    answer, views = heads(), batch()
    assert answer.distillation is not None
    targets = views.targets(K, 0.1)
    expected = 0.5 * label_loss(answer.classes, targets) + 0.5 * label_loss(answer.distillation, targets)
    torch.testing.assert_close(loss_terms(answer, views, None, tiny()).total, expected)


def test_the_class_heads_weight_is_exposed() -> None:
    spec = tiny(teacher={"model": "runs/t"}, loss={"second_token": "teacher", "class_weight": 0.2})
    answer, views, logits = heads(), batch(), torch.randn(B, K)
    terms = loss_terms(answer, views, TeacherOutput.of_logits(logits), spec)
    assert terms.distillation is not None
    torch.testing.assert_close(terms.total, 0.2 * terms.label + 0.5 * terms.distillation)


def test_every_step_rank_and_part_has_its_own_noise() -> None:
    seeds = [noise_seed(*place) for place in product((0, 1), range(20), range(4), range(4))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_stochastic_mask_differs_between_accumulation_parts() -> None:
    spec = tiny(model={"drop_path": 0.5})
    training = build(spec, world=World(), device=CPU, workers=0)
    masks: list[list[torch.Tensor]] = []
    student = training.student.train()

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        masks[-1].append((output.detach() != 0).flatten(1).any(dim=1))

    for name, module in student.named_modules():
        if name.endswith("blocks.1.drop_path1"):
            module.register_forward_hook(note)
    student.register_forward_pre_hook(lambda module, inputs: masks.append([]))
    parts = next(training.loader.steps(0, 1))
    assert len(parts) == 2
    train_step(training, parts)
    first, second = (torch.cat(found) for found in masks)
    assert first.any() and not first.all()
    assert not torch.equal(first, second)


@pytest.mark.parametrize("accumulation", [2, 3, 6])
def test_accumulation_gives_the_same_gradients_as_one_batch(accumulation: int) -> None:
    quiet = {"model": {"dropout": 0.0, "drop_path": 0.0}}
    gradients = []
    for parts in (1, accumulation):
        training = build(tiny(**quiet, train={"accumulation": parts}), world=World(), device=CPU, workers=0)
        training.student.train()
        training.optimizer.step = lambda: None  # type: ignore[method-assign, assignment]
        train_step(training, next(training.loader.steps(0, 1)))
        gradients.append([p.grad.clone() for p in training.student.parameters() if p.grad is not None])
    for one, several in zip(*gradients, strict=True):
        torch.testing.assert_close(one, several, rtol=1e-3, atol=1e-6)


def test_decisions_without_logits_are_enough_for_hard_distillation() -> None:
    spec, answer, views, logits = tiny(**taught()), heads(), batch(), torch.randn(B, K)
    known = [TeacherOutput.of_logits(logits), TeacherOutput(logits.argmax(1), None)]
    whole, alone = (loss_terms(answer, views, answers, spec).total for answers in known)
    assert torch.equal(whole, alone)


def test_parts_that_would_cut_the_teachers_chunks_are_refused_before_anything_is_opened() -> None:
    spec = tiny(**taught(chunk=2))  # 6 groups in 2 accumulation parts
    with pytest.raises(DeitkitError, match=r"teacher\.chunk 2 does not divide"):
        build(spec, world=World(), device=CPU, workers=0)
