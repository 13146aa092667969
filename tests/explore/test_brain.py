"""Maps and scores by fiftyone.brain, against scikit-learn and the formulas written out, in a real MongoDB."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from deitkit.errors import DeitkitError
from deitkit.explore.brain import add_embeddings, add_scores
from deitkit.predictions.embeddings import Embeddings
from tests.explore.conftest import IMAGES, Build, student, teacher

# fiftyone's own imports use what is deprecated elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
WIDTH = 40  # of so many directions a randomised PCA finds two inexactly
TOKENS = ("class", "distillation")


def embeddings(*tokens: str, seed: int = 5, classifier: str = "student") -> Embeddings:
    """Random vectors of the images of `conftest.predictions`, the last image first."""
    random = np.random.default_rng(seed)
    return Embeddings(
        classifier,
        [f"shade/{number:02d}" for number in reversed(range(IMAGES))],
        {token: random.normal(size=(IMAGES, WIDTH)).astype(np.float32) for token in tokens or TOKENS},
        "shades",
        "val",
    )


def in_order(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors as the dataset orders its images."""
    return vectors[::-1]


def points(dataset: Any, key: str) -> NDArray[np.float64]:
    """The points of a map, in the dataset's order."""
    results = dataset.load_brain_results(key, cache=False)
    place = dict(zip(results.sample_ids.tolist(), results.points, strict=True))
    return np.stack([place[sample_id] for sample_id in dataset.values("id")])


def up_to_sign(array: NDArray[Any]) -> NDArray[Any]:
    return array * np.sign(array[np.abs(array).argmax(axis=0), range(array.shape[1])])


# Maps


def test_pca_points_are_scikit_learns_up_to_sign(build: Build) -> None:
    dataset, given = build(teacher()), embeddings()
    assert add_embeddings(dataset, given) == ["student_class_token", "student_distillation_token"]
    for token in TOKENS:
        expected = PCA(2, svd_solver="full").fit_transform(in_order(given.tokens[token]).astype(np.float64))
        np.testing.assert_allclose(
            up_to_sign(points(dataset, f"student_{token}_token")), up_to_sign(expected), atol=1e-4
        )


def test_a_convnets_features_have_a_map_under_their_own_name(build: Build) -> None:
    dataset = build(teacher())
    assert add_embeddings(dataset, embeddings("features", classifier="teacher net")) == ["teacher_net_features"]
    assert dataset.list_brain_runs() == ["teacher_net_features"]


def test_tsne_is_scikit_learns_beside_pca_and_prints_nothing(build: Build, capfd: pytest.CaptureFixture[str]) -> None:
    dataset, given = build(teacher()), embeddings("class")
    add_embeddings(dataset, given)
    assert add_embeddings(dataset, given, method="tsne", seed=3) == ["student_class_token_tsne"]
    reduced = PCA(IMAGES, svd_solver="randomized", random_state=3).fit_transform(in_order(given.tokens["class"]))
    expected = TSNE(
        perplexity=(IMAGES - 1) / 3, learning_rate=200.0, init="pca", random_state=3
    ).fit_transform(reduced.astype(np.float32))  # fmt: skip
    np.testing.assert_allclose(points(dataset, "student_class_token_tsne"), expected, rtol=1e-5)
    assert dataset.list_brain_runs() == ["student_class_token", "student_class_token_tsne"]
    assert capfd.readouterr().out == ""


def test_umap_without_its_package_has_a_remedy(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, find = build(teacher()), importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "umap" else find(name))
    with pytest.raises(DeitkitError, match="umap") as caught:
        add_embeddings(dataset, embeddings(), method="umap")
    assert caught.value.remedy == "pip install umap-learn"
    with pytest.raises(DeitkitError, match="Did you mean tsne"):
        add_embeddings(dataset, embeddings(), method="t-sne")
    assert dataset.list_brain_runs() == []


def test_the_same_embeddings_are_kept_and_others_replace_them(build: Build) -> None:
    dataset, key = build(teacher()), "student_class_token"
    add_embeddings(dataset, embeddings())
    dataset.reload()
    made = dataset.get_brain_info(key).timestamp
    add_embeddings(dataset, embeddings())
    assert dataset.get_brain_info(key).timestamp == made
    add_embeddings(dataset, embeddings(seed=6))
    expected = PCA(2).fit_transform(in_order(embeddings(seed=6).tokens["class"]))
    np.testing.assert_allclose(up_to_sign(points(dataset, key)), up_to_sign(expected), atol=1e-4)
    add_embeddings(dataset, embeddings(seed=6), seed=1)
    assert dataset.get_brain_info(key).config.seed == 1


