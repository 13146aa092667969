"""Clusters of confused classes against scipy, scikit-learn, brute force, and groups that were planted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform
from scipy.stats import entropy
from sklearn.metrics import confusion_matrix

from deitkit.errors import DeitkitError
from deitkit.measures.clusters import Errors, count_errors, find_clusters, link, surprise

Labels = NDArray[np.int64]


def planted(
    images: int, classes: int, group: int, *, error: float = 0.2, inside: float = 0.7, seed: int = 0
) -> tuple[Labels, Labels]:
    """Decisions and labels: a share of the errors stays inside of groups of neighbouring classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    near = labels // group * group + (labels % group + rng.integers(1, group, size=images)) % group
    far = (labels + rng.integers(1, classes, size=images)) % classes
    wrong = np.where(rng.random(images) < inside, near, far)
    return np.where(rng.random(images) < error, wrong, labels), labels


def rates(decisions: Labels, labels: Labels, classes: int) -> NDArray[np.float64]:
    """Confusion rates [K, K] with 0 on the diagonal, by scikit-learn."""
    counts = confusion_matrix(labels, decisions, labels=range(classes)).astype(np.float64)
    of = counts.sum(axis=1)
    both = (counts + counts.T) / np.maximum(of[:, None] + of, 1)
    np.fill_diagonal(both, 0)
    return both


# Counting


def test_errors_between_classes_are_those_of_the_confusion_matrix() -> None:
    decisions, labels = planted(2_000, 9, 3)
    expected = confusion_matrix(labels, decisions)
    errors, chosen = count_errors(decisions, labels, classes=9), np.array([7, 0, 4])
    off = expected - np.diag(np.diag(expected))
    np.testing.assert_array_equal(errors.between(np.arange(9)), off)
    np.testing.assert_array_equal(errors.between(chosen), off[np.ix_(chosen, chosen)])
    assert errors.total == (decisions != labels).sum()
    assert errors.images_of.tolist() == np.bincount(labels, minlength=9).tolist()


# Linkage


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_where_all_classes_are_confused_the_tree_is_scipys(classes: int) -> None:
    decisions, labels = planted(400 * classes, classes, classes, error=0.6, inside=0.0, seed=classes)
    tree = linkage(squareform(1 - rates(decisions, labels, classes), checks=False), "average")
    merges = link(count_errors(decisions, labels, classes=classes))
    np.testing.assert_allclose([1 - merge.rate for merge in merges], tree[:, 2])
    assert [{merge.a, merge.b} for merge in merges] == [set(row) for row in tree[:, :2].astype(int).tolist()]


def test_classes_that_are_never_confused_count_with_rate_0_and_are_never_joined() -> None:
    decisions, labels = planted(900, 30, 3, inside=0.97)
    tree = linkage(squareform(1 - rates(decisions, labels, 30), checks=False), "average")
    merges = link(count_errors(decisions, labels, classes=30))
    confused = tree[tree[:, 2] < 1 - 1e-12]
    np.testing.assert_allclose([1 - merge.rate for merge in merges], confused[:, 2])
    assert len(merges) < 29


# The cut


def test_surprise_is_the_divergence_from_chance() -> None:
    for share, chance in ((0.5, 0.1), (1.0, 0.2), (0.31, 0.3)):
        assert surprise(share, chance) == pytest.approx(entropy([share, 1 - share], [chance, 1 - chance]))
    assert surprise(0.1, 0.2) == surprise(1.0, 1.0) == 0.0


