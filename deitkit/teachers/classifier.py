"""A frozen classifier of any kind, before its outputs are matched with anybody's classes. Knows no student.

A teacher that says little of itself is tried once, on two images of noise that are always the same: how many scores it
gives, whether they are probabilities, and whether it runs at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deitkit.errors import DeitkitError
from deitkit.recipe import schema
from deitkit.teachers.classes import check_names, given_names
from deitkit.teachers.facts import Input, Kind, Said, Scores, Triple, digest, settle, settle_input
from deitkit.teachers.scores import TOLERANCE, FiniteCheck, are_probabilities, log_probabilities
from deitkit.teachers.views import Adapter

TRIAL_SIZE = (224, 224)  # px, where neither teacher nor caller names one


@dataclass(frozen=True)
class Raw:
    """A classifier as its kind's opener finds it. `network`: adapted images [B, 3 or 1, H, W] -> scores [B, K].

    `outputs` is K, None where only a trial tells; `identity` is hashed into the fingerprint: weights and whatever else
    makes the network; `fixed`, `integer`, `grey` are its input's.
    """

    network: nn.Module
    said: Said
    identity: str
    parameters: int | None = None
    outputs: int | None = None
    fixed: bool = False
    integer: bool = False
    grey: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Classifier:
    """A frozen classifier: what it takes, what it answers, and what is known of it.

    `class_names` [K] are in the order of its outputs, None where nobody named them; `identity` is a sha256 over its
    weights and its making.
    """

    reference: str
    kind: Kind
    network: nn.Module
    input: Input
    outputs: int
    scores: Scores
    class_names: tuple[str, ...] | None
    parameters: int | None
    identity: str
    notes: tuple[str, ...] = ()

    def answering(self, *, mean: Triple, std: Triple) -> Answering:
        """Ready for views that are normalised with this mean and std: images [B, 3, H, W] -> logits [B, K]."""
        return Answering(self, mean=mean, std=std)

    def fingerprint(self, **more: Any) -> str:
        """sha256 over everything that changes its answers, and over `more`."""
        wanted = self.input
        return digest(
            {
                "identity": self.identity, "size": wanted.size, "mean": wanted.mean, "std": wanted.std,
                "channels": wanted.channels, "input": wanted.values, "scores": self.scores,
                "class_names": self.class_names, **more,
            }
        )  # fmt: skip


class Answering(nn.Module):
    """A classifier behind its adapter: views as the student sees them -> logits in the classifier's own order."""

    columns: Tensor | None

    def __init__(
        self, classifier: Classifier, *, mean: Triple, std: Triple, columns: tuple[int, ...] | None = None
    ) -> None:
        """`columns` [K] picks and orders the outputs."""
        super().__init__()
        self.adapter = Adapter(classifier.input, mean=mean, std=std)
        self.network = classifier.network.eval().requires_grad_(False)
        self.outputs, self.scores = classifier.outputs, classifier.scores
        self.check_finite = FiniteCheck(classifier.reference)
        self.register_buffer("columns", None if columns is None else torch.tensor(columns))

    def train(self, mode: bool = True) -> Answering:
        """A teacher never trains: its batch norms and dropouts stay in evaluation mode."""
        return super().train(False)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W], normalised as the student's -> logits [B, K], float32.

        Raises:
            DeitkitError: they are not finite; where the device would have to be waited for, some batches later.
        """
        scores = self.network(self.adapter(images))
        logits = log_probabilities(scores) if self.scores == "probabilities" else scores.float()
        self.check_finite(logits)
        return logits if self.columns is None else logits[:, self.columns]


def classifier_of(
    raw: Raw, reference: str, kind: Kind, spec: schema.TeacherTable, *, size: tuple[int, int] | None
) -> Classifier:
    """What an opener found, settled with the recipe's [teacher]; `size` (height, width) px is that of the views.

    Raises:
        DeitkitError: it contradicts the recipe, or is no classifier.
    """
    wanted, notes = settle_input(
        raw.said, spec, reference=reference, fixed=raw.fixed, integer=raw.integer, grey=raw.grey
    )
    network = raw.network.eval().requires_grad_(False)
    said: Scores | None = settle(raw.said.scores, spec.scores, spec)
    outputs = raw.outputs
    if outputs is None or said is None:
        trial = _trial(network, wanted, reference, size=wanted.size or size or TRIAL_SIZE)
        outputs = trial.shape[1]
        said, more = _recognise(trial, said, reference)
    else:
        more = ()
    names, about_names = _names(raw.said, spec, outputs, reference)
    return Classifier(
        reference=reference, kind=kind, network=network, input=wanted, outputs=outputs, scores=said,
        class_names=names, parameters=raw.parameters, identity=raw.identity,
        notes=(*raw.notes, *notes, *more, *about_names),
    )  # fmt: skip


@torch.inference_mode()
def _trial(network: nn.Module, wanted: Input, reference: str, *, size: tuple[int, int]) -> Tensor:
    """Scores [2, K] of two images of noise, the same at each opening.

    Raises:
        DeitkitError: it cannot run, or gives no finite [2, K].
    """
    pixels = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0))
    images = Adapter(wanted, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(pixels)
    scores: Tensor = network(images)
    if scores.dim() != 2 or len(scores) != len(images) or scores.shape[1] < 2 or not scores.is_floating_point():
        raise DeitkitError(
            f"teacher {reference} answers {tuple(images.shape)} images with {tuple(scores.shape)} of "
            f"{str(scores.dtype).removeprefix('torch.')}: no classifier",
            value=reference,
            remedy="a classifier answers each image with one score for each class: [B, K], floating point",
        )
    FiniteCheck(reference, every=1)(scores)
    return scores.float()


def _recognise(trial: Tensor, said: Scores | None, reference: str) -> tuple[Scores, tuple[str, ...]]:
    """Logits or probabilities, as said or as seen; said probabilities must be ones."""
    seen = are_probabilities(trial)
    if said == "probabilities" and not seen:
        raise DeitkitError(
            f"teacher {reference}: its scores are said to be probabilities, but a row of them lies within "
            f"{trial.min():.3g}..{trial.max():.3g} and sums to {trial[0].sum():.6g}",
            value=reference,
            remedy='leave teacher.scores out, or set it to "logits"',
        )
    if said is not None:
        return said, ()
    if seen:
        return "probabilities", (
            f"its scores are probabilities (rows within 0..1 that sum to 1 within {TOLERANCE:g}): their logarithms are "
            "the logits",
        )
    return "logits", ()


def _names(
    said: Said, spec: schema.TeacherTable, outputs: int, reference: str
) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """The classifier's own names and the recipe's, and a note where they differ."""
    given = given_names(spec)
    names = settle(said.class_names, given, spec)
    if names is not None:
        check_names(names, outputs, reference=reference)
    if given is not None and said.class_names is not None and given != said.class_names and names == given:
        return names, ("it names its classes itself, but teacher.classes counts",)
    return names, ()


def hash_state(network: nn.Module, **making: Any) -> str:
    """sha256 over a network's parameters and buffers, and over what else makes it."""
    hashed = hashlib.sha256(digest(making).encode())
    for key, value in sorted(network.state_dict().items()):  # by name: code may register the same parts otherwise
        if isinstance(value, Tensor):
            hashed.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
            hashed.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def say_own(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as plain lists, numbers and strings; what is None is left out."""
    plain = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in values.items()}
    return {key: value for key, value in plain.items() if value is not None}
