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
from pathlib import Path
from typing import Any

import pytest

from deitkit.cli.app import run
from deitkit.cli.recipes import read_header
from deitkit.cli.train import refuse_wrong_verb
from deitkit.recipe import find_recipe, load_recipe, recipe_names, to_toml

ROOT = Path(__file__).parents[1]
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
    assert changed == {"model.distilled"} | {key for key in hard if key.startswith("teacher.")}
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


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("quickstart/", "pretrain/convnet"))])
def test_a_headers_command_runs_dry_without_any_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DEITKIT_DATA", raising=False)
    words = shlex.split(read_header(find_recipe(name)).command)
    words = words[1 : words.index("--data")]
    assert run([*words, "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe"]["name"] == name
    batch = load_recipe(name).stream.batch_size
    assert found["stream"]["steps_per_epoch"] == 1_281_167 // batch


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
    code = "import json, deitkit.recipe as r; print(json.dumps([str(r.recipe_root()), r.recipe_names()]))"
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
