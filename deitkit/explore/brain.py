"""What fiftyone.brain makes of a model's embeddings and answers: maps of the images to look at, and scores to sort by.

It is always given vectors or labels, so that it never fetches a model. It holds the vectors of one token, N x D
float32, in memory two or three times; predictions it reads a sample at a time. What is made is noted in
`dataset.info`: kept where nothing changed, made anew where something did, and never put over what is the user's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deitkit.errors import DeitkitError, one_of
from deitkit.explore.app import connect
from deitkit.explore.record import GROUND_TRUTH, KEY, MARK, identifier
from deitkit.predictions.embeddings import FEATURES, Embeddings

METHODS = ("pca", "tsne", "umap")
NOTED = "brain"  # what this module and `heatmaps` made: `dataset.info[MARK][NOTED]`, name -> digest of what it is of
LEAST = 5  # samples; fewer have no map worth looking at

Vectors = NDArray[np.float32]
Say = Callable[[str], None]


def add_embeddings(dataset: Any, embeddings: Embeddings, *, method: str = "pca", seed: int = 0) -> list[str]:
    """A map of the images for each token, for the App's Embeddings panel; the brain keys, as `student_class_token`.

    "pca": exact, by the covariance. "tsne": scikit-learn's, 73 s for 5,000 images on one core and more than linear.
    "umap" needs umap-learn. A key names the method where it is not "pca". Samples without embeddings have no point.

    Raises:
        DeitkitError: the dataset is of other images, a key is the user's, or umap-learn is not installed.
    """
    connect()
    from fiftyone.brain import compute_visualization

    one_of(method, METHODS, what="map of embeddings")
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise DeitkitError("umap needs umap-learn", value=method, choices=METHODS, remedy="pip install umap-learn")
    rows = _rows_of(dataset, embeddings)
    if len(rows) < LEAST:
        raise DeitkitError(f"{len(rows)} images are too few for a map of them; it takes {LEAST}", value=len(rows))
    keys = []
    for token, vectors in embeddings.tokens.items():
        what = token if token == FEATURES else f"{token}_token"
        key = identifier(f"{embeddings.classifier}_{what}" + (f"_{method}" if method != METHODS[0] else ""))
        chosen = np.asarray(vectors[list(rows.values())])
        settings = _settings(method, chosen.shape, seed)
        digest = digest_of(settings, list(rows), chosen)
        if not is_kept(dataset, key, digest, there=dataset.has_brain_run(key)):
            claim(dataset, key, there=dataset.has_brain_run(key), what="brain key")
            if dataset.has_brain_run(key):
                dataset.delete_brain_run(key)  # of another method, perhaps, which fiftyone would not replace
            whole = len(rows) == len(dataset)
            given = chosen if whole else dict(zip(rows, chosen, strict=True))
            compute_visualization(dataset, embeddings=given, brain_key=key, method=method, progress=False, **settings)
            note(dataset, key, digest)
        keys.append(key)
    return keys


def add_scores(dataset: Any, embeddings: Embeddings | None, *, field: str, say: Say | None = None) -> list[str]:
    """Numbers to sort the images by; the fields that hold them. `say` is told what was left out, and why.

    uniqueness_CLASSIFIER: how far its three nearest images are by the class token (or features), 1 the farthest of
    all: 0.6, 0.3 and 0.1 of their cosine distances. Quadratic: 23 s for 20,000 images of width 384 on one core.
    token_cosine_CLASSIFIER: cosine of the class and the distillation token (paper Sec. 4).
    mistakenness_FIELD: near 1 where the answer of `field` is sure and not the label's, near 0 where sure and right; by
    the entropy of its logits, or its confidence where it has none. hardness_FIELD: that entropy, in nats. Both take
    1.4 ms a sample, because fiftyone.brain saves one by one.

    Raises:
        DeitkitError: there is no such field of answers, or a score's field is the user's.
    """
    connect()
    tell = say or (lambda _: None)
    view = _answered(dataset, field)
    made = []
    if embeddings is None:
        tell("uniqueness is left out: it needs embeddings")
    else:
        made += _add_uniqueness(dataset, embeddings, tell)
        made += _add_cosine(dataset, embeddings)
    return made + _add_doubts(dataset, view, field, tell)


# Scores of embeddings


def _add_uniqueness(dataset: Any, embeddings: Embeddings, tell: Say) -> list[str]:
    from fiftyone.brain import compute_uniqueness

    name, rows = identifier(f"uniqueness_{embeddings.classifier}"), _rows_of(dataset, embeddings)
    token, whole = next(iter(embeddings.tokens.items()))
    vectors = np.asarray(whole[list(rows.values())])
    if len(rows) < LEAST or not np.ptp(vectors, axis=0).any():
        tell(f"{name} is left out: the {len(rows)} images are too few, or all alike")
        return []
    digest = digest_of({}, list(rows), vectors)
    text = f"How far its three nearest images are by {embeddings.classifier}'s {token}; 1 for the farthest"
    if _is_due(dataset, name, digest, text):
        compute_uniqueness(dataset, name, similarity_index=_Neighbours(vectors, list(rows)), progress=False)
        note(dataset, name, digest)
    return [name]


class _Neighbours:
    """What compute_uniqueness asks of an index. Its own leaves out each image's nearest neighbour (fiftyone-brain 0.25
    takes it for the image itself, which is not among them), so that an exact duplicate would count as unique; and it
    holds all N^2 distances."""

    key = None
    config = SimpleNamespace(method="sklearn")

    def __init__(self, vectors: Vectors, sample_ids: list[str]) -> None:
        self.vectors, self.sample_ids = vectors, sample_ids

    def get_embeddings(self, **_: Any) -> tuple[Vectors, list[str], None]:
        return self.vectors, self.sample_ids, None

    def _kneighbors(self, *, k: int, return_dists: bool) -> tuple[None, NDArray[np.floating[Any]]]:
        """Cosine distances of the centred vectors [N, k], each image itself the first."""
        from sklearn.neighbors import NearestNeighbors
        from sklearn.preprocessing import normalize

        units = normalize(self.vectors - self.vectors.mean(axis=0))
        distances, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(units).kneighbors(units)
        return None, distances**2 / 2  # of unit vectors, |a - b|^2 = 2 (1 - a b)


def _add_cosine(dataset: Any, embeddings: Embeddings) -> list[str]:
    if len(embeddings.tokens) < 2:
        return []
    name, rows = identifier(f"token_cosine_{embeddings.classifier}"), _rows_of(dataset, embeddings)
    first, second = (np.asarray(vectors[list(rows.values())]) for vectors in embeddings.tokens.values())
    digest = digest_of(digest_of({}, [], first), list(rows), second)
    if _is_due(dataset, name, digest, f"Cosine of both tokens of {embeddings.classifier}", by_brain=False):
        norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        cosines = (first * second).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
        dataset.set_values(name, dict(zip(rows, cosines.tolist(), strict=True)), key_field="id")
        note(dataset, name, digest)
    return [name]


# Scores of answers


def _answered(dataset: Any, field: str) -> Any:
    """The samples that have a label and an answer in the field."""
    import fiftyone

    own = {
        name
        for name, kind in dataset.get_field_schema().items()
        if getattr(kind, "document_type", None) is fiftyone.Classification and name != GROUND_TRUTH
    }
    if field not in own:
        raise DeitkitError(
            f"the fiftyone dataset {dataset.name!r} has no answers {field!r}", value=field, choices=sorted(own)
        )
    return dataset.exists(f"{field}.label").exists(f"{GROUND_TRUTH}.label")


def _add_doubts(dataset: Any, view: Any, field: str, tell: Say) -> list[str]:
    """Mistakenness, and hardness where there are logits."""
    from fiftyone.brain import compute_hardness, compute_mistakenness

    logits = len(view.exists(f"{field}.logits")) == len(view)
    digest = digest_of({"logits": logits}, view.values([KEY, f"{GROUND_TRUTH}.label", f"{field}.label"]), None)
    digest = digest_of({"labels": digest}, view.values(f"{field}.confidence"), None)
    made = [f"mistakenness_{field}", f"hardness_{field}"]
    by = "logits" if logits else "confidence"
    text = f"By the {by} of {field}: near 1 where sure and not the label, near 0 where sure and right"
    if _is_due(dataset, made[0], digest, text):
        compute_mistakenness(view, field, GROUND_TRUTH, made[0], use_logits=logits, progress=False)
        note(dataset, made[0], digest)
    if not logits:
        tell(f"{made[0]} is by confidence, and {made[1]} left out: {field} holds no logits (--logits stores them)")
        _withdraw(dataset, made[1])
        return made[:1]
    if _is_due(dataset, made[1], digest, f"Entropy of {field}, in nats"):
        compute_hardness(view, field, made[1], progress=False)
        note(dataset, made[1], digest)
    return made


def _is_due(dataset: Any, name: str, digest: str, text: str, *, by_brain: bool = True) -> bool:
    """Whether a score has to be made; then its field is there, ours and described. fiftyone.brain notes its own runs
    under the field's name."""
    import fiftyone

    there = [dataset.has_field(name), *([dataset.has_brain_run(name)] if by_brain else [])]
    if is_kept(dataset, name, digest, there=all(there)):
        return False
    claim(dataset, name, there=any(there), what="field")
    dataset.add_sample_field(name, fiftyone.FloatField)
    field = dataset.get_field(name)
    field.description = text
    field.save()
    return True


