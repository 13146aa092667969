"""Fitting the heads' fusion: known optima, honest comparisons, and what is stored. Reference: numpy, scikit-learn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from deitkit.errors import DeitkitError
from deitkit.models.folder import read_config, read_fusion, read_info, store_fusion
from deitkit.models.load import ModelInfo, load_info, save_model
from deitkit.models.student import FittedFusion, FittedKind, Heads, build_student
from deitkit.predictions.fusion import KINDS, fit_fusion
from deitkit.predictions.fusion_choice import (
    FusionReport,
    Judged,
    compare,
    compare_fusions,
    fit_to,
    fold_of,
    fused_by,
    judge,
)
from deitkit.predictions.table import Predictions, head_predictions
from deitkit.recipe.schema import Data, Model

Array = NDArray[np.float64]
PLAIN: dict[FittedKind, str] = {"weighted_softmax": "softmax", "weighted_logits": "average_logits"}


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def drawn(probabilities: Array, seed: int = 0) -> NDArray[np.int64]:
    """A label for each row, by its probabilities."""
    uniform = np.random.default_rng(seed).random((len(probabilities), 1))
    return np.minimum((probabilities.cumsum(axis=1) < uniform).sum(axis=1), probabilities.shape[1] - 1)


def two_heads(images: int = 4000, classes: int = 6, *, spread: float = 2.0, seed: int = 1) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    a, b = generator.normal(0, spread, (2, images, classes))
    return a, b


def noisy(labels: NDArray[np.int64], classes: int, *, strength: float, seed: int) -> Array:
    """Logits that know the label, each strength its noise."""
    return np.random.default_rng(seed).normal(size=(len(labels), classes)) + strength * np.eye(classes)[labels]


def nll(probabilities: Array, labels: NDArray[np.int64]) -> float:
    return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())


# Known optima


def test_a_mixture_of_softmaxes_is_found_again() -> None:
    a, b = two_heads(20_000)
    labels = drawn(0.7 * softmax(a / 1.5) + 0.3 * softmax(b / 0.6))
    fitted = fit_fusion(a, b, labels, "weighted_softmax")
    assert fitted.weight == pytest.approx(0.7, abs=0.03)
    assert fitted.temperatures == pytest.approx((1.5, 0.6), rel=0.12)


def test_a_sum_of_logits_is_found_again_and_is_what_logistic_regression_finds() -> None:
    a, b = two_heads(20_000, classes=2)
    labels = drawn(softmax(0.5 * a + 0.25 * b))
    fitted = fit_fusion(a, b, labels, "weighted_logits")
    assert fitted.weight == pytest.approx(2 / 3, abs=0.03)
    assert fitted.temperatures == pytest.approx((4 / 3, 4 / 3), rel=0.1)
    margins = np.stack([a[:, 1] - a[:, 0], b[:, 1] - b[:, 0]], axis=1)
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-8).fit(margins, labels)
    factors = [fitted.weight / fitted.temperatures[0], (1 - fitted.weight) / fitted.temperatures[1]]
    assert factors == pytest.approx(regression.coef_[0].tolist(), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_the_fit_is_never_less_likely_than_its_plain_fusion_on_the_images_fitted(kind: FittedKind, seed: int) -> None:
    a, b = two_heads(300, spread=1.0 + seed, seed=seed)
    labels = np.random.default_rng(seed).integers(0, 6, 300)
    fitted = judge(a, b, labels, fit_fusion(a, b, labels, kind)).nll.mean()
    assert fitted <= judge(a, b, labels, PLAIN[kind]).nll.mean()  # type: ignore[arg-type]


def test_equal_heads_keep_equal_shares() -> None:
    labels = np.arange(900) % 6
    a = noisy(labels, 6, strength=2.0, seed=3)
    for kind in KINDS:
        assert fit_fusion(a, a, labels, kind).weight == pytest.approx(0.5, abs=1e-6)
    report = compare_fusions(a, a, labels)
    assert any("decide every image alike" in note for note in report.notes)
    assert all(each.gained == each.lost == 0 and each.p_value == 1 for each in report.comparisons)


@pytest.mark.parametrize("random_head", ["class", "distillation"])
def test_a_random_head_loses_its_share(random_head: str) -> None:
    labels = np.arange(3000) % 6
    good, random = noisy(labels, 6, strength=2.5, seed=4), noisy(labels, 6, strength=0.0, seed=5) * 3
    a, b = (random, good) if random_head == "class" else (good, random)
    report = compare_fusions(a, b, labels)
    for fusion in report.fitted:
        share = fusion.weight if random_head == "distillation" else 1 - fusion.weight
        assert share > 0.9
    better = {each.name: each.verdict for each in report.comparisons}
    assert better["weighted_softmax"] == "decides better"
    assert isinstance(report.choice, FittedFusion)


# What is reported


@pytest.fixture(scope="module")
def report() -> FusionReport:
    labels = np.arange(1200) % 6
    return compare_fusions(noisy(labels, 6, strength=1.5, seed=6), noisy(labels, 6, strength=2, seed=7), labels)


def test_scores_are_top1_likelihood_and_calibration() -> None:
    labels = np.arange(1200) % 6
    a, b = noisy(labels, 6, strength=1.5, seed=6), noisy(labels, 6, strength=2, seed=7)
    scores = {score.name: score for score in compare_fusions(a, b, labels).scores}
    expected = {
        "class": softmax(a), "distillation": softmax(b), "softmax": (softmax(a) + softmax(b)) / 2,
        "average_logits": softmax((a + b) / 2),
    }  # fmt: skip
    for name, probabilities in expected.items():
        assert scores[name].top1 == (probabilities.argmax(axis=1) == labels).mean()
        assert scores[name].nll == pytest.approx(nll(probabilities, labels))
        confidence, ece = probabilities.max(axis=1), 0.0
        for low in np.arange(15) / 15:
            inside = (confidence > low) & (confidence <= low + 1 / 15)
            if inside.any():
                right = probabilities.argmax(axis=1)[inside] == labels[inside]
                ece += inside.mean() * abs(confidence[inside].mean() - right.mean())
        assert scores[name].ece == pytest.approx(ece)


def test_every_image_is_judged_by_a_fit_that_did_not_see_it() -> None:
    labels = np.arange(200) % 4
    a, b = noisy(labels, 4, strength=1, seed=8), noisy(labels, 4, strength=1, seed=9)
    fold = fold_of(labels, folds=5)
    score = {each.name: each for each in compare_fusions(a, b, labels).scores}["weighted_softmax"]
    expected = np.empty(200)
    for number in range(5):
        out = fold == number
        fusion = fit_fusion(a[~out], b[~out], labels[~out], "weighted_softmax")
        first, second = a[out] / fusion.temperatures[0], b[out] / fusion.temperatures[1]
        fused = fusion.weight * softmax(first) + (1 - fusion.weight) * softmax(second)
        expected[out] = fused[np.arange(out.sum()), labels[out]]
    assert score.nll == pytest.approx(-np.log(expected).mean())


def test_folds_are_stratified_equal_and_keyed() -> None:
    labels = np.repeat(np.arange(7), 33)
    fold = fold_of(labels, folds=5)
    assert np.bincount(fold).tolist() == [47, 46, 46, 46, 46]
    assert all(set(np.bincount(fold[labels == label], minlength=5)) <= {6, 7} for label in range(7))
    assert np.array_equal(fold, fold_of(labels, folds=5))
    assert not np.array_equal(fold, fold_of(labels, folds=5, seed=1))


def test_noise_is_not_taken_for_a_gain() -> None:
    def verdict(gained: int, lost: int, images: int = 400) -> tuple[str, float, tuple[float, float]]:
        labels = np.zeros(images, np.int64)
        right, other, plain = labels, labels.copy(), labels.copy()
        plain[:gained], other[gained : gained + lost] = 1, 1
        ones = np.ones(images)
        found = compare("weighted_softmax", Judged(other, ones, ones), Judged(plain, ones, ones), right)
        assert (found.gained, found.lost, found.top1_gain) == (gained, lost, (gained - lost) / images)
        return found.verdict, found.p_value, found.top1_interval

    words, p_value, (low, high) = verdict(9, 4)
    assert words == "decides alike but for chance"
    assert p_value == pytest.approx(0.2668, abs=1e-4)  # 2 * P(at most 4 of 13 fair coins)
    assert low < 0 < high
    assert verdict(30, 4)[0] == "decides better"
    assert verdict(4, 30)[0] == "decides worse"
    assert verdict(30, 4)[2][0] > 0
    assert verdict(0, 0)[1] == 1


def test_the_choice_has_the_lowest_likelihood_loss_of_those_that_decide_no_worse(report: FusionReport) -> None:
    assert {score.name for score in report.scores} == {"class", "distillation", *PLAIN, *PLAIN.values()}
    loss = {score.name: score.nll for score in report.scores}
    worse = {each.name for each in report.comparisons if each.verdict == "decides worse"}
    name = report.choice if isinstance(report.choice, str) else report.choice.kind
    assert name == min({*PLAIN, *PLAIN.values()} - worse, key=lambda each: loss[each])


def test_classes_without_images_and_labels_of_one_class_are_no_trouble() -> None:
    labels = np.arange(300) % 3  # of 9 classes
    report = compare_fusions(noisy(labels, 9, strength=2, seed=1), noisy(labels, 9, strength=2, seed=2), labels)
    assert all(np.isfinite([score.nll, score.ece]).all() for score in report.scores)
    one = np.zeros(40, np.int64)
    report = compare_fusions(noisy(one, 3, strength=9, seed=1), noisy(one, 3, strength=9, seed=2), one)
    assert all(np.isfinite(score.nll) for score in report.scores)


def test_few_images_are_said_and_very_few_refused() -> None:
    labels = np.arange(49) % 3
    a, b = noisy(labels, 3, strength=1, seed=1), noisy(labels, 3, strength=1, seed=2)
    assert any("49 images are too few: the fit is not to be trusted" in n for n in compare_fusions(a, b, labels).notes)
    with pytest.raises(DeitkitError, match="cannot be fitted to 9 images"):
        compare_fusions(a[:9], b[:9], labels[:9])


def test_logits_that_are_not_finite_are_refused() -> None:
    a, b = two_heads(50)
    a[7, 2] = np.nan
    with pytest.raises(DeitkitError, match="not finite"):
        compare_fusions(a, b, np.zeros(50, np.int64))


def test_saturated_logits_leave_a_finite_likelihood() -> None:
    labels = np.arange(60) % 3
    a = 1e4 * np.eye(3)[(labels + (np.arange(60) < 6)) % 3]
    report = compare_fusions(a, a[::-1], labels)
    assert all(np.isfinite(score.nll) for score in report.scores)
    assert any("a temperature is extreme" in note for note in report.notes)


# Fused by the model as it was fitted


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_fuses_as_the_fit_does(kind: FittedKind) -> None:
    a, b = two_heads(50)
    fusion = FittedFusion(kind, 0.3, (1.7, 0.8))
    fused = Heads(torch.tensor(a), torch.tensor(b)).probabilities(fusion)["fused"].numpy()
    judged = judge(a, b, np.zeros(50, np.int64), fusion)
    assert np.array_equal(fused.argmax(axis=1), judged.decisions)
    assert fused.max(axis=1) == pytest.approx(judged.confidence, rel=1e-5)
    assert -np.log(fused[:, 0]) == pytest.approx(judged.nll, rel=1e-4, abs=1e-5)


def test_fitted_fusions_hold_the_plain_ones() -> None:
    heads = Heads(*(torch.tensor(part) for part in two_heads(50)))
    for kind, plain in PLAIN.items():
        fitted = heads.fused(FittedFusion(kind, 0.5, (1.0, 1.0)))
        torch.testing.assert_close(fitted, heads.fused(plain))  # type: ignore[arg-type]


def predictions(*, logits: bool = True) -> Predictions:
    labels = np.arange(60) % 3
    heads = {}
    for name, seed in (("class", 1), ("distillation", 2)):
        values = noisy(labels, 3, strength=2, seed=seed).astype(np.float32)
        heads[name] = head_predictions(name, softmax(values), values if logits else None)
    return Predictions(
        dataset="digits", split="val", fingerprint="f", classifier="c", class_names=("a", "b", "c"),
        ids=[str(index) for index in range(60)], labels=labels, heads=heads, settings={"fusion": "softmax"},
    )  # fmt: skip


def test_predictions_are_fused_anew_and_say_how(tmp_path: Path) -> None:
    table = predictions()
    fusion = FittedFusion("weighted_softmax", 0.001, (1.0, 1.0))
    anew = fused_by(table, fusion)
    assert np.array_equal(anew.top1("fused"), table.top1("distillation"))
    anew.save(tmp_path / "p.parquet")
    assert read_fusion(Predictions.load(tmp_path / "p.parquet").settings["fusion"]) == fusion
    assert fit_to(table).fitted[0].fitted_on == "digits/val, 60 images"


def test_predictions_of_one_head_or_without_logits_are_refused() -> None:
    table = predictions()
    with pytest.raises(DeitkitError, match="one head"):
        fit_to(replace(table, heads={"class": table.head("class")}))
    with pytest.raises(DeitkitError, match="hold no logits") as caught:
        fit_to(predictions(logits=False))
    assert "--logits" in caught.value.remedy


# Stored with the model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = Model(
        name="deit_nano", image_size=16, distilled=True, options={"embed_dim": 32, "depth": 2, "num_heads": 2}
    )
    info = ModelInfo.of(Data(dataset="digits"), (16, 16), tuple("0123456789"))
    save_model(tmp_path / "model", build_student(model, 10), info)
    return tmp_path / "model"


@pytest.mark.parametrize(
    "fusion", ["softmax", "average_logits", FittedFusion("weighted_logits", 0.25, (2.0, 2.0), "x")]
)
def test_a_stored_fusion_comes_back_and_nothing_else_changes(folder: Path, fusion: FittedFusion) -> None:
    before, weights = load_info(folder), (folder / "model.safetensors").read_bytes()
    store_fusion(folder, fusion)
    assert load_info(folder) == replace(before, fusion=fusion)
    assert (folder / "model.safetensors").read_bytes() == weights
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 10)
    save_model(folder, student, load_info(folder))
    assert load_info(folder).fusion == fusion


def test_folders_from_before_still_load(folder: Path) -> None:
    config = read_config(folder)
    del config["deitkit"]["fusion"]
    info = read_info(config)
    assert info is not None
    assert info.fusion == "softmax"


@pytest.mark.parametrize(
    "value",
    ["maximum", None, 3, {}, {"kind": "weighted_softmax", "weight": 0.5}, ["softmax"],
     {"kind": "majority", "weight": 0.5, "temperatures": [1, 1]},
     {"kind": "weighted_softmax", "weight": 2, "temperatures": [1, 1]},
     {"kind": "weighted_softmax", "weight": 0.5, "temperatures": [1, 0]},
     {"kind": "weighted_softmax", "weight": 0.5, "temperatures": [1, 1], "bias": 3}],
    ids=json.dumps,
)  # fmt: skip
def test_an_unknown_fusion_in_a_config_is_refused(folder: Path, value: object) -> None:
    config = read_config(folder)
    config["deitkit"]["fusion"] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DeitkitError, match="fusion that deitkit does not know") as caught:
        load_info(folder)
    assert "weighted_logits" in caught.value.choices


def test_a_foreign_folder_takes_no_fusion(folder: Path) -> None:
    config = read_config(folder)
    del config["deitkit"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DeitkitError, match="not written by deitkit"):
        store_fusion(folder, "softmax")
