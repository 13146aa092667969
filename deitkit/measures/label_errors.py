"""Which labels to doubt, by confident learning: a classifier's probabilities against the labels themselves.

Source: Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels, 2021: thresholds and
the confident joint (eq. 1), its calibration (eq. 2), pruning by noise rate, ranking by normalised margin. As in the
authors' later practice, an image whose label is the decision is never doubted. Trains nothing: probabilities of images
that the classifier was trained on hide the errors that it has learned. What it confidently mistakes itself cannot be
told from wrong labels, so the number estimated is too high by as much as it is weak.

Legend: N images, K classes, P pairs of classes; logits [N, K]; log-probabilities are logits, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deitkit.measures.arrays import Floats, Labels, Logits
from deitkit.measures.scores import ImageScores, blocks, score

# Where a class has one image, its probability is the threshold itself, and must reach it in spite of rounding.
ROUNDING = 1 - 1e-6


@dataclass(frozen=True, eq=False)
class ConfidentJoint:
    """How many images of each label are confidently of which class, as pairs that occur: labels [P], classes [P],
    images [P]; and the threshold of each class [K], its labelled images' mean probability of it (NaN without any).
    `images_of` [K] counts the labelled images.
    """

    labels: NDArray[np.int64]
    classes: NDArray[np.int64]
    images: NDArray[np.int64]
    thresholds: Floats
    images_of: NDArray[np.int64]

    @property
    def estimated(self) -> Floats:
        """Estimated numbers of images [P]: each label's pairs are scaled to sum to all its images (eq. 2, times N)."""
        confident = np.bincount(self.labels, self.images, minlength=len(self.images_of))
        return np.asarray(self.images * (self.images_of / np.maximum(confident, 1))[self.labels])

    @property
    def estimated_wrong(self) -> Floats:
        """Of each label [K], how many of its images are estimated to be of another class."""
        off = self.labels != self.classes
        return np.asarray(np.bincount(self.labels[off], self.estimated[off], minlength=len(self.images_of)))


@dataclass(frozen=True, eq=False)
class LabelErrors:
    """Doubtful images as rows [n], the most doubtful first, behind the joint that says how many there should be."""

    joint: ConfidentJoint
    rows: NDArray[np.int64]

    def doubted(self, labels: Labels) -> NDArray[np.int64]:
        """Of each label, how many images are doubted: [K]."""
        return np.bincount(labels[self.rows], minlength=len(self.joint.images_of))


def find_label_errors(logits: Logits, labels: Labels, scores: ImageScores | None = None) -> LabelErrors:
    """logits [N, K], labels [N] -> the images whose label is doubtful, by ascending normalised margin.

    For each pair of a label i and another class j, the n images labelled i of the largest p_j - p_i are taken, n being
    the estimated number (pruning by noise rate); of them those stay whose decision is not the label. The normalised
    margin is p_label minus the largest other probability. `scores` are those of `score`, where they are there already.
    """
    scores = score(logits, labels) if scores is None else scores
    joint = confident_joint(logits, labels, scores)
    chosen = np.zeros(len(labels), dtype=np.bool_)
    for rows in _pruned(logits, labels, scores, joint):
        chosen[rows] = True
    margin = scores.margin
    found = np.flatnonzero(chosen & (margin < 0))
    return LabelErrors(joint, found[np.argsort(margin[found], kind="stable")])


def confident_joint(logits: Logits, labels: Labels, scores: ImageScores) -> ConfidentJoint:
    """Each image counts for the most probable class among those whose threshold it reaches, or for none."""
    classes = logits.shape[1]
    images_of = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, scores.label_probability, minlength=classes)
    with np.errstate(invalid="ignore", divide="ignore"):
        thresholds = sums / images_of
        least = np.log(np.where(images_of > 0, thresholds * ROUNDING, np.inf))
    confident = np.empty(len(labels), dtype=np.int64)
    for rows, block in blocks(logits):
        block -= scores.normaliser[rows, None]
        block[block < least] = -np.inf
        best = block.argmax(axis=1)
        confident[rows] = np.where(np.isneginf(block[np.arange(len(block)), best]), -1, best)
    counted = confident >= 0
    codes, images = np.unique(labels[counted] * classes + confident[counted], return_counts=True)
    return ConfidentJoint(codes // classes, codes % classes, images, thresholds, images_of)


def _pruned(
    logits: Logits, labels: Labels, scores: ImageScores, joint: ConfidentJoint
) -> Iterator[NDArray[np.int64]]:  # fmt: skip
    """For each pair of a label and another class, the rows of as many images as are estimated to be mislabelled so."""
    by_label = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(joint.images_of)])
    off = np.flatnonzero(joint.labels != joint.classes)
    wanted = np.rint(joint.estimated[off]).astype(np.int64)
    for label in np.unique(joint.labels[off]).tolist():
        rows = by_label[starts[label] : starts[label + 1]]
        pairs = joint.labels[off] == label
        others = joint.classes[off][pairs]
        probability = np.exp(logits[np.ix_(rows, others)].astype(np.float64) - scores.normaliser[rows, None])
        margins = probability - scores.label_probability[rows, None]
        for column, count in enumerate(wanted[pairs].tolist()):
            yield rows[np.argsort(-margins[:, column], kind="stable")[:count]]