def _withdraw(dataset: Any, name: str) -> None:
    """Take away a score of ours that can no longer be made, and would be of earlier answers."""
    if name in _noted(dataset):
        if dataset.has_brain_run(name):
            dataset.delete_brain_run(name)
        dataset.delete_sample_field(name, error_level=2)  # 2: silent where fiftyone.brain took it away itself
        del _noted(dataset)[name]
        dataset.save()


# What is ours


def digest_of(settings: Any, names: list[Any], vectors: Vectors | None) -> str:
    """sha256 over settings, names and vectors [N, D]."""
    digest = hashlib.sha256(json.dumps([settings, names], sort_keys=True).encode())
    if vectors is not None:
        digest.update(np.ascontiguousarray(vectors).data)
    return digest.hexdigest()


def is_kept(dataset: Any, name: str, digest: str, *, there: bool) -> bool:
    """Whether it is there, ours, whole, and of the same."""
    return there and _noted(dataset).get(name) == digest


def claim(dataset: Any, name: str, *, there: bool, what: str) -> None:
    """Note as ours what will be made; unfinished until `note` says of what it is.

    Raises:
        DeitkitError: it is there and not ours.
    """
    if there and name not in _noted(dataset):
        raise DeitkitError(
            f"the {what} {name!r} of the fiftyone dataset {dataset.name!r} is taken",
            value=name,
            remedy=f"rename that {what} in fiftyone, or the run's folder",
        )
    note(dataset, name, "")