def test_no_other_level_of_the_tree_is_more_surprising() -> None:
    decisions, labels = planted(1_500, 12, 3, inside=0.6, seed=4)
    errors = count_errors(decisions, labels, classes=12)
    counts = errors.between(np.arange(12)).astype(np.float64)
    counts += counts.T
    degrees, groups = counts.sum(axis=0), {index: {index} for index in range(12)}
    found = []
    for number, merge in enumerate(link(errors), 12):
        groups[number] = groups.pop(merge.a) | groups.pop(merge.b)
        pairs = [(a, b) for group in groups.values() for a in group for b in group if a != b]
        everywhere = sum(degrees[a] * degrees[b] for a in range(12) for b in range(12) if a != b)
        inside, chance = (
            sum(counts[a, b] for a, b in pairs) / counts.sum(),
            sum(degrees[a] * degrees[b] for a, b in pairs) / everywhere,
        )
        divergence = entropy([inside, 1 - inside], [chance, 1 - chance]) if chance < inside < 1 else 0.0
        found.append((divergence, inside, sorted(sorted(group) for group in groups.values() if len(group) > 1)))
    best = max(found)
    clusters = find_clusters(errors)
    assert sorted(list(cluster.classes) for cluster in clusters.clusters) == best[2]
    assert clusters.inside == pytest.approx(best[1])


@pytest.mark.parametrize(("images", "classes", "group"), [(3_000, 10, 2), (4_000, 12, 4), (40_000, 500, 5)])
def test_planted_groups_are_found(images: int, classes: int, group: int) -> None:
    found = find_clusters(count_errors(*planted(images, classes, group), classes=classes))
    expected = {tuple(range(start, start + group)) for start in range(0, classes, group)}
    assert {cluster.classes for cluster in found.clusters} == expected
    assert found.inside > 0.65
    assert found.shuffled < 0.5


def test_errors_without_groups_gather_no_more_than_shuffled_ones() -> None:
    found = find_clusters(count_errors(*planted(20_000, 300, 5, inside=0.0), classes=300))
    assert found.inside == pytest.approx(found.shuffled, abs=0.05)


# What is told of a cluster


def test_a_cluster_tells_its_errors_and_its_commonest_confusion() -> None:
    labels = np.array([0] * 9 + [1] * 9 + [2] * 9 + [3] * 9)
    decisions = labels.copy()
    decisions[:2], decisions[9:14], decisions[18] = 1, 0, 3
    found = find_clusters(count_errors(decisions, labels, classes=4))
    first, second = found.clusters
    assert (first.classes, first.errors, first.label, first.said, first.images) == ((0, 1), 7, 1, 0, 5)
    assert (second.classes, second.errors, second.label, second.said, second.images) == ((2, 3), 1, 2, 3, 1)
    assert found.inside == 1.0


def test_two_classes_are_one_cluster_and_no_error_is_none() -> None:
    labels = np.array([0, 0, 1, 1])
    assert find_clusters(count_errors(np.array([0, 1, 1, 1]), labels, classes=2)).clusters[0].classes == (0, 1)
    nothing = find_clusters(count_errors(labels, labels, classes=2))
    assert nothing.clusters == ()
    assert nothing.inside == nothing.shuffled == 0.0


def test_a_class_that_is_only_said_and_has_no_image_is_confused_too() -> None:
    found = find_clusters(count_errors(np.array([2, 0, 1]), np.array([0, 0, 1]), classes=3))
    assert found.clusters[0].classes == (0, 2)


def test_thousands_of_classes_need_no_table_of_all_pairs() -> None:
    decisions, labels = planted(24_000, 8_142, 6, error=0.4, inside=0.9)
    errors = count_errors(decisions, labels, classes=8_142)
    assert isinstance(errors, Errors)
    assert len(errors.images) <= (decisions != labels).sum()
    assert find_clusters(errors).inside > 0.5


def test_equal_errors_are_joined_in_the_order_of_their_numbers() -> None:
    labels = np.repeat(np.arange(6), 10)
    decisions = labels.copy()
    decisions[[0, 20, 40]] = [1, 3, 5]
    merges = link(count_errors(decisions, labels, classes=6))
    assert [(merge.a, merge.b) for merge in merges] == [(0, 1), (2, 3), (4, 5)]


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(DeitkitError, match="different numbers of images"):
        count_errors(np.array([0]), np.array([0, 1]), classes=2)
