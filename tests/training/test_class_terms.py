"""Weights and adjusted logits against torch, scikit-learn and the paper's equations, and in real runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from deitkit.data.open import Source, open_source, subset
from deitkit.distributed import World
from deitkit.errors import DeitkitError
from deitkit.models.folder import ModelInfo
from deitkit.models.student import Heads
from deitkit.predictions.evaluate import evaluate
from deitkit.predictions.predict import adjusted
from deitkit.recipe.schema import Data, Loss
from deitkit.training.class_terms import ClassTerms, class_weights
from deitkit.training.fit import train_run
from deitkit.training.losses import label_loss
from deitkit.training.step import build
from tests.training.test_fit import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unequal() -> Source:
    """Digits, of which fewer of each number than of the one before it."""
    source = open_source(Data(dataset="digits"), "train")
    chosen = [index for label in range(10) for index in np.flatnonzero(source.labels == label)[: 100 - 9 * label]]
    return subset(source, sorted(int(index) for index in chosen), "train")


def test_balanced_weights_are_scikit_learns_and_all_are_one_in_the_mean_of_the_images(unequal: Source) -> None:
    counts = np.bincount(unequal.labels)
    expected = compute_class_weight("balanced", classes=np.arange(10), y=unequal.labels)
    np.testing.assert_allclose(class_weights(counts, "balanced"), expected)
    root = class_weights(counts, "sqrt")
    np.testing.assert_allclose(root / root[0], np.sqrt(counts[0] / counts))
    assert (root * counts).sum() / counts.sum() == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_weighted_loss_is_torchs_of_label_distributions(dtype: torch.dtype) -> None:
    logits, targets = torch.randn(7, 5, dtype=dtype), torch.rand(7, 5, dtype=dtype).softmax(dim=1)
    weights = torch.rand(5, dtype=dtype) + 0.1
    expected = F.cross_entropy(logits, targets, weight=weights)
    torch.testing.assert_close(label_loss(logits, targets, ClassTerms(weights=weights)), expected)


def test_the_adjusted_loss_is_equation_10_of_menon_et_al(unequal: Source) -> None:
    terms = ClassTerms.of(Loss(logit_adjustment=1.5), unequal, CPU)
    assert terms.shift is not None and terms.weights is None
    logits, labels = torch.randn(6, 10, dtype=torch.float64), np.array([0, 3, 9, 9, 2, 5])
    prior = np.bincount(unequal.labels) / len(unequal)
    z = logits.numpy()
    # log(1 + sum over y' != y of (pi_y' / pi_y)^tau exp(f_y' - f_y))
    expected = [
        np.log1p(sum((prior[k] / prior[y]) ** 1.5 * np.exp(row[k] - row[y]) for k in range(10) if k != y))
        for row, y in zip(z, labels, strict=True)
    ]
    targets = torch.eye(10, dtype=torch.float64)[torch.from_numpy(labels)]
    assert label_loss(logits, targets, terms).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_at_evaluation_alone_the_logits_are_those_of_equation_9(unequal: Source) -> None:
    counts = tuple(np.bincount(unequal.labels).tolist())
    info = ModelInfo.of(Data(), (16, 16), unequal.class_names, class_counts=counts, logit_adjustment=0.7)
    heads = Heads(torch.randn(4, 10), torch.randn(4, 10))
    found = adjusted(heads, info)
    shift = 0.7 * np.log(np.array(counts) / sum(counts))
    np.testing.assert_allclose(found.classes.numpy(), heads.classes.numpy() - shift, rtol=1e-5, atol=1e-5)
    assert heads.distillation is not None and found.distillation is not None
    np.testing.assert_allclose(found.distillation.numpy(), heads.distillation.numpy() - shift, rtol=1e-5, atol=1e-5)


def test_a_run_takes_them_from_its_recipe_and_without_them_adds_nothing() -> None:
    assert build(tiny(), world=World(), device=CPU, workers=0).classes == ClassTerms()
    training = build(tiny(loss={"class_weights": "balanced"}), world=World(), device=CPU, workers=0)
    expected = compute_class_weight("balanced", classes=np.arange(10), y=training.train.labels)
    assert training.classes.weights is not None
    np.testing.assert_allclose(training.classes.weights.numpy(), expected, rtol=1e-6)
    assert training.info.class_counts == tuple(np.bincount(training.train.labels).tolist())


def test_a_run_keeps_its_class_counts_and_is_adjusted_by_them(tmp_path: Path) -> None:
    run = train_run(tiny(train={"epochs": 1, "accumulation": 1}), tmp_path / "run", device="cpu").run
    before = sorted((run.path / "predictions").glob("*.parquet"))
    plain, found = evaluate(run.path, device="cpu"), evaluate(run.path, device="cpu", logit_adjustment=50.0)
    counts = np.bincount(open_source(Data(dataset="digits"), "train").labels)
    said = found.predictions.top1("fused")
    assert (said == counts.argmin()).mean() > 0.9  # so much weight leaves the rarest class alone
    assert found.predictions.settings["logit_adjustment"] == 50.0
    assert sorted((run.path / "predictions").glob("*.parquet")) == before
    assert plain.accuracy["fused"].balanced_accuracy != found.accuracy["fused"].balanced_accuracy


@pytest.mark.parametrize(
    ("loss", "words"),
    [({"class_weights": [1.0, 2.0]}, "2 numbers for 10"), ({"class_weights": "sqrt"}, "have none"),
     ({"logit_adjustment": 1.0}, "have none")],
)  # fmt: skip
def test_what_does_not_fit_the_classes_is_refused(loss: dict[str, object], words: str, unequal: Source) -> None:
    without = subset(unequal, np.flatnonzero(unequal.labels != 4).tolist(), "train")
    with pytest.raises(DeitkitError, match=words) as caught:
        ClassTerms.of(Loss.model_validate(loss), without, CPU)
    assert "--set loss." in caught.value.remedy


def test_two_ways_to_make_up_for_the_same_are_refused() -> None:
    with pytest.raises(DeitkitError) as caught:
        tiny(data={"balance": "sqrt"}, loss={"logit_adjustment": 1.0})
    assert "keep one of them" in caught.value.problems[0]
    tiny(data={"balance": "sqrt"}, loss={"class_weights": [1.0] * 10})  # costs of one's own are another thing