def test_a_map_of_the_users_is_not_touched(build: Build) -> None:
    from fiftyone.brain import compute_visualization

    dataset, theirs = build(teacher()), np.arange(2.0 * IMAGES).reshape(IMAGES, 2)
    compute_visualization(dataset, points=theirs, brain_key="student_distillation_token")
    with pytest.raises(DeitkitError, match=r"brain key 'student_distillation_token' .* is taken"):
        add_embeddings(dataset, embeddings())
    np.testing.assert_array_equal(points(dataset, "student_distillation_token"), theirs)


def test_samples_without_embeddings_have_no_point(build: Build) -> None:
    dataset, whole = build(teacher()), embeddings("class")
    part = replace(whole, ids=whole.ids[4:], tokens={"class": whole.tokens["class"][4:]})
    (key,) = add_embeddings(dataset, part)
    results = dataset.load_brain_results(key)
    assert results.sample_ids.tolist() == dataset.values("id")[: IMAGES - 4]
    expected = PCA(2).fit_transform(in_order(part.tokens["class"]))
    np.testing.assert_allclose(up_to_sign(results.points), up_to_sign(expected), atol=1e-4)


def test_embeddings_of_other_images_are_refused(build: Build) -> None:
    dataset = build(teacher())
    with pytest.raises(DeitkitError, match=r"shows other images \(shades/val\) than these embeddings \(shades/train\)"):
        add_embeddings(dataset, replace(embeddings(), split="train"))
    strangers = replace(embeddings(), ids=[f"stranger/{number}" for number in range(IMAGES)])
    with pytest.raises(DeitkitError, match="shows other images"):
        add_scores(dataset, strangers, field="teacher")
    few = replace(embeddings("class"), ids=embeddings().ids[:3], tokens={"class": np.ones((3, 2), np.float32)})
    with pytest.raises(DeitkitError, match="3 images are too few"):
        add_embeddings(dataset, few)
    assert dataset.list_brain_runs() == []


def test_a_dataset_of_others_is_left_alone(fiftyone: ModuleType, name: str) -> None:
    theirs = fiftyone.Dataset(name)
    theirs.add_samples(
        [fiftyone.Sample(filepath=f"{image_id}.png", image_id=image_id) for image_id in embeddings().ids]
    )
    with pytest.raises(DeitkitError, match="not made by deitkit"):
        add_embeddings(theirs, embeddings())
    assert (theirs.info, theirs.list_brain_runs()) == ({}, [])


# Scores


