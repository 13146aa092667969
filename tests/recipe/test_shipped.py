"""The shipped recipes: the paper's numbers, an origin behind each value, a header whose command runs this recipe."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit.catalog import DATASETS
from deitkit.cli.app import run
from deitkit.cli.recipes import read_header
from deitkit.cli.train import refuse_wrong_verb
from deitkit.data.views.augment import evaluation_view, make_view
from deitkit.data.views.plan import draw_plans
from deitkit.data.views.stream import plan_stream
from deitkit.models.student import count_parameters
from deitkit.recipe.load import find_recipe, load_recipe, recipe_header, to_toml
from deitkit.recipe.pick import FITTED
from deitkit.recipe.schema import Model
from deitkit.recipe.shipped import recipe_names

ROOT = Path(__file__).parents[2]
NAMES = recipe_names()
SIZES = ("tiny", "small", "base")

# Table 9, transcribed: DeiT-B's column and ViT-B's.
TABLE9: dict[str, tuple[Any, Any]] = {
    "train.epochs": (300, 300),
    "stream.batch_size": (1024, 4096),
    "optim.name": ("adamw", "adamw"),
    "optim.lr": (5e-4, 3e-3),
    "optim.lr_scaling": ("batch/512", "none"),
    "optim.weight_decay": (0.05, 0.3),
    "schedule.warmup_epochs": (5, 3.4),
    "loss.label_smoothing": (0.1, 0.0),
    "model.dropout": (0.0, 0.1),
    "model.drop_path": (0.1, 0.0),
    "stream.repeats": (3, 1),
    "augment.policy": ("rand", None),
    "mix.mixup_alpha": (0.8, 0.0),
    "mix.cutmix_alpha": (1.0, 0.0),
    "augment.erasing": (0.25, 0.0),
}
DEIT_ONLY = {"augment.magnitude": 9.0, "augment.magnitude_std": 0.5, "optim.clip_grad": None}
# Table 9's names for them.
TABLE9_KEYS = {
    "train.epochs": "epochs",
    "stream.batch_size": "batch_size",
    "optim.name": "optimizer",
    "optim.weight_decay": "weight_decay",
    "schedule.warmup_epochs": "warmup_epochs",
    "loss.label_smoothing": "label_smoothing",
    "model.dropout": "dropout",
    "model.drop_path": "stochastic_depth",
    "stream.repeats": "repeated_augmentation",
    "mix.mixup_alpha": "mixup_alpha",
    "mix.cutmix_alpha": "cutmix_alpha",
    "augment.erasing": "erasing_prob",
}
# Rows of Table 8 in its order, and the values in which each differs from its parent.
TABLE8: dict[str, dict[str, Any]] = {
    "baseline": {},
    "pretrain_sgd": {"optim.name": "sgd"},
    "finetune_sgd": {"optim.name": "sgd"},
    "no_randaugment": {"augment.policy": None},
    "autoaugment": {"augment.policy": "auto"},
    "no_mixup": {"mix.mixup_alpha": 0.0},
    "no_cutmix": {"mix.cutmix_alpha": 0.0},
    "no_mixup_no_cutmix": {"mix.mixup_alpha": 0.0, "mix.cutmix_alpha": 0.0},
    "no_erasing": {"augment.erasing": 0.0},
    "no_drop_path": {"model.drop_path": 0.0},
    "no_repeats": {"stream.repeats": 1},
    "dropout": {"model.dropout": 0.1},
    "ema": {"ema.decay": 0.99996},
}
SGD_NEEDS = {"optim.lr", "optim.weight_decay"}
# The authors' notes on transfer, transcribed: rates are those after scaling, as they state them.
IN_ALL_TRANSFER: dict[str, Any] = {
    "stream.batch_size": 768,
    "stream.repeats": 3,
    "schedule.warmup_epochs": 5,
    "schedule.warmup_lr": 1e-6,
    "loss.label_smoothing": 0.1,
    "augment.policy": "rand",
    "augment.magnitude": 9.0,
    "augment.magnitude_std": 0.5,
    "mix.mixup_alpha": 0.8,
    "mix.cutmix_alpha": 1.0,
    "model.dropout": 0.0,
}
ADAMW = {"optim.name": "adamw", "optim.weight_decay": 0.05, "model.drop_path": 0.1}
CIFAR = {**IN_ALL_TRANSFER, **ADAMW, "augment.erasing": 0.0, "train.epochs": 1000}  # dino issues 81, 144; issue 45
INAT = {**IN_ALL_TRANSFER, **ADAMW, "augment.erasing": 0.1, "train.epochs": 360}  # issues 105, 141
SGD = {**CIFAR, "optim.name": "sgd", "optim.weight_decay": 1e-4, "model.drop_path": 0.0}  # issue 45
TRANSFER: dict[str, tuple[dict[str, Any], float]] = {
    "cifar10": (CIFAR, 7.5e-6),
    "cifar100": (CIFAR, 7.5e-6),
    "flowers102": (CIFAR, 7.5e-6),
    "cars": (CIFAR, 7.5e-6),
    "inat18": (INAT, 7.5e-5),
    "inat19": (INAT, 7.5e-5),
}
KINDS = ("", "_384", "_distilled", "_distilled_384")
SGD_SETS = ("cifar10", "cars")
TABLE7_COLUMNS = {**{name: name for name in (*TRANSFER, "imagenet")}, "flowers102": "flowers"}
TRANSFER_NAMES = [
    f"finetune/{name}{kind}{way}"
    for name in TRANSFER
    for kind in KINDS
    for way in ("", "_sgd")
    if not way or name in SGD_SETS
]
COUNTED: dict[tuple[str, int], int] = {}
EVENINGS = [name for name in NAMES if name.endswith("_evening")]


@pytest.fixture(scope="module")
def paper(shared_facts: Path) -> dict[str, Any]:
    return tomllib.loads((shared_facts / "paper.toml").read_text())


# The paper's numbers


@pytest.mark.parametrize("size", SIZES)
def test_pretraining_is_table_9_exactly(size: str) -> None:
    recipe = load_recipe(f"pretrain/deit_{size}")
    flat = recipe.flat()
    assert {key: flat[key] for key in TABLE9} == {key: deit for key, (deit, _) in TABLE9.items()}
    assert {key: flat[key] for key in DEIT_ONLY} == DEIT_ONLY
    assert all(recipe.origin(key).startswith("Table 9") for key in (*TABLE9, *DEIT_ONLY))
    assert recipe.peak_lr == pytest.approx(1e-3)
    assert (recipe.model.name, recipe.model.distilled, recipe.model.size) == (f"deit_{size}", False, (224, 224))
    assert recipe.teacher is recipe.start is recipe.ema is None


def test_vit_has_its_own_column_of_table_9_with_an_absolute_rate() -> None:
    recipe = load_recipe("pretrain/vit_base")
    flat = recipe.flat()
    assert {key: flat[key] for key in TABLE9} == {key: vit for key, (_, vit) in TABLE9.items()}
    assert all(recipe.origin(key).startswith("Table 9") for key in TABLE9)
    assert recipe.peak_lr == 3e-3
    assert flat["optim.clip_grad"] is not None
    assert recipe.origin("optim.clip_grad").startswith("ours")


def test_table_9_here_is_the_papers(paper: dict[str, Any]) -> None:
    for column, name in enumerate(("deit_base", "vit_base")):
        published = paper["table9"][name]
        ours = {theirs: TABLE9[key][column] for key, theirs in TABLE9_KEYS.items()}
        assert ours == {key: published[key] for key in ours}
    assert paper["table9"]["deit_base"]["lr"] == "0.0005 * batch_size / 512"
    assert paper["table9"]["vit_base"]["lr"] == 0.003
    assert paper["table9"]["deit_base"]["rand_augment"] == "9/0.5"
    assert paper["table9"]["deit_base"]["gradient_clip"] == "none"


def test_what_the_paper_leaves_open_is_never_said_to_be_its() -> None:
    recipe = load_recipe("pretrain/deit_base")
    for key in ("schedule.warmup_lr", "schedule.min_lr", "optim.betas", "optim.eps", "mix.prob", "data.crop_ratio"):
        assert recipe.origin(key).startswith("reference code"), key
    assert (recipe.schedule.warmup_lr, recipe.schedule.min_lr) == (1e-6, 1e-5)
    for name in ("dropout", "pretrain_sgd"):
        ablation = load_recipe(f"ablation/{name}")
        assert ablation.origin({"dropout": "model.dropout", "pretrain_sgd": "optim.lr"}[name]).startswith("ours")
    assert load_recipe("ablation/ema").origin("ema.decay") == "reference code"


@pytest.mark.parametrize("size", SIZES)
def test_distillation_differs_from_pretraining_in_token_and_teacher_alone(size: str) -> None:
    plain, hard = load_recipe(f"pretrain/deit_{size}").flat(), load_recipe(f"distill/deit_{size}").flat()
    changed = {key for key in plain.keys() | hard.keys() if plain.get(key) != hard.get(key)}
    named = {key for key in hard if key.startswith("teacher.") and hard[key] is not None}
    assert changed == {"model.distilled"} | named
    assert hard["teacher.model"] == "timm:regnety_160.deit_in1k"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("variant", "distilled", "labels", "tau", "weight", "epochs"),
    [
        ("", True, "hard", None, 0.5, 300),
        ("_soft", True, "soft", 3.0, 0.1, 300),
        ("_usual_hard", False, "hard", None, 0.5, 300),
        ("_usual_soft", False, "soft", 3.0, 0.1, 300),
        ("_1000ep", True, "hard", None, 0.5, 1000),
    ],
)
def test_ways_of_distillation_are_those_of_table_3_and_5(
    size: str, variant: str, distilled: bool, labels: str, tau: float | None, weight: float, epochs: int
) -> None:
    recipe = load_recipe(f"distill/deit_{size}{variant}")
    assert recipe.teacher is not None
    assert (recipe.model.distilled, recipe.teacher.labels, recipe.train.epochs) == (distilled, labels, epochs)
    assert recipe.teacher.distillation_weight == weight
    assert tau is None or recipe.teacher.tau == tau


def test_fine_tuning_at_384_px_is_the_authors_recipe() -> None:
    recipe = load_recipe("finetune/deit_base_384")
    assert recipe.model.size == (384, 384)
    assert (recipe.stream.batch_size, recipe.stream.mix_group, recipe.train.epochs) == (512, 32, 30)
    assert recipe.peak_lr == recipe.min_lr == 5e-6
    assert recipe.optim.weight_decay == 1e-8
    assert recipe.start is not None
    assert recipe.start.position_mode == "bicubic"
    assert load_recipe("finetune/deit_tiny_384").peak_lr == 1e-5
    assert load_recipe("finetune/deit_base_distilled_384").teacher is not None


# Distilled fine-tuning


def changes(name: str, parent: str) -> dict[str, Any]:
    """Values of a recipe that differ from another's; a teacher's keys without a teacher are None."""
    before, after = load_recipe(parent).flat(), load_recipe(name).flat()
    return {key: after.get(key) for key in before | after if before.get(key) != after.get(key)}


MODES = ("finetune/deit_base_distilled_384", "quickstart/student_32")


@pytest.mark.parametrize("name", MODES)
def test_the_ways_of_distilled_fine_tuning_differ_in_who_teaches_alone(name: str) -> None:
    both = load_recipe(name)
    assert both.teacher is not None
    assert (both.class_weight, both.teacher.distillation_weight, both.loss.second_token) == (0.5, 0.5, "teacher")
    labels = changes(f"{name}_labels_only", name)
    assert {key for key in labels if not key.startswith("teacher")} == {"loss.second_token"}
    assert load_recipe(f"{name}_labels_only").teacher is None
    assert load_recipe(f"{name}_labels_only").class_weight == 0.5
    assert changes(f"{name}_teacher_only", name) == {"loss.class_weight": 0.0, "teacher.weight": 1.0}


def test_the_ways_are_there_for_own_images_too() -> None:
    assert changes("finetune/own_distilled_labels_only", "finetune/own_distilled") == {}
    alone = load_recipe("finetune/own_distilled_teacher_only")
    assert alone.teacher is not None
    assert (alone.class_weight, alone.teacher.distillation_weight, alone.loss.second_token) == (0.0, 1.0, "teacher")
    by_hand = {"teacher.model": "runs/t", "teacher.weight": 1.0, "loss.second_token": "teacher"}
    assert load_recipe("finetune/cars_distilled", by_hand).class_weight == 0.0


def test_what_the_paper_says_of_labels_only_is_not_made_a_number(paper: dict[str, Any]) -> None:
    (fused,) = [row[-1] for row in paper["table3"]["rows"] if row[0] == "distilled: class+distillation"]
    labels, teacher = (
        read_header(find_recipe(f"finetune/deit_base_distilled_384_{way}_only")) for way in ("labels", "teacher")
    )
    assert labels.published == f"no number (Sec. 4: below {fused}, that with the teacher)"
    assert teacher.published == "nothing"


# FixRes


def test_fixres_has_the_values_of_its_authors_code() -> None:
    recipe = load_recipe("finetune/teacher_fixres")
    flat = recipe.flat()
    by_authors = {
        "optim.name": "sgd", "optim.momentum": 0.9, "optim.weight_decay": 1e-4, "stream.batch_size": 512,
        "stream.repeats": 1, "train.epochs": 11, "loss.label_smoothing": 0.0, "augment.policy": None,
        "augment.erasing": 0.0, "augment.hflip": 0.5, "mix.prob": 0.0, "schedule.warmup_epochs": 0,
    }  # fmt: skip
    assert {key: flat[key] for key in by_authors} == by_authors
    assert all(recipe.origin(key).startswith("FixRes") for key in by_authors)
    assert recipe.peak_lr == recipe.min_lr == 8 * 1e-3 * 512 / 512
    assert recipe.train.parts == "classifier+last_norm"
    assert (recipe.model.name, recipe.model.size, recipe.teacher) == ("timm:regnety_160", (384, 384), None)
    assert recipe.start is not None
    assert recipe.start.weights == "timm:regnety_160.deit_in1k"
    assert "1906.06423" in recipe_header(find_recipe("finetune/teacher_fixres"))


@pytest.mark.parametrize("name", ["finetune/teacher_fixres", "quickstart/teacher_32_fixres"])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (400, 400), (8, 8)])
def test_fixres_trains_on_the_tests_own_view(name: str, height: int, width: int) -> None:
    recipe = load_recipe(name)
    assert recipe.data.crop_ratio == 1.0
    plan = draw_plans(
        recipe.augment, recipe.model.size, [height], [width], seed=0, epoch=0, images=[0], repeat=0
    )[0]  # fmt: skip
    side = min(height, width)
    assert plan.crop == ((height - side) // 2, (width - side) // 2, side, side)
    assert not plan.operations
    assert plan.erase[2] == 0
    ramp = np.linspace(0, 255, height)[:, None, None] * 0.5 + np.linspace(0, 127, width)[None, :, None]
    image = Image.fromarray(ramp.repeat(3, axis=2).astype(np.uint8))
    trained = make_view(
        image, replace(plan, flip=False), size=recipe.model.size, interpolation="bicubic", fill=(0, 0, 0)
    )
    tested = evaluation_view(image, recipe.model.size, recipe.data.crop_ratio, "bicubic")
    assert np.abs(trained.astype(int) - tested).max() <= 2


@pytest.mark.parametrize("name", TRANSFER_NAMES)
def test_transfer_recipes_have_the_authors_values(name: str) -> None:
    dataset, _, kind = name.removeprefix("finetune/").partition("_")
    values, rate = TRANSFER[dataset]
    if "sgd" in kind:
        values, rate = SGD, 0.01
    recipe = load_recipe(name)
    flat = recipe.flat()
    assert {key: flat[key] for key in values} == values
    assert recipe.peak_lr == pytest.approx(rate)
    assert recipe.data.dataset == dataset
    assert recipe.model.size == ((384, 384) if "384" in kind else (224, 224))
    assert (recipe.model.name, recipe.model.distilled) == ("deit_base", "distilled" in kind)
    assert recipe.teacher is None
    assert recipe.loss.second_token == ("label" if "distilled" in kind else "teacher")


@pytest.mark.parametrize("name", TRANSFER_NAMES)
def test_no_transfer_recipe_falls_into_the_min_lr_trap(name: str) -> None:
    recipe = load_recipe(name)
    reference_default = 1e-5
    assert recipe.min_lr < recipe.peak_lr
    assert recipe.schedule.warmup_lr < recipe.peak_lr
    if recipe.peak_lr < reference_default:
        assert recipe.min_lr < reference_default
        assert recipe.origin("schedule.min_lr").startswith("ours: the reference's default 1e-5 is above")
        assert "default min-lr 1e-5 is above" in recipe_header(find_recipe(name)).replace("\n", " ")
    else:
        assert recipe.min_lr == reference_default


@pytest.mark.parametrize("dataset", TRANSFER)
def test_what_the_authors_said_of_one_data_set_is_not_said_to_be_of_another(dataset: str) -> None:
    recipe = load_recipe(f"finetune/{dataset}")
    about = {"dino issue 81": {"cifar10"}, "issue 105": {"inat18", "inat19"}, "dino issue 144": {"cifar100"}}
    for key, origin in recipe.origins.items():
        for issue, sets in about.items():
            assert issue not in origin or dataset in sets or "(CIFAR-10)" in origin, key
    assert dataset != "flowers102" or recipe.origin("optim.lr").startswith("ours")


@pytest.mark.parametrize("dataset", [*TRANSFER, "imagenet"])
@pytest.mark.parametrize("kind", KINDS)
def test_published_transfer_results_are_those_of_table_7(dataset: str, kind: str, paper: dict[str, Any]) -> None:
    column = paper["table7"]["columns"].index(TABLE7_COLUMNS[dataset])
    (row,) = [row for row in paper["table7"]["rows"] if row[0] == f"deit_base{kind}"]
    for way in ("", "_sgd") if dataset in SGD_SETS else ("",):
        header = read_header(find_recipe(f"finetune/{dataset}{kind}{way}"))
        assert header.published.startswith(f"{row[column]} (Table 7"), way


@pytest.mark.parametrize("name", [*TRANSFER_NAMES, *EVENINGS])
def test_released_start_weights_are_of_the_recipes_model(name: str) -> None:
    import timm

    recipe = load_recipe(name)
    assert recipe.start is not None
    assert recipe.start.weights.removeprefix("timm:") in timm.list_pretrained("deit_*")
    size = 384 if recipe.model.size[0] == 384 else 224
    kind = "_distilled" if recipe.model.distilled else ""
    assert recipe.start.weights == f"timm:{recipe.model.name}{kind}_patch16_{size}.fb_in1k"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("finetune/", "pretrain/", "distill/"))])
def test_every_recipe_streams_its_data_set_at_table_6s_size(name: str) -> None:
    recipe = load_recipe(name)
    size = DATASETS[recipe.data.dataset].train_size if recipe.data.dataset in DATASETS else 10_000
    shape = plan_stream(size, recipe.stream, mixing=recipe.is_mixing)
    assert shape.steps_per_epoch >= 2
    if recipe.data.dataset == "flowers102" and name not in EVENINGS:
        assert shape.steps_per_epoch == 2


@pytest.mark.parametrize("name", EVENINGS)
def test_an_evening_is_ours_short_and_computed_from_the_papers_throughput(name: str, paper: dict[str, Any]) -> None:
    recipe, header = load_recipe(name), read_header(find_recipe(name))
    assert "Ours" in header.title
    assert (header.published, header.measured) == ("nothing", "not yet")
    per_second = {row["model"]: row["images_per_s"] for row in paper["table1"]}[recipe.model.name]
    at_size = {row[0]: row[1] for row in paper["table10"]["rows"]}
    per_second *= at_size[recipe.model.size[0]] / at_size[224]
    views = recipe.train.epochs * DATASETS[recipe.data.dataset].train_size
    hours = 3 * views / per_second / 3600
    assert hours < 4
    assert header.cost.startswith(f"computed, not measured: {views / 1e6:.1f} million views")
    assert header.cost.endswith(f"{hours:.1f} hours")
    assert recipe.origin("train.epochs").startswith("ours")


def test_there_is_an_evening_for_each_data_set_of_table_7() -> None:
    assert sorted(f"finetune/{name}_evening" for name in TABLE7_COLUMNS) == EVENINGS


def test_training_on_cifar_10_alone_is_section_5_4(paper: dict[str, Any]) -> None:
    table6 = {row[0]: row[1] for row in paper["table6"]["rows"]}
    published = {"pretrain/cifar10_scratch": 97.5, "distill/cifar10_scratch": 98.5, "pretrain/cifar10_teacher": 98.0}
    for name, top1 in published.items():
        recipe = load_recipe(name)
        assert read_header(find_recipe(name)).published == f"{top1} (Sec. 5.4)"
        assert (recipe.data.dataset, recipe.train.epochs, recipe.model.size) == ("cifar10", 7200, (224, 224))
        assert recipe.schedule.warmup_epochs == 5
        assert recipe.start is None
        assert recipe.train.epochs * table6["cifar10"] == pytest.approx(281 * table6["imagenet"], rel=2e-3)
    for name in ("pretrain/cifar10_scratch", "distill/cifar10_scratch"):
        short, long = load_recipe(f"{name}_1000ep").flat(), load_recipe(name).flat()
        assert {key for key in long if long[key] != short[key]} == {"train.epochs", "train.eval_every"}
        assert short["train.epochs"] == 1000
    teacher = load_recipe("distill/cifar10_scratch").teacher
    assert teacher is not None
    assert teacher.model == "runs/pretrain-cifar10_teacher"
    assert load_recipe("pretrain/cifar10_teacher").model.name == "timm:regnety_160"


def test_recipes_after_the_paper_keep_the_last_epoch_and_say_whose_way_that_is() -> None:
    ours = {"finetune/own", "pretrain/own", "pretrain/convnet", "distill/own", "distill/cifar10_nano"}
    ours |= {name for name in recipe_names() if name.startswith(("quickstart/", "finetune/own_"))}
    for name in set(recipe_names()) - ours:
        recipe = load_recipe(name)
        assert (recipe.train.keep, recipe.origin("train.keep")[:15]) == ("last", "reference code:"), name
    kept = {name: load_recipe(name).train.keep for name in ours}
    assert kept == dict.fromkeys(ours, "best") | {"distill/cifar10_nano": "last"}


@pytest.mark.parametrize("row", TABLE8)
def test_an_ablation_is_its_parent_with_table_8s_one_change(row: str) -> None:
    path = find_recipe(f"ablation/{row}")
    values = tomllib.loads(path.read_text())
    parent = values.pop("extends")
    assert parent == ("finetune/deit_base_384" if row == "finetune_sgd" else "pretrain/deit_base")
    before, after = load_recipe(parent).flat(), load_recipe(f"ablation/{row}").flat()
    changed = {key: after[key] for key in after if before.get(key) != after[key]}
    assert {key: value for key, value in changed.items() if "sgd" not in row or key not in SGD_NEEDS} == TABLE8[row]
    assert values or row == "baseline"


def test_there_is_one_ablation_for_each_row_of_table_8(paper: dict[str, Any]) -> None:
    assert len(TABLE8) == len(paper["table8"]["rows"])
    for name, (_, top1, top1_384, _) in zip(TABLE8, paper["table8"]["rows"], strict=True):
        published = read_header(find_recipe(f"ablation/{name}")).published
        assert published.startswith(f"{top1} at 224 px, {top1_384} at 384 px"), name


def test_published_numbers_in_headers_are_those_of_the_tables(paper: dict[str, Any]) -> None:
    table3 = {row[0]: row[3:] for row in paper["table3"]["rows"]}
    table5 = {row[0]: row[4] for row in paper["table5"]["rows"]}
    table2 = {row[0]: row[1] for row in paper["table2"]["rows"]}
    for column, size in enumerate(SIZES):
        fused, kind, token = (
            table3[f"distilled: {head}"][column] for head in ("class+distillation", "class head", "distillation head")
        )
        expected = {
            f"pretrain/deit_{size}": f"{table5[f'deit_{size}']} (Table 5)",
            f"distill/deit_{size}": f"{fused} fused, {kind} class, {token} distillation (Table 3)",
            f"distill/deit_{size}_usual_hard": f"{table3['hard distillation'][column]} (Table 3)",
            f"distill/deit_{size}_usual_soft": f"{table3['usual (soft) distillation'][column]} (Table 3)",
            f"distill/deit_{size}_1000ep": f"{table5[f'deit_{size}_distilled_1000ep']} (Table 5)",
        }
        for name, published in expected.items():
            assert read_header(find_recipe(name)).published == published, name
    for giga in (4, 8, 12, 16):
        header = read_header(find_recipe(f"pretrain/regnety_{giga * 10:03d}"))
        assert header.published == f"{table2[f'regnety_{giga}gf']} (Table 2)"
    finetuned = {"deit_base": "deit_base_384", "deit_base_1000ep": "deit_base_distilled_384_1000ep"}
    for name, row in finetuned.items():
        assert read_header(find_recipe(f"finetune/{name}_384")).published == f"{table5[row]} (Table 5)"


# What every shipped recipe keeps


@pytest.mark.parametrize("name", NAMES)
def test_every_value_that_a_recipe_sets_names_its_origin(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    unnamed = [key for key, origin in recipe.origins.items() if origin.startswith("recipe ")]
    assert not unnamed


@pytest.mark.parametrize("name", NAMES)
def test_a_header_has_title_cost_results_and_the_command_of_this_very_recipe(name: str) -> None:
    header = read_header(find_recipe(name))
    assert header.title
    assert header.cost
    assert header.published
    assert header.measured
    words = shlex.split(header.command)
    assert words[0] == "deitkit"
    assert words[words.index("--recipe") + 1] == name


@pytest.mark.parametrize("name", NAMES)
def test_a_headers_verb_fits_the_recipe(name: str) -> None:
    words = shlex.split(read_header(find_recipe(name)).command)
    refuse_wrong_verb(words[1], load_recipe(name))


def count_once(model: Model, classes: int) -> int:
    """Parameters of a model, built once for all recipes that have it."""
    key = (model.model_dump_json(), classes)
    if key not in COUNTED:
        COUNTED[key] = count_parameters(model, classes)
    return COUNTED[key]


# The generic recipes and the quickstart's know no data set's size: test_finetune.py and test_own.py run the former.
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("quickstart/") and name not in FITTED])
def test_a_headers_command_runs_dry_without_any_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITKIT_DATA", raising=False)
    monkeypatch.setattr("deitkit.training.dry_run.count_parameters", count_once)
    words = shlex.split(read_header(find_recipe(name)).command)
    words = words[1 : words.index("--data")]
    assert run([*words, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"]["name"] == name
    recipe = load_recipe(name)
    images = DATASETS[recipe.data.dataset].train_size
    assert found["stream"]["steps_per_epoch"] == images // recipe.stream.batch_size


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_resolved_to_toml_loads_as_itself(name: str, tmp_path: Path) -> None:
    (tmp_path / "resolved.toml").write_text(to_toml(load_recipe(name)))
    assert load_recipe(str(tmp_path / "resolved.toml")).flat() == load_recipe(name).flat()


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_768_and_512_are_cut_into_groups_of_32(name: str) -> None:
    stream = load_recipe(name).stream
    assert stream.batch_size not in (768, 512) or stream.mix_group == 32


def test_every_parent_is_a_shipped_recipe() -> None:
    for name in NAMES:
        parent = tomllib.loads(find_recipe(name).read_text()).get("extends")
        assert parent is None or parent in NAMES, name


# Where recipes are found


def names_seen_by(folder: Path) -> list[str]:
    """Recipe names as a Python sees them whose deitkit lies in `folder`."""
    code = "import json, deitkit.recipe.shipped as r; print(json.dumps([str(r.recipe_root()), r.recipe_names()]))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    output = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=environment, check=True, capture_output=True, text=True
    ).stdout
    root, names = json.loads(output)
    assert Path(root).is_relative_to(folder)
    assert isinstance(names, list)
    return names


def test_recipes_are_found_beside_the_package_in_an_editable_install(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deitkit", tmp_path / "deitkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    assert names_seen_by(tmp_path) == NAMES


def test_recipes_are_found_inside_the_package_once_installed(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "deitkit", tmp_path / "deitkit", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "recipes", tmp_path / "deitkit" / "recipes")
    assert names_seen_by(tmp_path) == NAMES


def test_the_wheel_carries_recipes_types_and_licence(tmp_path: Path) -> None:
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    build = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("deitkit-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {f"deitkit/recipes/{name}.toml" for name in NAMES} <= inside
    assert "deitkit/py.typed" in inside
    assert any(re.search(r"dist-info/licenses/LICENSE$", name) for name in inside)
    assert not any(name.startswith(("tests/", "benchmarks/", "recipes/")) for name in inside)
    assert names_seen_by(tmp_path / "site") == NAMES
