"""Accuracy by class, and means over classes: for classes of unlike size (He and Garcia 2009, Learning from imbalanced
data, Sec. 4). Legend: N images, K classes. As scikit-learn defines them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deitkit.measures.arrays import Decisions, Floats, Labels


@dataclass(frozen=True, eq=False)
class ClassCounts:
    """Of each class [K]: its `images`, how often it was `decided`, and how often rightly."""

    images: Labels
    decided: Labels
    right: Labels

    @classmethod
    def of(cls, decisions: Decisions, labels: Labels, *, classes: int) -> ClassCounts:
        """decisions [N] and labels [N] between so many classes."""
        counts = (np.bincount(each, minlength=classes) for each in (labels, decisions, labels[decisions == labels]))
        return cls(*counts)

    @property
    def recall(self) -> Floats:
        """The share of each class's images that is decided rightly [K]; NaN where it has none."""
        return _share(self.right, self.images)

    @property
    def precision(self) -> Floats:
        """The share of the decisions for each class that is right [K]; NaN where there are none."""
        return _share(self.right, self.decided)

    @property
    def f1(self) -> Floats:
        """The harmonic mean of recall and precision [K]: 0 where nothing is right, NaN where a class neither has images
        nor was decided."""
        return _share(2 * self.right, self.images + self.decided)

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the classes that have images."""
        return float(np.nanmean(self.recall))

    @property
    def macro_f1(self) -> float:
        """The mean F1 of the classes that have images or were decided."""
        return float(np.nanmean(self.f1))


def _share(part: Labels, whole: Labels) -> Floats:
    share: Floats = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share
