"""Which values fit so many images: held against the stream's own arithmetic."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import pytest

from deitkit.catalog import DATASETS
from deitkit.data.views.stream import plan_stream
from deitkit.errors import DeitkitError
from deitkit.recipe.choose import TimeBudget, choose_for, choose_model
from deitkit.recipe.load import load_recipe, override
from deitkit.recipe.schema import Recipe

OWN_RECIPE = load_recipe("finetune/own")
FEW = range(4, 700)
MANY = [2**power + offset for power in range(9, 22) for offset in (-1, 0, 1, 77)]
TABLE6 = [info.train_size for info in DATASETS.values() if info.train_size]
SIZES = sorted({*FEW, *MANY, *TABLE6})


def chosen(images: int, recipe: Recipe = OWN_RECIPE, *, given: dict[str, Any] | None = None) -> Recipe:
    """The recipe with what is given and the choices in it: validated as a whole."""
    choices = choose_for(images, recipe, given=given)
    return override(recipe, {**(given or {}), **{choice.key: choice.value for choice in choices}})


def values(images: int) -> dict[str, Any]:
    return {choice.key: choice.value for choice in choose_for(images, OWN_RECIPE)}


# Values


@pytest.mark.parametrize("images", [4, 5, 17, 196, 306, 1_437, *TABLE6])
def test_the_recipe_chosen_is_valid_and_streams(images: int) -> None:
    recipe = chosen(images)
    shape = plan_stream(images, recipe.stream, mixing=recipe.is_mixing)
    assert recipe.is_mixing
    assert shape.steps_per_epoch >= (8 if images >= 16 else 2)
    assert shape.mix_group == recipe.stream.mix_group


def test_from_four_images_on_the_stream_takes_every_choice() -> None:
    for images in SIZES:
        found = values(images)
        stream = OWN_RECIPE.stream.model_copy(
            update={key: found[f"stream.{key}"] for key in ("batch_size", "mix_group", "repeats")}
        )
        shape = plan_stream(images, stream, mixing=True)
        assert shape.steps_per_epoch >= (8 if images >= 16 else 2), images


def test_one_image_more_never_turns_a_rule_round() -> None:
    rows = [values(images) for images in SIZES]
    for before, after in itertools.pairwise(rows):
        for key in ("stream.batch_size", "stream.mix_group", "stream.repeats", "optim.lr"):
            assert after[key] >= before[key]
        for key in ("train.epochs", "schedule.warmup_epochs"):
            assert after[key] <= before[key]


def test_epochs_stay_in_their_band_and_warm_up_is_a_tenth() -> None:
    for images in SIZES:
        epochs, warmup = values(images)["train.epochs"], values(images)["schedule.warmup_epochs"]
        assert 10 <= epochs <= 500
        assert 0 < warmup <= min(5.0, epochs / 10 + 0.05)
        if 10 < epochs < 500:
            assert epochs == pytest.approx(8_000 / images**0.5, abs=0.5)


@pytest.mark.parametrize(
    ("kept", "value"),
    [
        ("stream.batch_size", 8), ("stream.batch_size", 100), ("stream.batch_size", 128), ("stream.mix_group", 2),
        ("stream.mix_group", 6), ("stream.mix_group", 64), ("stream.mix_group", 128), ("stream.repeats", 1),
        ("train.epochs", 1), ("train.epochs", 3_000),
    ],
)  # fmt: skip
@pytest.mark.parametrize("images", [128, 306, 2_040, 60_000])
def test_the_rest_is_chosen_to_fit_what_is_given(kept: str, value: int, images: int) -> None:
    recipe = chosen(images, given={kept: value})
    assert recipe.flat()[kept] == value
    plan_stream(images, recipe.stream, mixing=recipe.is_mixing)


def test_what_is_given_wrongly_is_left_to_the_recipes_own_check() -> None:
    with pytest.raises(DeitkitError) as caught:
        chosen(306, given={"stream.batch_size": "many", "train.epochs": 0})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["stream.batch_size", "train.epochs"]


def test_a_narrow_model_takes_a_higher_rate_as_the_authors_do() -> None:
    # README: 5e-6 for DeiT-B; issue 120: 1e-5 for DeiT-Ti, a quarter as wide.
    rates = {name: chosen(10_000, _with_model(name)).peak_lr for name in ("deit_tiny", "deit_base")}
    assert rates["deit_tiny"] / rates["deit_base"] == pytest.approx(1e-5 / 5e-6, rel=0.02)


def _with_model(name: str) -> Recipe:
    return override(OWN_RECIPE, {"model.name": name})


def test_a_rate_per_512_images_means_the_same_as_an_absolute_one() -> None:
    scaled = override(OWN_RECIPE, {"optim.lr_scaling": "batch/512"})
    for images in (196, 8_144, 50_000):
        assert chosen(images, scaled).peak_lr == pytest.approx(chosen(images).peak_lr, rel=0.01)


def test_digits_are_never_mirrored() -> None:
    digits = override(OWN_RECIPE, {"data.dataset": "digits"})
    assert chosen(1_437, digits).augment.hflip == 0.0
    assert chosen(1_437).augment.hflip == 0.5


def test_the_generic_recipe_stands_for_ten_thousand_images() -> None:
    flat = OWN_RECIPE.flat()
    assert {key: flat[key] for key in values(10_000)} == values(10_000)


def test_every_choice_says_why() -> None:
    assert all(choice.why for choice in choose_for(306, OWN_RECIPE))


@pytest.mark.parametrize("name", ["pretrain/own", "distill/own", "pretrain/convnet"])
def test_from_random_weights_the_stream_takes_every_choice(name: str) -> None:
    scratch = load_recipe(name)
    for images in (4, 5, 17, 300, 1_437, 10_000, 50_000, 1_281_167):
        recipe = chosen(images, scratch)
        plan_stream(images, recipe.stream, mixing=recipe.is_mixing)
        assert 300 <= recipe.train.epochs <= 1_000
        assert recipe.schedule.min_lr < recipe.peak_lr
    flat = scratch.flat()
    for choice in choose_for(10_000, scratch):
        assert flat[choice.key] == choice.value, choice.key


def test_a_time_shortens_a_run_and_makes_its_views_gentle() -> None:
    short = {choice.key: choice.value for choice in choose_for(1_000, OWN_RECIPE, budget=TimeBudget(1.0, 100.0))}
    ample = {choice.key: choice.value for choice in choose_for(1_000, OWN_RECIPE, budget=TimeBudget(600.0, 1_000.0))}
    assert short["train.epochs"] == int(60 * 0.75 * 100 / 1_000)
    assert (short["mix.prob"], short["augment.policy"]) == (0.0, False)
    assert short["optim.lr"] == pytest.approx(4 * values(1_000)["optim.lr"], rel=0.03)
    assert ample == values(1_000)


def test_the_model_from_random_weights_follows_the_images_and_the_machine() -> None:
    def model(side: float, images: int, **more: Any) -> tuple[Any, Any, Any]:
        found = {choice.key: choice.value for choice in choose_model(side, images, **more)}
        return found.get("model.name"), found.get("model.image_size"), found.get("model.options")

    assert model(32, 300, gpu=False) == ("deit_nano", 32, {})
    assert model(32, 50_000, gpu=True) == ("deit_tiny_patch4", 32, {})
    assert model(500, 300, gpu=False) == ("deit_nano", 64, {"patch_size": 8})
    assert model(500, 300, gpu=True) == ("deit_tiny", 224, {})
    assert model(500, 300, gpu=True, convnet=True)[:2] == ("timm:resnet18", 224)
    assert model(500, 300, gpu=True, given={"model.image_size": 96}) == ("deit_nano", None, {"patch_size": 8})
    assert model(500, 300, gpu=True, given={"model.name": "deit_nano"}) == (None, 32, None)


def test_choosing_loads_no_torch() -> None:
    code = "import sys, deitkit.recipe.choose, deitkit.recipe.pick as p; "
    code += "p.pick_recipe('cars', image_size=None, distilled=False); "
    code += "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
