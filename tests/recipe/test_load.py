"""Recipes: layers, origins, overrides, and errors that name everything at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deitkit.errors import DeitkitError
from deitkit.recipe.load import find_recipe, load_recipe, override, parse_override, read_resolved, to_toml
from deitkit.recipe.schema import DEFAULT_ORIGIN, Recipe

MINIMAL = '[model]\nname = "deit_nano"\n'


def write(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def error_of(name: str, **overrides: object) -> DeitkitError:
    with pytest.raises(DeitkitError) as caught:
        load_recipe(name, {key.replace("__", "."): value for key, value in overrides.items()})
    return caught.value


# Layers


def test_a_child_replaces_single_values_and_keeps_the_rest(tmp_path: Path) -> None:
    write(tmp_path, "parent.toml", f"{MINIMAL}[optim]\nlr = 1e-3\nweight_decay = 0.1\n")
    child = load_recipe(write(tmp_path, "child.toml", 'extends = "parent"\n[optim]\nlr = 2e-3\n'))
    assert (child.optim.lr, child.optim.weight_decay, child.model.name) == (2e-3, 0.1, "deit_nano")
    assert child.name == "child"


def test_a_parent_is_found_beside_the_child_and_among_the_shipped_recipes(tmp_path: Path) -> None:
    write(tmp_path, "deep/parent.toml", MINIMAL)
    beside = load_recipe(write(tmp_path, "deep/child.toml", 'extends = "parent.toml"\n'))
    assert beside.model.name == "deit_nano"
    assert load_recipe(write(tmp_path, "x.toml", 'extends = "pretrain/deit_small"\n')).model.name == "deit_small"


def test_a_file_in_the_working_directory_never_slips_under_a_shipped_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "pretrain/deit_tiny.toml", MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load_recipe("pretrain/deit_tiny").model.name == "deit_nano"
    assert load_recipe("distill/deit_tiny").model.name == "deit_tiny"


def test_options_belong_to_one_model_and_are_replaced_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path, "parent.toml", '[model]\nname = "timm:resnet10t"\noptions = { stem_width = 16 }\n')
    child = load_recipe(
        write(tmp_path, "child.toml", 'extends = "parent"\n[model]\nname = "deit_nano"\noptions = {}\n')
    )
    assert child.model.options == {}


def test_false_switches_off_what_a_parent_switched_on_and_a_child_switches_it_on_again(tmp_path: Path) -> None:
    off = write(tmp_path, "off.toml", 'extends = "distill/deit_tiny_usual_hard"\nteacher = false\n')
    on = write(tmp_path, "on.toml", f'extends = "{off}"\n[teacher]\nmodel = "runs/mine"\n')
    assert load_recipe(off).teacher is None
    teacher = load_recipe(on).teacher
    assert teacher is not None
    assert (teacher.model, teacher.labels) == ("runs/mine", "hard")
    assert "teacher.weight" not in load_recipe(on).origins
    assert load_recipe("pretrain/deit_tiny", {"augment.policy": False}).augment.policy is None


def test_false_stays_false_where_a_value_is_no_option() -> None:
    assert load_recipe("distill/deit_tiny", {"model.distilled": False}).model.distilled is False


@pytest.mark.parametrize("loop", [{"a": "a"}, {"a": "b", "b": "a"}])
def test_a_recipe_that_extends_itself_is_refused(tmp_path: Path, loop: dict[str, str]) -> None:
    for name, parent in loop.items():
        write(tmp_path, f"{name}.toml", f'extends = "{parent}"\n')
    assert "extends itself" in error_of(str(tmp_path / "a.toml")).what


# Origins


def test_the_comment_behind_a_value_is_its_origin(tmp_path: Path) -> None:
    text = """
        extends = "pretrain/deit_tiny"
        train.epochs = 3                          # dotted
        optim = { lr = 1e-3, weight_decay = 0.1 } # inline
        [schedule]                                # no value's origin
        warmup_epochs = 1
        [model]
        distilled = false                         # booleans, too
        [augment]
        policy = false                            # switched off
    """
    recipe = load_recipe(write(tmp_path, "mine.toml", text))
    assert recipe.origin("train.epochs") == "dotted"
    assert recipe.origin("optim.lr") == recipe.origin("optim.weight_decay") == "inline"
    assert recipe.origin("schedule.warmup_epochs") == "recipe mine"
    assert recipe.origin("model.distilled") == "booleans, too"
    assert recipe.origin("augment.policy") == "switched off"
    assert recipe.origin("stream.batch_size") == "Table 9"
    assert recipe.origin("train.seed") == DEFAULT_ORIGIN


def test_overrides_have_the_command_line_as_origin() -> None:
    recipe = load_recipe("pretrain/deit_tiny", {"optim.lr": 1e-4}, origin="command line")
    assert (recipe.optim.lr, recipe.origin("optim.lr")) == (1e-4, "command line")
    assert recipe.origin("optim.weight_decay") == "Table 9"


def test_a_changed_recipe_is_a_new_one_and_says_so() -> None:
    recipe = load_recipe("pretrain/deit_tiny")
    changed = override(recipe, {"model.image_size": 384}, origin="derived")
    assert (recipe.model.image_size, changed.model.image_size) == (224, 384)
    assert changed.origin("model.image_size") == "derived"
    assert changed.origin("optim.lr") == recipe.origin("optim.lr")
    with pytest.raises(ValueError, match="frozen"):
        recipe.optim.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize("name", ["distill/deit_base_soft", "finetune/deit_base_384", "quickstart/teacher"])
def test_a_resolved_recipe_reads_back_equal_with_its_origins(tmp_path: Path, name: str) -> None:
    recipe = load_recipe(name, {"train.patience": 5, "data.path": '/data/a "b" # c'})
    path = Path(write(tmp_path, "recipe.toml", to_toml(recipe)))
    again = read_resolved(path, name=recipe.name)
    assert (again.name, again.flat()) == (recipe.name, recipe.flat())
    assert {key: again.origin(key) for key in again.flat()} == {key: recipe.origin(key) for key in recipe.flat()}


# Overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=1", 1), ("a.b=1e-4", 1e-4), ("a.b=true", True), ("a.b=false", False), ("a.b=[1, 2]", [1, 2]),
        ("a.b=words", "words"), ("a.b='quoted'", "quoted"), ("a.b=a=b", "a=b"), ("a.b=", ""), (" a.b = 3 ", 3),
        ("a.b=timm:resnet18", "timm:resnet18"), ("a.b=runs/mine", "runs/mine"),
    ],
)  # fmt: skip
def test_an_override_is_toml_or_else_a_string(text: str, value: object) -> None:
    assert parse_override(text) == ("a.b", value)


@pytest.mark.parametrize("text", ["optim.lr", "=1", ""])
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(DeitkitError, match="expected key=value"):
        parse_override(text)


# Errors


def test_every_wrong_key_and_value_is_told_at_once_with_the_nearest_key(tmp_path: Path) -> None:
    text = """
        extend = "pretrain/deit_tiny"
        [model]
        nam = "deit_nano"
        [optim]
        lrr = 1e-3
        weight_decay = -1
        [train]
        epochs = "many"
        seed = true
        [augmnt]
        hflip = 0.5
    """
    problems = "\n".join(error_of(write(tmp_path, "bad.toml", text)).problems)
    assert "model.name: is missing" in problems
    assert "model.nam: unknown key. Did you mean model.name?" in problems
    assert "optim.lrr: unknown key. Did you mean optim.lr?" in problems
    assert "augmnt: unknown key. Did you mean augment?" in problems
    for words in ("optim.weight_decay", "-1", "train.epochs", "'many'", "train.seed", "True", "extend: unknown key"):
        assert words in problems


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("model.image_size", "large", "model.image_size"),
        ("model.image_size", [224], "model.image_size"),
        ("schedule.min_lr", "flat", "schedule.min_lr"),
        ("stream.batch_size", 0, "greater than or equal to 1"),
        ("stream.batch_size", 64.5, "stream.batch_size"),
        ("teacher.labels", "warm", "'hard' or 'soft'"),
        ("augment.crop_scale", [0.1], "augment.crop_scale"),
        ("optim", 3, "optim"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key: str, value: object, words: str) -> None:
    with pytest.raises(DeitkitError) as caught:
        load_recipe("distill/deit_tiny", {key: value})
    assert all(problem.startswith(key) for problem in caught.value.problems)
    assert words in "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"optim.lr": 1e-6}, 'schedule.min_lr = "lr" for a flat rate'),
        ({"optim.lr": 1e-7, "schedule.min_lr": "lr"}, "schedule.warmup_lr"),
        ({"train.epochs": 3}, "schedule.warmup_epochs 5 is longer"),
        ({"model.distilled": True}, "distillation token would learn nothing"),
        ({"loss.second_token": "label"}, "needs model.distilled = true"),
        ({"model.name": "diet_tiny"}, "Did you mean deit_tiny?"),
        ({"data.dataset": "imagnet"}, "Did you mean imagenet?"),
        ({"stream.mix_group": 48}, "not made of mix groups of 48"),
        ({"stream.mix_group": 512}, "would not fit into one batch"),
        ({"stream.batch_size": 9, "stream.mix_group": 3}, "mixed with itself"),
        ({"augment.crop_scale": [1.0, 0.1]}, "first <= second"),
    ],
)
def test_a_contradiction_is_told_with_its_remedy(overrides: dict[str, object], words: str) -> None:
    with pytest.raises(DeitkitError) as caught:
        load_recipe("pretrain/deit_tiny", overrides)
    assert words in "\n".join(caught.value.problems)


def test_several_contradictions_are_told_at_once() -> None:
    error = error_of("pretrain/deit_tiny", optim__lr=1e-8, model__distilled=True, train__epochs=1)
    assert len(error.problems) == 4
    control = {"teacher.model": ["runs/a", "runs/b"], "teacher.mixture": [1.0], "loss.second_token": "label"}
    with pytest.raises(DeitkitError) as caught:
        load_recipe("pretrain/deit_tiny", {**control, "model.distilled": True})
    assert [problem.split()[0] for problem in caught.value.problems] == ["loss.second_token", "teacher.mixture"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pretrain/diet_tiny", "Did you mean pretrain/deit_tiny?"),
        ("deit_bas_384", "Did you mean finetune/deit_base_384?"),
        ("nothing like it", "unknown recipe 'nothing like it'"),
    ],
)
def test_an_unknown_recipe_suggests_the_nearest(name: str, words: str) -> None:
    with pytest.raises(DeitkitError) as caught:
        find_recipe(name)
    assert words in caught.value.what
    assert "deitkit recipes list" in caught.value.remedy


def test_files_that_are_no_recipes_are_refused_with_their_name(tmp_path: Path) -> None:
    broken = write(tmp_path, "broken.toml", "[model\n")
    assert "broken.toml: not valid TOML" in error_of(broken).what
    (tmp_path / "image.toml").write_bytes(b"\xff\xd8\xff\xe0")
    assert "image.toml: not valid TOML" in error_of(str(tmp_path / "image.toml")).what
    many = write(tmp_path, "many.toml", 'extends = ["pretrain/deit_tiny"]\n')
    assert "expected one recipe's name" in error_of(many).what
    lost = write(tmp_path, "lost.toml", 'extends = "pretrain/deit_tinny"\n')
    assert "Did you mean pretrain/deit_tiny?" in error_of(lost).what


# What follows from values


@pytest.mark.parametrize(("batch_size", "scaled"), [(512, 5e-4), (1024, 1e-3), (768, 7.5e-4)])
def test_the_rate_is_scaled_by_the_batch_over_512(batch_size: int, scaled: float) -> None:
    recipe = load_recipe("pretrain/deit_tiny", {"stream.batch_size": batch_size})
    assert recipe.peak_lr == pytest.approx(scaled)
    absolute = {"stream.batch_size": batch_size, "optim.lr_scaling": "none"}
    assert load_recipe("pretrain/deit_tiny", absolute).peak_lr == 5e-4


@pytest.mark.parametrize(
    ("name", "overrides", "weight"),
    [
        ("pretrain/deit_tiny", {}, 1.0),
        ("distill/deit_tiny", {}, 0.5),
        ("distill/deit_tiny_soft", {}, 0.9),
        ("distill/deit_tiny_soft", {"teacher.weight": 0.3}, 0.7),
        ("distill/deit_tiny", {"loss.class_weight": 0.0}, 0.0),
        ("ablation/two_class_tokens", {}, 0.5),
    ],
)
def test_label_and_teacher_weigh_one_together_unless_told_otherwise(
    name: str, overrides: dict[str, object], weight: float
) -> None:
    assert load_recipe(name, overrides).class_weight == pytest.approx(weight)


def test_a_flat_view_names_every_value_once() -> None:
    recipe = load_recipe("distill/deit_tiny")
    flat = recipe.flat()
    assert flat["optim.lr"] == 5e-4
    assert flat["ema"] is None
    assert not any(isinstance(value, dict) for key, value in flat.items() if key != "model.options")
    assert isinstance(recipe, Recipe)


def test_the_last_part_of_a_name_is_enough_where_only_one_recipe_has_it() -> None:
    assert find_recipe("two_class_tokens") == find_recipe("ablation/two_class_tokens")
    with pytest.raises(DeitkitError, match="several recipes are called 'deit_tiny'") as caught:
        find_recipe("deit_tiny")
    assert caught.value.choices == ("distill/deit_tiny", "pretrain/deit_tiny")


# Numbers that make no sense, and names that people use


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.crop_ratio", 0.0), ("data.crop_ratio", float("nan")), ("data.crop_ratio", float("inf")),
        ("data.crop_ratio", 2.0), ("data.std", [0.2, -0.1, 0.2]), ("data.std", [0.0, 0.1, 0.2]),
        ("data.mean", [float("nan"), 0.0, 0.0]), ("optim.betas", [0.9, 1.0]), ("optim.betas", [-0.1, 0.9]),
        ("optim.momentum", 1.0), ("optim.lr", float("inf")), ("optim.lr", 0.0), ("optim.weight_decay", -1.0),
        ("model.drop_path", 1.0), ("model.image_size", 0), ("model.image_size", 100_000),
        ("model.image_size", [224, 10**30]), ("stream.batch_size", 0), ("stream.batch_size", 10**30),
        ("train.epochs", 0), ("train.epochs", 10**30), ("augment.crop_scale", [0.1, float("inf")]),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(DeitkitError) as caught:
        load_recipe("pretrain/deit_tiny", {key: value})
    assert all(problem.startswith(f"{key}: ") for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("augment.crop_scale", [0.1, 1.5], "1 is the whole image"),
        ("augment.crop_scale", [0.0, 1.0], "expected 0 < first"),
        ("model.image_size", 3, "smaller than one patch of 16 px"),
        ("data.dataset", "inaturalist", "inat18 or inat19"),
    ],
)
def test_what_cannot_be_is_refused_with_what_would_do(key: str, value: Any, words: str) -> None:
    with pytest.raises(DeitkitError) as caught:
        load_recipe("pretrain/deit_tiny", {key: value})
    assert words in caught.value.problems[0]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", "optim.lr"), ("lrr", "optim.lr"), ("batch_size", "stream.batch_size"), ("epoch", "train.epochs"),
        ("weight_decay", "optim.weight_decay"), ("mean", "teacher.mean or data.mean"), ("optim.lrr", "optim.lr"),
        ("optimm", "optim"),
    ],
)  # fmt: skip
def test_a_key_without_its_table_is_found_in_all_tables(key: str, meant: str) -> None:
    with pytest.raises(DeitkitError) as caught:
        load_recipe("pretrain/deit_tiny", {key: 1})
    assert caught.value.problems == (f"{key}: unknown key. Did you mean {meant}?",)


@pytest.mark.parametrize(
    ("called", "name"),
    [
        ("flowers", "flowers102"), ("Flowers102", "flowers102"), ("stanford_cars", "cars"), ("Cars", "cars"),
        ("CIFAR-10", "cifar10"), ("cifar_100", "cifar100"), ("inat2018", "inat18"), ("iNaturalist2018", "inat18"),
        ("inat_2019", "inat19"), ("ImageNet-1k", "imagenet"), ("imagenet-v2", "imagenet_v2"), ("digits", "digits"),
        ("hf:Beans", "hf:Beans"), ("FOLDER", "folder"),
    ],
)  # fmt: skip
def test_a_data_set_is_known_by_its_other_names(called: str, name: str) -> None:
    assert load_recipe("pretrain/deit_tiny", {"data.dataset": called}).data.dataset == name


def test_one_option_of_a_model_is_set_beside_its_others() -> None:
    base = override(load_recipe("finetune/deit_base_384"), {"model.options": {"depth": 2, "num_heads": 4}})
    recipe = override(base, {"model.options.num_heads": 2})
    assert recipe.model.options == {"depth": 2, "num_heads": 2}
    assert recipe.origins["model.options"] == "--set"
