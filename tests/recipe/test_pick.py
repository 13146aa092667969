"""Which shipped recipe fits a data set."""

from __future__ import annotations

import pytest

from deitkit.errors import DeitkitError
from deitkit.recipe.load import load_recipe
from deitkit.recipe.pick import OWN, pick_recipe, recipes_of, trainable_datasets
from deitkit.recipe.shipped import recipe_names

WITH_RECIPES = ("cifar10", "cifar100", "flowers102", "cars", "inat18", "inat19", "imagenet")


@pytest.mark.parametrize("dataset", WITH_RECIPES)
@pytest.mark.parametrize("size", [None, 224, 384])
@pytest.mark.parametrize("distilled", [False, True])
def test_a_known_data_set_gets_its_own_recipe_of_that_kind(dataset: str, size: int | None, distilled: bool) -> None:
    recipe = load_recipe(pick_recipe(dataset, image_size=size, distilled=distilled))
    assert recipe.data.dataset == dataset
    assert recipe.model.size == (size or 224, size or 224)
    assert recipe.model.distilled == distilled


@pytest.mark.parametrize("dataset", ["folder", "hf:beans", "digits"])
def test_any_other_images_get_the_generic_recipe(dataset: str) -> None:
    assert pick_recipe(dataset, image_size=384, distilled=False) == OWN[0]
    assert pick_recipe(dataset, image_size=None, distilled=True) == OWN[1]


def test_sizes_between_224_and_384_get_the_nearer_one() -> None:
    assert pick_recipe("cars", image_size=32, distilled=False) == "finetune/cars"
    assert pick_recipe("cars", image_size=288, distilled=False) == "finetune/cars"
    assert pick_recipe("cars", image_size=320, distilled=False) == "finetune/cars_384"


def test_an_unknown_data_set_and_one_for_evaluation_alone_are_refused() -> None:
    with pytest.raises(DeitkitError, match=r"'carss' is unknown. Did you mean cars\?") as unknown:
        pick_recipe("carss", image_size=None, distilled=False)
    assert unknown.value.choices == (*trainable_datasets(), "folder", "hf:NAME")
    with pytest.raises(DeitkitError, match="no training images") as evaluated:
        pick_recipe("imagenet_v2", image_size=None, distilled=False)
    assert "deitkit evaluate" in evaluated.value.remedy


def test_the_recipes_of_a_data_set_are_those_that_name_it() -> None:
    for dataset in WITH_RECIPES:
        assert {load_recipe(name).data.dataset for name in recipes_of(dataset)} == {dataset}
        assert f"finetune/{dataset}_evening" in recipes_of(dataset)
    assert recipes_of("folder") == list(OWN)
    assert set(OWN) <= set(recipe_names())
