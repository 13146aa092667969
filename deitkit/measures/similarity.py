"""Sums over batches from which means, spreads and linear CKA follow: no batch is kept. Knows no model.

CKA: Kornblith et al., Similarity of neural network representations revisited, 2019; without its bias towards 1 where
images are few: Song et al., Feature selection via dependence maximization, 2012, eq. 5, as in Nguyen et al. 2021.
Legend: n images, D and E widths, P places, K groups.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CONSTANT = 1e-12  # a representation whose variance is below this share of its square says nothing of the images


class Moments:
    """Mean and standard deviation of values [P, n], over all images and for each of K groups of them."""

    def __init__(self, groups: int = 1) -> None:
        self.groups = groups
        self._shift = self._sums = self._squares = torch.empty(0)
        self.counts = torch.zeros(groups, dtype=torch.float64)

    def add(self, values: Tensor, groups: Tensor | None = None) -> None:
        """values [P, n] and the images' groups [n]; without them all images are of the first."""
        values = on_cpu(values)
        members = torch.zeros(values.shape[1], dtype=torch.long) if groups is None else groups.cpu()
        if not self._shift.numel():
            # Squares of values near 1 would leave no digits for a spread of 1e-8: sum the distances from a first mean.
            self._shift = values.mean(dim=1, keepdim=True)
            self._sums, self._squares = (torch.zeros(len(values), self.groups, dtype=torch.float64) for _ in range(2))
        self._sums.index_add_(1, members, values - self._shift)
        self._squares.index_add_(1, members, (values - self._shift) ** 2)
        self.counts.index_add_(0, members, torch.ones_like(members, dtype=torch.float64))

    def overall(self) -> tuple[Tensor, Tensor]:
        """Means [P] and standard deviations [P] over all images."""
        return self._finish(self._sums.sum(dim=1), self._squares.sum(dim=1), self.counts.sum())

    def by_group(self) -> tuple[Tensor, Tensor]:
        """Means [P, K] and standard deviations [P, K]; NaN where a group has no image."""
        means, spreads = self._finish(self._sums.T, self._squares.T, self.counts[:, None])
        return means.T, spreads.T

    def _finish(self, sums: Tensor, squares: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        means = sums / counts
        return means + self._shift[:, 0], (squares / counts - means**2).clamp(min=0).sqrt()


class CrossSums:
    """What the Hilbert-Schmidt independence criterion (HSIC) of linear kernels needs of x [n, D] and y [n, E]."""

    def __init__(self) -> None:
        self.images = 0
        self._xy = self._x = self._y = self._ay = self._bx = torch.zeros(())
        self._a = self._b = self._ab = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        a, b = (x**2).sum(dim=1), (y**2).sum(dim=1)  # the kernels' diagonals
        self.images += len(x)
        self._xy = self._xy + x.T @ y
        self._x, self._y = self._x + x.sum(dim=0), self._y + y.sum(dim=0)
        self._ay, self._bx = self._ay + a @ y, self._bx + b @ x
        self._a, self._b, self._ab = self._a + a.sum().item(), self._b + b.sum().item(), self._ab + (a @ b).item()

    def variance(self) -> float:
        """Total variance of x, times n."""
        return self._a - (self._x @ self._x).item() / self.images

    def biased(self) -> float:
        """HSIC_0 times (n - 1)^2: the squared Frobenius norm of the cross-covariance times n."""
        centred = self._xy - torch.outer(self._x, self._y) / self.images
        return (centred**2).sum().item()

    def debiased(self) -> float:
        """HSIC_1 times n (n - 3) (Song et al., eq. 5); both kernels' diagonals are left out."""
        n, x, y = self.images, self._x, self._y
        trace = (self._xy**2).sum().item() - self._ab
        sums = ((x @ x).item() - self._a) * ((y @ y).item() - self._b)
        rows = (x @ self._xy @ y - self._ay @ y - self._bx @ x).item() + self._ab
        return trace + sums / ((n - 1) * (n - 2)) - 2 * rows / (n - 2)


class LinearCKA:
    """Linear CKA of two representations of the same images: 1 if one is a turned and scaled copy of the other."""

    def __init__(self) -> None:
        self._shifts: tuple[Tensor, Tensor] | None = None
        self._xy, self._xx, self._yy = CrossSums(), CrossSums(), CrossSums()

    def add(self, x: Tensor, y: Tensor) -> None:
        """x [n, D], y [n, E]: the same images in the same order."""
        x, y = as_double(x), as_double(y)
        if self._shifts is None:
            # CKA does not depend on the mean; without most of it, the sums keep more digits.
            self._shifts = (x.mean(dim=0), y.mean(dim=0))
        x, y = x - self._shifts[0], y - self._shifts[1]
        self._xy.add(x, y)
        self._xx.add(x, x)
        self._yy.add(y, y)

    def biased(self) -> float | None:
        """Kornblith et al., eq. for linear CKA; near 1 for anything where images are fewer than widths."""
        if self._is_constant():
            return None
        return _ratio(self._xy.biased(), self._xx.biased(), self._yy.biased())

    def debiased(self) -> float | None:
        """The same with HSIC_1; it may lie a little below 0. None below 4 images, or where nothing varies."""
        if self._xy.images < 4 or self._is_constant():
            return None
        return _ratio(self._xy.debiased(), self._xx.debiased(), self._yy.debiased())

    def _is_constant(self) -> bool:
        if self._shifts is None:
            return True
        return any(
            sums.variance() <= CONSTANT * sums.images * float((shift @ shift).item())
            for sums, shift in zip((self._xx, self._yy), self._shifts, strict=True)
        )


def _ratio(xy: float, xx: float, yy: float) -> float | None:
    return xy / math.sqrt(xx * yy) if xx > 0 and yy > 0 else None


def as_double(x: Tensor) -> Tensor:
    """float64 where x is; Apple's GPUs have none, so from there on the CPU."""
    return x.detach().cpu().double() if x.device.type == "mps" else x.detach().double()


def on_cpu(x: Tensor) -> Tensor:
    """float64 on the CPU."""
    return x.detach().cpu().double()