def note(dataset: Any, name: str, digest: str) -> None:
    _noted(dataset)[name] = digest
    dataset.save()


def _noted(dataset: Any) -> dict[str, str]:
    ours = dataset.info.get(MARK)
    if ours is None:
        raise DeitkitError(
            f"the fiftyone dataset {dataset.name!r} was not made by deitkit, and is left alone",
            value=dataset.name,
            remedy="deitkit explore, or deitkit.explore.build_dataset, makes one",
        )
    noted: dict[str, str] = ours.setdefault(NOTED, {})
    return noted


def _rows_of(dataset: Any, embeddings: Embeddings) -> dict[str, int]:
    """Sample id -> row of the embeddings, in the dataset's order.

    Raises:
        DeitkitError: the dataset shows other images.
    """
    _noted(dataset)
    row_of = {image_id: row for row, image_id in enumerate(embeddings.ids)}
    samples = zip(*dataset.values(["id", KEY]), strict=True)
    rows = {sample_id: row_of[image_id] for sample_id, image_id in samples if image_id in row_of}
    shown, ours = dataset.info[MARK]["images"], f"{embeddings.dataset}/{embeddings.split}"
    if not rows or (embeddings.dataset and ours != shown):
        raise DeitkitError(
            f"the fiftyone dataset {dataset.name!r} shows other images ({shown}) than these embeddings ({ours})",
            value=dataset.name,
            remedy="make the embeddings of the images that it shows",
        )
    return rows


def _settings(method: str, shape: tuple[int, ...], seed: int) -> dict[str, Any]:
    """What fiftyone.brain is told of a method, for `shape` (samples, width). None of them may print: stdout is data."""
    images, width = shape
    if method == "pca":
        return {"svd_solver": "covariance_eigh", "seed": seed}
    if method == "tsne":
        perplexity = min(30.0, (images - 1) / 3)
        return {"pca_dims": min(50, images, width), "perplexity": perplexity, "seed": seed, "verbose": False}
    return {"num_neighbors": min(15, images - 1), "seed": seed, "verbose": False}
