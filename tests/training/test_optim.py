"""Schedule, optimiser groups and EMA against timm and the formulas."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from timm.scheduler.cosine_lr import CosineLRScheduler

from deitkit.models.freeze import freeze
from deitkit.models.student import build_student
from deitkit.recipe.schema import Model, Recipe
from deitkit.training.optim import Ema, build_optimizer, learning_rate

CPU = torch.device("cpu")


def recipe(**tables: dict[str, object]) -> Recipe:
    values = {"model": {"name": "deit_nano"}, "train": {"epochs": 20}, **tables}
    return Recipe.model_validate(values)


def test_the_schedule_is_timms_cosine_stepped_every_update() -> None:
    spec, per_epoch = recipe(), 7
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=spec.peak_lr)
    theirs = CosineLRScheduler(
        optimizer, t_initial=20 * per_epoch, lr_min=1e-5, warmup_t=5 * per_epoch, warmup_lr_init=1e-6,
        t_in_epochs=False,
    )  # fmt: skip
    for step in range(20 * per_epoch):
        theirs.step_update(step)
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(spec, step, steps_per_epoch=per_epoch) == pytest.approx(expected, rel=1e-12), step


def test_the_rate_is_scaled_with_the_batch_and_min_lr_is_not() -> None:
    spec = recipe(optim={"lr": 5e-4}, stream={"batch_size": 1024}, schedule={"warmup_epochs": 0.0})
    assert learning_rate(spec, 0, steps_per_epoch=10) == pytest.approx(1e-3)
    assert learning_rate(spec, 200, steps_per_epoch=10) == pytest.approx(1e-5)


def test_flat_means_flat() -> None:
    spec = recipe(optim={"lr": 5e-6, "lr_scaling": "none"}, schedule={"warmup_epochs": 0.0, "min_lr": "lr"})
    assert {learning_rate(spec, step, steps_per_epoch=10) for step in range(200)} == {5e-6}


def test_biases_norms_tokens_and_positions_do_not_decay() -> None:
    student = build_student(Model(name="deit_nano", distilled=True), 10)
    names = {id(parameter): name for name, parameter in student.network.named_parameters()}
    groups = build_optimizer(student, recipe(), CPU).param_groups
    exempt = {names[id(p)] for group in groups if group["weight_decay"] == 0 for p in group["params"]}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] == 0.05 for p in group["params"]}
    assert {"pos_embed", "cls_token", "dist_token", "head.bias", "blocks.0.norm1.weight"} <= exempt
    assert {"head.weight", "patch_embed.proj.weight", "blocks.3.attn.qkv.weight"} <= decayed
    assert exempt | decayed == set(names.values())


def test_only_what_learns_is_optimised_and_decays_by_the_same_rules() -> None:
    student = build_student(Model(name="deit_nano", distilled=True), 10)
    freeze(student, "classifier+last_norm")
    names = {id(parameter): name for name, parameter in student.network.named_parameters()}
    for name, weight_decay in product(("adamw", "sgd"), (0.05, 0.0)):
        groups = build_optimizer(student, recipe(optim={"name": name, "weight_decay": weight_decay}), CPU).param_groups
        decays = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
        heads = dict.fromkeys(("head.weight", "head_dist.weight"), weight_decay)
        rest = dict.fromkeys(("head.bias", "head_dist.bias", "norm.weight", "norm.bias"), 0)
        assert decays == heads | rest


def test_ema_equals_the_formula() -> None:
    student = build_student(Model(name="deit_nano"), 10)
    ema = Ema(student, decay=0.9)
    first = student.network.head.weight.detach().clone()
    with torch.no_grad():
        student.network.head.weight.add_(1.0)
    ema.update(student)
    torch.testing.assert_close(ema.student.network.head.weight, 0.9 * first + 0.1 * (first + 1.0))
    ema.update(student)
    torch.testing.assert_close(ema.student.network.head.weight, first + 1.0 - 0.81)


def test_ema_copies_batch_norm_statistics() -> None:
    student = build_student(Model(name="timm:resnet10t", drop_path=0.0), 10)
    ema = Ema(student, decay=0.9)
    student.train()(torch.randn(4, 3, 32, 32))
    ema.update(student)
    for (name, ours), theirs in zip(ema.student.named_buffers(), student.buffers(), strict=True):
        assert torch.equal(ours, theirs), name
