"""Streamed moments and linear CKA against their definitions on whole matrices, written out in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deitkit.measures.similarity import LinearCKA, Moments

Matrix = NDArray[Any]


def centred_gram(x: Matrix) -> Matrix:
    return (x - x.mean(0)) @ (x - x.mean(0)).T


def cka_by_kernels(x: Matrix, y: Matrix) -> float:
    """Kornblith et al. 2019, eq. 3 and 4: HSIC(K, L) = tr(KHLH) / (n - 1)^2."""
    k, m = centred_gram(x), centred_gram(y)
    return float(np.trace(k @ m) / np.sqrt(np.trace(k @ k) * np.trace(m @ m)))


def unbiased_hsic(x: Matrix, y: Matrix) -> float:
    """Song et al. 2012, eq. 5, with the kernels whole."""
    n, k, m = len(x), x @ x.T, y @ y.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    sums = k.sum() * m.sum() / ((n - 1) * (n - 2))
    return float((np.trace(k @ m) + sums - 2 / (n - 2) * (k @ m).sum()) / (n * (n - 3)))


def streamed(x: Matrix, y: Matrix, *, batch: int = 7) -> LinearCKA:
    cka = LinearCKA()
    for start in range(0, len(x), batch):
        cka.add(torch.from_numpy(x[start : start + batch]), torch.from_numpy(y[start : start + batch]))
    return cka


@pytest.fixture
def pair() -> tuple[Matrix, Matrix]:
    """40 images of two related spaces of different width, far from the origin."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(40, 6))
    return x + 5, x[:, :4] @ generator.normal(size=(4, 9)) + generator.normal(size=(40, 9)) - 3


def test_biased_cka_is_kornbliths_definition(pair: tuple[Matrix, Matrix]) -> None:
    assert streamed(*pair).biased() == pytest.approx(cka_by_kernels(*pair))


def test_debiased_cka_is_songs_estimator(pair: tuple[Matrix, Matrix]) -> None:
    x, y = pair
    expected = unbiased_hsic(x, y) / np.sqrt(unbiased_hsic(x, x) * unbiased_hsic(y, y))
    assert streamed(x, y).debiased() == pytest.approx(expected)


def test_batches_make_no_difference(pair: tuple[Matrix, Matrix]) -> None:
    whole, parts = streamed(*pair, batch=40), streamed(*pair, batch=1)
    assert whole.biased() == pytest.approx(parts.biased())
    assert whole.debiased() == pytest.approx(parts.debiased())


def test_a_turned_scaled_and_moved_copy_has_cka_one(pair: tuple[Matrix, Matrix]) -> None:
    x, _ = pair
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 6)))[0]
    cka = streamed(x, 3 * x @ turn - 2)
    assert cka.biased() == pytest.approx(1)
    assert cka.debiased() == pytest.approx(1)


def test_few_images_raise_the_biased_cka_of_unrelated_spaces_alone() -> None:
    generator = np.random.default_rng(2)
    cka = streamed(generator.normal(size=(60, 200)), generator.normal(size=(60, 200)))
    assert (cka.biased() or 0) > 0.6
    assert abs(cka.debiased() or 1) < 0.1


def test_what_does_not_vary_or_is_too_few_has_no_cka(pair: tuple[Matrix, Matrix]) -> None:
    x, y = pair
    assert streamed(np.ones_like(x), y).biased() is None
    assert streamed(np.ones_like(x), y).debiased() is None
    assert streamed(x[:3], y[:3]).debiased() is None
    assert LinearCKA().biased() is None


def test_moments_are_numpys_over_all_and_by_group() -> None:
    values, groups = torch.randn(3, 50).double(), torch.arange(50) % 4
    moments = Moments(5)
    for part in (slice(0, 20), slice(20, 50)):
        moments.add(values[:, part], groups[part])
    means, stds = moments.overall()
    np.testing.assert_allclose(means, values.numpy().mean(1))
    np.testing.assert_allclose(stds, values.numpy().std(1))
    means, stds = moments.by_group()
    for group in range(4):
        np.testing.assert_allclose(means[:, group], values[:, groups == group].numpy().mean(1))
        np.testing.assert_allclose(stds[:, group], values[:, groups == group].numpy().std(1))
    assert means[:, 4].isnan().all()


def test_a_spread_of_a_hundred_millionth_around_one_is_measured() -> None:
    values = 1 - 1e-8 * torch.rand(1, 1000, dtype=torch.float64)
    moments = Moments()
    for part in values.split(100, dim=1):
        moments.add(part)
    assert moments.overall()[1].item() == pytest.approx(values.numpy().std(), rel=1e-3)