def test_no_model_is_fetched_and_nothing_printed_where_data_goes(
    build: Build, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import fiftyone.brain.internal.models
    import fiftyone.zoo

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("fiftyone.brain asked for a model")

    monkeypatch.setattr(fiftyone.brain.internal.models, "load_model", refuse)
    monkeypatch.setattr(fiftyone.zoo, "load_zoo_model", refuse)
    dataset = build(student(logits=True))
    add_embeddings(dataset, embeddings())
    fields = add_scores(dataset, embeddings(), field="student_class")
    assert fields == [
        "uniqueness_student", "token_cosine_student", "mistakenness_student_class", "hardness_student_class",
    ]  # fmt: skip
    assert all(dataset.get_field(field).description for field in fields)
    assert capfd.readouterr().out == ""


def test_uniqueness_is_the_weighted_cosine_distance_of_the_three_nearest(build: Build) -> None:
    dataset, given = build(student()), embeddings()
    add_scores(dataset, given, field="student_fused")
    vectors = in_order(given.tokens["class"]).astype(np.float64)
    units = vectors - vectors.mean(axis=0)
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    distances = 1 - units @ units.T
    np.fill_diagonal(distances, np.inf)
    nearest = np.sort(distances, axis=1)[:, :3] @ [0.6, 0.3, 0.1]
    np.testing.assert_allclose(dataset.values("uniqueness_student"), nearest / nearest.max(), atol=1e-5)


def test_an_exact_duplicate_is_less_unique_than_a_lone_image(build: Build) -> None:
    vectors = np.random.default_rng(0).normal(size=(IMAGES, 64)).astype(np.float32)
    vectors[3] = vectors[20]
    dataset = build(teacher())
    given = replace(embeddings("features", classifier="teacher"), tokens={"features": vectors})
    add_scores(dataset, given, field="teacher")
    unique = in_order(np.array(dataset.values("uniqueness_teacher")))
    assert max(unique[[3, 20]]) < 0.7 * min(np.delete(unique, [3, 20]))


def test_images_that_are_all_alike_have_no_uniqueness_and_it_is_said(build: Build) -> None:
    said: list[str] = []
    alike = replace(embeddings("class"), tokens={"class": np.ones((IMAGES, WIDTH), np.float32)})
    fields = add_scores(build(student()), alike, field="student_fused", say=said.append)
    assert fields == ["mistakenness_student_fused"]
    assert "uniqueness_student is left out" in said[0]


def test_the_tokens_cosine_is_that_of_each_images_two_tokens(build: Build) -> None:
    dataset, given = build(student()), embeddings()
    add_scores(dataset, given, field="student_fused")
    pairs = zip(*(in_order(given.tokens[token]).astype(np.float64) for token in TOKENS), strict=True)
    expected = [a @ b / np.sqrt(a @ a * (b @ b)) for a, b in pairs]
    np.testing.assert_allclose(dataset.values("token_cosine_student"), expected, atol=1e-6)


def test_with_logits_mistakenness_and_hardness_are_by_their_entropy(build: Build) -> None:
    table, said = student(logits=True), []
    dataset = build(table)
    fields = add_scores(dataset, None, field="student_class", say=said.append)
    assert fields == ["mistakenness_student_class", "hardness_student_class"]
    assert said == ["uniqueness is left out: it needs embeddings"]
    logits = table.heads["class"].logits
    assert logits is not None
    doubt = entropy(softmax(logits.astype(np.float64), axis=1), axis=1)
    np.testing.assert_allclose(dataset.values("hardness_student_class"), doubt, atol=1e-6)
    wrong = np.where(table.hits("class"), -1, 1)
    np.testing.assert_allclose(
        dataset.values("mistakenness_student_class"), (wrong * np.exp(-doubt) + 1) / 2, atol=1e-6
    )


def test_without_logits_mistakenness_is_by_confidence_and_hardness_is_left_out(build: Build) -> None:
    table, said = student(), []
    dataset = build(table)
    assert add_scores(dataset, None, field="student_fused", say=said.append) == ["mistakenness_student_fused"]
    assert "hardness_student_fused left out: student_fused holds no logits" in said[1]
    signed = np.where(table.hits("fused"), -1, 1) * table.heads["fused"].confidence[:, 0]
    np.testing.assert_allclose(dataset.values("mistakenness_student_fused"), (signed + 1) / 2, atol=1e-6)


def test_scores_are_kept_until_the_answers_are_others(build: Build) -> None:
    dataset = build(student(logits=True))
    fields = add_scores(dataset, embeddings(), field="student_class")
    before = {field: dataset.get_brain_info(field).timestamp for field in fields if dataset.has_brain_run(field)}
    dataset.set_values("token_cosine_student", [7.0] * IMAGES)
    add_scores(dataset, embeddings(), field="student_class")
    assert {field: dataset.get_brain_info(field).timestamp for field in before} == before
    assert set(dataset.values("token_cosine_student")) == {7.0}
    other = student(seed=8, logits=True)
    rebuilt = build(other)
    add_scores(rebuilt, embeddings(), field="student_class")
    logits = other.heads["class"].logits
    assert logits is not None
    np.testing.assert_allclose(
        rebuilt.values("hardness_student_class"), entropy(softmax(logits.astype(float), axis=1), axis=1), atol=1e-6
    )
    assert rebuilt.get_brain_info("uniqueness_student").timestamp == before["uniqueness_student"]


def test_hardness_goes_when_the_logits_that_it_was_of_are_gone(build: Build) -> None:
    add_scores(build(student(logits=True)), None, field="student_class")
    dataset = build(student(seed=8))
    assert add_scores(dataset, None, field="student_class") == ["mistakenness_student_class"]
    assert not dataset.has_field("hardness_student_class")
    assert not dataset.has_brain_run("hardness_student_class")


@pytest.mark.parametrize("field", ["mistakenness_student_fused", "token_cosine_student", "uniqueness_student"])
def test_a_field_of_the_users_is_not_taken(build: Build, fiftyone: ModuleType, field: str) -> None:
    dataset = build(student())
    dataset.add_sample_field(field, fiftyone.StringField)
    dataset.set_values(field, ["mine"] * IMAGES)
    with pytest.raises(DeitkitError, match=f"the field '{field}'"):
        add_scores(dataset, embeddings(), field="student_fused")
    assert set(dataset.values(field)) == {"mine"}


def test_each_classifier_has_scores_of_its_own(build: Build) -> None:
    dataset = build(student(), teacher())
    ours = add_scores(dataset, embeddings(), field="student_fused")
    theirs = add_scores(dataset, embeddings("features", seed=9, classifier="teacher"), field="teacher")
    assert theirs == ["uniqueness_teacher", "mistakenness_teacher"]
    assert all(None not in dataset.values(field) for field in (*ours, *theirs))


@pytest.mark.parametrize("field", ["ground_truth", "nonsense", "filepath"])
def test_a_field_without_answers_is_refused_with_those_that_have(build: Build, field: str) -> None:
    with pytest.raises(DeitkitError, match=f"no answers '{field}'") as caught:
        add_scores(build(student()), None, field=field)
    assert caught.value.choices == ("student_class", "student_distillation", "student_fused")


def test_samples_without_an_answer_have_no_score(build: Build) -> None:
    dataset = build(student())
    first = dataset.first()
    first["student_fused"] = None
    first.save()
    add_scores(dataset, None, field="student_fused")
    scores = dataset.values("mistakenness_student_fused")
    assert scores[0] is None
    assert None not in scores[1:]
