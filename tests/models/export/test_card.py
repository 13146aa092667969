"""Model cards: the hub's header, figures with intervals, and no path of anybody's disk."""

from __future__ import annotations

from dataclasses import replace

import yaml
from scipy.stats import binomtest

from deitkit.models.export.card import HeadScore, ModelOrigins, model_card
from deitkit.models.export.wanted import Wanted
from deitkit.models.load import LoadedModel

RECIPE = '[data]\npath = "/home/somebody/photos" # command line\n[optim]\nlr = 0.0005 # Table 9\n'


def test_a_card_says_what_the_hub_reads_and_what_people_ask(distilled: LoadedModel) -> None:
    origins = ModelOrigins("tiny", RECIPE, (HeadScore("digits", "val", "fused", 355, 360),))
    card = model_card(distilled, Wanted("timm", licence="apache-2.0"), origins, repository="somebody/tiny")
    _, header, text = card.split("---\n", 2)
    said = yaml.safe_load(header)
    assert (said["license"], said["library_name"], said["pipeline_tag"]) == (
        "apache-2.0",
        "timm",
        "image-classification",
    )
    (result,) = said["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(355 / 360, 6)
    bounds = binomtest(355, 360).proportion_ci(method="wilson")
    assert f"98.61% | {bounds.low:.2%} to {bounds.high:.2%} | 355 of 360" in text
    assert 'timm.create_model("hf-hub:somebody/tiny", pretrained=True)' in text
    assert "averages the heads' logits" in text and "lr = 0.0005 # Table 9" in text
    assert "/home/somebody" not in card and '".../photos" # command line' in text


def test_what_is_not_known_is_not_claimed(plain: LoadedModel) -> None:
    info = replace(plain.info, dataset="cars")
    card = model_card(replace(plain, info=info), Wanted("hf"), ModelOrigins("plain"))
    assert "license: unknown" in card and "model-index" not in card
    assert "None is stated by whoever exported the model. The terms of the training images are: research use" in card
    assert "Not measured" in card and "No recipe is known" in card and 'pipeline("image-classification"' in card
