"""Schedule, optimiser groups and EMA against timm and the formulas."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler.cosine_lr import CosineLRScheduler

from deitkit.errors import DeitkitError
from deitkit.models.freeze import freeze
from deitkit.models.student import build_student
from deitkit.recipe.schema import Model, Recipe
from deitkit.training.fit import train_run
from deitkit.training.optim import Ema, build_optimizer, learning_rate, parameter_groups, set_rate
from tests.training.test_fit import Crash, CrashAt, assert_equal, comparable, tiny

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


# Rates


@pytest.mark.parametrize("model", [Model(name="deit_nano", distilled=True), Model(name="timm:resnet10t", drop_path=0)])
def test_layer_decay_gives_each_parameter_the_rate_and_decay_that_timm_gives_it(model: Model) -> None:
    student = build_student(model, 10)
    spec = recipe(optim={"layer_decay": 0.65, "weight_decay": 0.3, "lr_scaling": "none"})
    theirs = create_optimizer_v2(student.network, opt="adamw", lr=spec.peak_lr, weight_decay=0.3, layer_decay=0.65)
    expected = {id(p): (g["lr_scale"], g["weight_decay"]) for g in theirs.param_groups for p in g["params"]}
    optimizer = build_optimizer(student, spec, CPU)
    set_rate(optimizer, 0.5)
    ours = {id(p): (g["lr"] * 2, g["weight_decay"]) for g in optimizer.param_groups for p in g["params"]}
    assert ours == expected


def test_layer_decay_is_a_power_of_the_layers_behind() -> None:
    student = build_student(Model(name="deit_nano", distilled=True), 10)
    depth = len(student.network.blocks)
    optimizer = build_optimizer(student, recipe(optim={"layer_decay": 0.5, "head_lr_scale": 10.0}), CPU)
    scales = {id(p): group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
    own = {name: scales[id(p)] for name, p in student.network.named_parameters()}
    assert own["head.weight"] == own["head_dist.bias"] == 10.0
    assert own["norm.weight"] == own[f"blocks.{depth - 1}.attn.qkv.weight"] == 0.5
    assert own["blocks.0.mlp.fc1.bias"] == 0.5**depth
    assert own["dist_token"] == own["pos_embed"] == own["patch_embed.proj.weight"] == 0.5 ** (depth + 1)


def test_the_head_scale_multiplies_the_classifiers_rate_and_moves_no_decay() -> None:
    student = build_student(Model(name="deit_nano"), 10)
    names = {id(parameter): name for name, parameter in student.network.named_parameters()}
    optimizer = build_optimizer(student, recipe(optim={"head_lr_scale": 3.0}), CPU)
    set_rate(optimizer, 0.1)
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    heads = {"head.weight", "head.bias"}
    assert [rates.pop(name) for name in heads] == pytest.approx([0.3, 0.3])
    assert set(rates.values()) == {0.1}
    decayed = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert (decayed["head.weight"], decayed["head.bias"]) == (0.05, 0)


def test_without_them_the_groups_are_todays() -> None:
    student = build_student(Model(name="deit_nano", distilled=True), 10)
    groups = parameter_groups(student, recipe())
    assert [(sorted(group), group["weight_decay"]) for group in groups] == [
        (["params", "weight_decay"], 0.0), (["params", "weight_decay"], 0.05)
    ]  # fmt: skip


def test_muon_leaves_tokens_positions_and_classifier_to_its_adamw() -> None:
    student = build_student(Model(name="deit_nano", distilled=True, image_size=32), 20)
    optimizer = build_optimizer(student, recipe(optim={"name": "muon"}), CPU)
    heads = student(torch.randn(2, 3, 32, 32))
    (heads.classes.sum() + heads.distillation.sum()).backward()
    optimizer.step()
    by_muon = {
        name for name, p in student.network.named_parameters() if "momentum_buffer" in optimizer.state.get(p, {})
    }
    assert {"blocks.0.attn.qkv.weight", "blocks.3.mlp.fc2.weight", "patch_embed.proj.weight"} <= by_muon
    assert not by_muon & {"head.weight", "head_dist.weight", "cls_token", "dist_token", "pos_embed", "norm.weight"}


@pytest.mark.parametrize("name", ["lion", "nadamw", "adafactor", "muon"])
def test_a_crashed_run_of_each_optimiser_resumes_to_the_last_bit(name: str, tmp_path: Path) -> None:
    spec = tiny(optim={"name": name, "layer_decay": 0.8}, train={"accumulation": 1, "epochs": 1})
    unbroken = train_run(spec, tmp_path / "unbroken", device="cpu").run
    with pytest.raises(Crash):
        train_run(spec, tmp_path / "run", device="cpu", observer=CrashAt(4))
    resumed = train_run(spec, tmp_path / "run", device="cpu", resume=True).run
    assert_equal(comparable(resumed), comparable(unbroken))


@pytest.mark.parametrize("value", [0, 1.2, -0.5])
def test_a_layer_decay_that_is_none_is_refused_by_name(value: float) -> None:
    with pytest.raises(DeitkitError) as caught:
        tiny(optim={"layer_decay": value})
    assert caught.value.problems[0].startswith("optim.layer_decay: ")
