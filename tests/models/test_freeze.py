"""What learns and what is held: names against the architectures, weights and running statistics to the last bit."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from deitkit.errors import DeitkitError
from deitkit.models.freeze import Frozen, freeze, last_norms
from deitkit.models.student import Student, build_student, rebuild_student
from deitkit.recipe.resolve import FREEZE
from deitkit.recipe.schema import Model, Parts, Recipe, Train
from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint
from deitkit.training.fit import train_run
from deitkit.training.losses import label_loss
from deitkit.training.optim import Ema, build_optimizer
from tests.training.test_fit import Crash, CrashAt, assert_equal, comparable, tiny

CPU = torch.device("cpu")
SMALL = {"channels": [8, 8, 16, 16], "stem_width": 8}
CONVNET = Model(name="timm:resnet10t", image_size=16, drop_path=0.5, dropout=0.5, options=SMALL)
DEIT = Model(name="deit_nano", distilled=True, image_size=16, drop_path=0.5, dropout=0.5)
# The small ResNet has one block a stage: its branch's norm and its shortcut's are added before the pooling.
LAST = {"timm:resnet10t": {"layer4.0.bn2", "layer4.0.downsample.2"}, "deit_nano": {"norm"}}
CLASSIFIER = {"timm:resnet10t": {"fc"}, "deit_nano": {"head", "head_dist"}}
PARTS: list[Parts] = ["classifier", "classifier+last_norm"]


def learning(model: Model, parts: Parts) -> set[str]:
    """Modules that learn, from the tables above."""
    return CLASSIFIER[model.name] | (LAST[model.name] if parts == "classifier+last_norm" else set())


def state_of(student: Student) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in student.network.state_dict().items()}


def train_a_little(student: Student, *, module: nn.Module | None = None, steps: int = 4, **optim: Any) -> None:
    """Steps with momentum and weight decay, with evaluations in between as in `fit`."""
    spec = Recipe.model_validate({"model": {"name": "deit_nano"}, "optim": {"lr": 0.1, "lr_scaling": "none", **optim}})
    optimizer = build_optimizer(student, spec, CPU)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        student.train() if step % 2 else student.eval().train()
        images = torch.randn(8, 3, 16, 16, generator=generator) * 2 + 1
        heads = (module or student)(images)
        targets = torch.eye(10)[torch.arange(8) % 10]
        loss = label_loss(heads.classes, targets)
        if heads.distillation is not None:
            loss = loss + label_loss(heads.distillation, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


# What learns


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("resnet50", ["layer4.2.bn3"]),  # what the authors' FixRes code names
        ("efficientnet_b0", ["bn2"]),  # likewise
        ("regnety_160", ["s4.b1.conv3.bn", "s4.b1.downsample.bn"]),  # its last stage is one block
        ("regnety_040", ["s4.b2.conv3.bn"]),
        ("seresnet50", ["layer4.2.bn3"]),
        ("vit_small_patch16_224", ["norm"]),
        ("deit_small_distilled_patch16_224", ["norm"]),
        ("convnext_tiny", ["head.norm"]),
    ],
)  # fmt: skip
def test_the_last_norm_is_the_one_before_the_pooling(architecture: str, expected: list[str]) -> None:
    with torch.device("meta"):
        student = rebuild_student(architecture, {"num_classes": 10, "drop_path_rate": 0.1})
    assert list(last_norms(student)) == expected


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("model", [CONVNET, DEIT], ids=["convnet", "deit"])
def test_only_the_parts_named_have_gradients_and_the_report_counts_them(model: Model, parts: Parts) -> None:
    student = build_student(model, 10)
    report = freeze(student, parts)
    expected = {
        name: parameter
        for name, parameter in student.network.named_parameters()
        if name.rpartition(".")[0] in learning(model, parts)
    }
    assert set(report.names) == set(expected)
    assert {name for name, p in student.network.named_parameters() if p.requires_grad} == set(expected)
    assert report.learning == sum(p.numel() for p in expected.values())
    assert report.total == sum(p.numel() for p in student.parameters())
    assert f"{report.learning:,} of {report.total:,}" in report.summary()
    assert all(module in report.summary() for module in learning(model, parts))


# The names of what learns, written out for a transformer of two blocks and for the small ResNet.
HEADS = {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
NORMS = {f"{norm}.{part}" for norm in ("norm", *(f"blocks.{b}.norm{n}" for b in (0, 1) for n in (1, 2)))
         for part in ("weight", "bias")}  # fmt: skip
BIASES = {"patch_embed.proj.bias"} | {
    f"blocks.{b}.{layer}.bias" for b in (0, 1) for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
}
ATTENTION = {f"blocks.{b}.attn.{layer}.{p}" for b in (0, 1) for layer in ("qkv", "proj") for p in ("weight", "bias")}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [("norms+biases", NORMS | BIASES | HEADS), ("attention", ATTENTION | HEADS)],
)  # fmt: skip
def test_what_learns_throughout_a_transformer(parts: Parts, expected: set[str]) -> None:
    student = build_student(DEIT.model_copy(update={"options": {"depth": 2}}), 10)
    assert set(freeze(student, parts).names) == expected
    student.train()(torch.randn(4, 3, 16, 16))
    assert all(module.training for module in student.modules())  # stochastic depth and dropout, too


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_last_blocks_learn_with_their_stochastic_depth_and_the_rest_is_held(blocks: int) -> None:
    deit, convnet = build_student(DEIT.model_copy(update={"options": {"depth": 3}}), 10), build_student(CONVNET, 10)
    last = ["norm.", "head", *(f"blocks.{3 - back}." for back in range(1, blocks + 1))]
    stages = ["fc.", *(f"layer{4 - back}." for back in range(blocks))]
    for student, prefixes in ((deit, last), (convnet, stages)):
        names = [name for name, _ in student.network.named_parameters()]
        report = freeze(student, "blocks", train=Train(blocks=blocks))
        assert report.names == tuple(name for name in names if name.startswith(tuple(prefixes)))
        student.train()(torch.randn(4, 3, 16, 16))
    assert deit.network.blocks[2].drop_path1.training
    assert not deit.network.blocks[0].drop_path1.training
    assert int(convnet.network.layer4[0].bn1.num_batches_tracked) == 1
    assert int(convnet.network.bn1.num_batches_tracked) == 0


def test_batch_norms_that_learn_move_their_statistics_too() -> None:
    student = build_student(CONVNET, 10)
    report = freeze(student, "norms+biases")
    vectors = {name for name, parameter in student.network.named_parameters() if parameter.ndim == 1}
    assert set(report.names) == vectors | {"fc.weight"}
    student.train()(torch.randn(8, 3, 16, 16))
    assert int(student.network.bn1.num_batches_tracked) == 1


@pytest.mark.parametrize(("model", "parts", "words"), [
    (CONVNET, "attention", "no attention"), (CONVNET, "blocks", "has 4 blocks"), (DEIT, "blocks", "blocks"),
])  # fmt: skip
def test_a_part_that_the_model_does_not_have_is_refused(model: Model, parts: Parts, words: str) -> None:
    with pytest.raises(DeitkitError, match=words) as caught:
        freeze(build_student(model, 10), parts, train=Train(blocks=50))
    assert "train.parts=" in caught.value.remedy


def test_each_way_has_a_name_by_which_the_command_line_freezes_the_rest() -> None:
    assert sorted(FREEZE.values()) == sorted(get_args(Parts))


def test_more_blocks_than_a_model_of_the_catalog_has_are_refused_before_it_is_built() -> None:
    with pytest.raises(DeitkitError) as caught:
        tiny(train={"parts": "blocks", "blocks": 3})
    assert caught.value.problems[0].startswith("train.blocks 3 is more than the 2 blocks of deit_nano")


def test_all_is_what_it_was_before_there_was_a_choice() -> None:
    student = build_student(CONVNET, 10)
    report = freeze(student, "all")
    assert report.learning == report.total
    assert all(parameter.requires_grad for parameter in student.parameters())
    student.train()(torch.randn(8, 3, 16, 16))
    assert all(module.training for module in student.modules())


@pytest.mark.parametrize(("architecture", "parts"), [("vgg11", "classifier+last_norm"), ("resnet18", "classifier")])
def test_a_net_without_what_should_learn_is_refused(architecture: str, parts: Parts) -> None:
    with torch.device("meta"):
        student = rebuild_student(architecture, {"num_classes": 10})
    if parts == "classifier":
        student.network.reset_classifier(0)
    with pytest.raises(DeitkitError, match="that could learn") as caught:
        freeze(student, parts)
    assert "train.parts=" in caught.value.remedy


# What is held


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("model", [CONVNET, DEIT], ids=["convnet", "deit"])
@pytest.mark.parametrize("optim", [{"name": "adamw", "weight_decay": 0.5}, {"name": "sgd", "weight_decay": 0.1}])
def test_everything_outside_the_parts_stays_equal_to_the_last_bit(
    model: Model, parts: Parts, optim: dict[str, Any]
) -> None:
    student = build_student(model, 10)
    freeze(student, parts)
    before = state_of(student)
    train_a_little(student, **optim)
    changed = {key for key, value in state_of(student).items() if not torch.equal(value, before[key])}
    assert changed == {key for key in before if key.rpartition(".")[0] in learning(model, parts)}


def test_the_last_batch_norm_alone_moves_its_statistics_as_batch_norm_does() -> None:
    student = build_student(CONVNET, 10)
    freeze(student, "classifier+last_norm")
    norm = student.network.layer4[0].bn2
    seen: list[Tensor] = []
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    mean, var = norm.running_mean.clone(), norm.running_var.clone()
    for _ in range(3):
        student.train()(torch.randn(8, 3, 32, 32))
        mean = 0.9 * mean + 0.1 * seen[-1].mean(dim=(0, 2, 3))
        var = 0.9 * var + 0.1 * seen[-1].var(dim=(0, 2, 3), unbiased=True)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    others = [m for m in student.modules() if isinstance(m, nn.BatchNorm2d) and m.num_batches_tracked == 0]
    assert len(others) == sum(isinstance(m, nn.BatchNorm2d) for m in student.modules()) - 2


@pytest.mark.parametrize("model", [CONVNET, DEIT], ids=["convnet", "deit"])
def test_a_frozen_net_answers_in_training_as_in_evaluation(model: Model) -> None:
    student = build_student(model, 10)
    freeze(student, "classifier")
    images = torch.randn(4, 3, 16, 16)
    assert torch.equal(student.train()(images).classes, student.eval()(images).classes)


def test_no_gradient_is_worked_out_for_what_is_frozen() -> None:
    student = build_student(CONVNET, 10)
    freeze(student, "classifier+last_norm")
    reached: list[bool] = []
    student.network.layer3.register_forward_hook(lambda module, inputs, output: reached.append(output.requires_grad))
    student.train()(torch.randn(4, 3, 32, 32))
    assert reached == [False]


# With the rest of a run


def test_a_copy_is_held_by_itself_and_the_average_of_a_frozen_weight_is_that_weight() -> None:
    student = build_student(CONVNET, 10)
    freeze(student, "classifier+last_norm")
    ema = Ema(student, decay=0.7)
    before = state_of(student)
    train_a_little(student)
    ema.update(student)
    for key, value in ema.student.network.state_dict().items():
        assert torch.equal(value, before[key]) or key.rpartition(".")[0] in learning(CONVNET, "classifier+last_norm")
    twin = copy.deepcopy(student)
    twin.train()(torch.randn(2, 3, 16, 16))
    assert not twin.network.layer1[0].bn1.training
    assert twin.network.layer4[0].bn2.training


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_distributed_training_takes_a_frozen_student(one_rank: None) -> None:
    alone, shared = build_student(CONVNET, 10), build_student(CONVNET, 10)
    for student in (alone, shared):
        freeze(student, "classifier+last_norm")
    train_a_little(alone)
    train_a_little(shared, module=DistributedDataParallel(shared))
    assert_equal(state_of(shared), state_of(alone))


def fixres(**changes: Any) -> Recipe:
    """A small FixRes run on real digits, with an average and two accumulation parts."""
    return tiny(
        model={**CONVNET.model_dump(), "distilled": False}, loss={"second_token": "teacher"},
        train={"parts": "classifier+last_norm"}, **changes,
    )  # fmt: skip


def test_a_run_keeps_what_is_frozen_and_a_crashed_one_resumes_to_the_last_bit(tmp_path: Path) -> None:
    unbroken = train_run(fixres(), tmp_path / "unbroken", device="cpu").run
    with pytest.raises(Crash):
        train_run(fixres(), tmp_path / "run", device="cpu", observer=CrashAt(4))
    resumed = train_run(fixres(), tmp_path / "run", device="cpu", resume=True).run
    assert_equal(comparable(resumed), comparable(unbroken))
    last = load_checkpoint(list_checkpoints(unbroken.checkpoints)[-1])
    began = build_student(CONVNET, 10).network.state_dict()
    changed = {key.rpartition(".")[0] for key, value in last.model.items() if not torch.equal(value, began[key])}
    assert changed == learning(CONVNET, "classifier+last_norm")
    assert {key for key in last.state["ema"] if not torch.equal(last.state["ema"][key], began[key])}
    assert unbroken.recipe().train.parts == "classifier+last_norm"


def test_a_run_that_goes_on_may_not_change_what_learns(tmp_path: Path) -> None:
    with pytest.raises(Crash):
        train_run(fixres(), tmp_path / "run", device="cpu", observer=CrashAt(1))
    with pytest.raises(DeitkitError) as caught:
        train_run(
            fixres().model_copy(update={"train": fixres().train.model_copy(update={"parts": "classifier"})}),
            tmp_path / "run", device="cpu", resume=True,
        )  # fmt: skip
    assert any("train.parts" in problem for problem in caught.value.problems)


def test_a_report_says_what_learns() -> None:
    report = Frozen("classifier", ("fc.weight", "fc.bias"), 1_010, 20_000)
    assert report.summary().startswith("train.parts = classifier: fc learn, 1,010 of 20,000 parameters")
