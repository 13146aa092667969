"""LoRA: where it stands, what learns, and that nobody else ever sees it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import timm
import torch

from deitkit.errors import DeitkitError
from deitkit.models.freeze import freeze, unfreeze
from deitkit.models.load import load_model
from deitkit.models.lora import apart, as_plain, load_training_state, lora_targets, merge, plain_state
from deitkit.models.student import Student, build_student
from deitkit.recipe.schema import Model, Train
from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint
from deitkit.training.fit import train_run
from tests.models.test_freeze import CONVNET, train_a_little
from tests.training.test_fit import Crash, CrashAt, assert_equal, comparable, tiny

pytest.importorskip("peft", reason="pip install 'deitkit[lora]'")

DEIT = Model(name="deit_nano", distilled=True, image_size=16, drop_path=0.0, options={"depth": 2})
LAYERS = {f"blocks.{block}.{name}" for block in (0, 1) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
TRAIN = Train(parts="lora", lora_rank=3, lora_alpha=6.0)


def trained() -> Student:
    student = build_student(DEIT, 10)
    freeze(student, "lora", train=TRAIN)
    train_a_little(student)
    return student.eval()


def test_it_stands_beside_every_matrix_of_attention_and_mlp_and_learns_with_the_classifier() -> None:
    student = build_student(DEIT, 10)
    plain = student.network.state_dict()
    report = freeze(student, "lora", train=TRAIN)
    factors = {f"{layer}.lora_{factor}.default.weight" for layer in LAYERS for factor in "AB"}
    heads = {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    assert set(report.names) == factors | heads
    assert report.learning == sum(3 * sum(plain[f"{layer}.weight"].shape) for layer in LAYERS) + 2 * (64 * 10 + 10)
    images = torch.randn(2, 3, 16, 16)
    before = build_student(DEIT, 10).eval()(images).classes  # B is zero
    assert torch.equal(student.eval()(images).classes, before)


def test_a_matrix_is_w_plus_alpha_over_rank_times_b_a() -> None:
    student = trained()
    began, now = build_student(DEIT, 10).network.state_dict(), student.network.state_dict()
    plain = plain_state(student.network)
    assert plain.keys() == began.keys()
    for layer in LAYERS:
        a, b = (now[f"{layer}.lora_{factor}.default.weight"].double() for factor in "AB")
        expected = began[f"{layer}.weight"].double() + 6.0 / 3 * b @ a
        torch.testing.assert_close(plain[f"{layer}.weight"].double(), expected, rtol=1e-5, atol=1e-7)
        assert not torch.equal(plain[f"{layer}.weight"], began[f"{layer}.weight"])
    frozen = began.keys() - {f"{layer}.weight" for layer in LAYERS} - {key for key in began if key.startswith("head")}
    assert all(torch.equal(plain[key], began[key]) for key in frozen)


def test_merged_unmerged_and_plain_answer_alike_and_unmerging_loses_no_bit() -> None:
    student, images = trained(), torch.randn(4, 3, 16, 16)
    apart_before, answers = copy.deepcopy(student.network.state_dict()), student(images).classes
    with as_plain(student.network):
        inside = student(images).classes
        assert student.network.state_dict().keys() == build_student(DEIT, 10).network.state_dict().keys()
    assert_equal(dict(student.network.state_dict()), dict(apart_before))
    plain = build_student(DEIT, 10).eval()
    plain.network.load_state_dict(plain_state(student.network))
    merge(student.network)
    assert torch.equal(plain(images).classes, inside) and torch.equal(student(images).classes, inside)
    torch.testing.assert_close(inside, answers, rtol=1e-4, atol=1e-5)


def test_what_a_checkpoint_keeps_apart_brings_every_bit_back() -> None:
    student, other = trained(), build_student(DEIT, 10, seed=5)
    freeze(other, "lora", train=TRAIN)
    load_training_state(other.network, plain_state(student.network), apart(student.network))
    assert_equal(dict(other.network.state_dict()), dict(student.network.state_dict()))


def test_attention_that_only_reads_a_layers_matrix_is_left_out() -> None:
    small = {"depth": 1, "embed_dim": 64, "num_heads": 2}
    student = build_student(Model(name="timm:beit_base_patch16_224", drop_path=0.0, options=small), 4)
    assert lora_targets(student) == ("blocks.0.attn.proj", "blocks.0.mlp.fc1", "blocks.0.mlp.fc2")


def test_a_convnet_is_refused_and_told_what_would_do() -> None:
    with pytest.raises(DeitkitError, match="has no attention") as caught:
        freeze(build_student(CONVNET, 10), "lora")
    assert "--set train.parts=norms+biases" in caught.value.remedy


def test_unfreezing_merges_and_lets_everything_learn() -> None:
    student, images = trained(), torch.randn(4, 3, 16, 16)
    plain = plain_state(student.network)
    unfreeze(student)
    assert_equal(dict(student.network.state_dict()), dict(plain))
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert student.train()(images).classes.requires_grad


def test_a_run_resumes_to_the_last_bit_and_leaves_a_plain_model_that_timm_loads(tmp_path: Path) -> None:
    recipe = tiny(train={"parts": "lora", "lora_rank": 2})
    unbroken = train_run(recipe, tmp_path / "unbroken", device="cpu").run
    with pytest.raises(Crash):
        train_run(recipe, tmp_path / "run", device="cpu", observer=CrashAt(4))
    resumed = train_run(recipe, tmp_path / "run", device="cpu", resume=True).run
    assert_equal(comparable(resumed), comparable(unbroken))
    network = timm.create_model(f"local-dir:{unbroken.model}", pretrained=True).eval()
    model = load_model(unbroken.path)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(network(images), model.student(images).average_logits())
    step = load_checkpoint(list_checkpoints(unbroken.checkpoints)[-1])
    assert step.model.keys() == network.state_dict().keys()
    assert load_model(f"{unbroken.path}@best").student.network.state_dict().keys() == network.state_dict().keys()
    result = unbroken.result()
    assert result is not None and result["top1"]["fused"] == result["best_top1"]
