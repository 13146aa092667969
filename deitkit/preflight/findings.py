"""What a preflight finds out about a teacher, as data. Measures nothing and judges nothing.

Rates are from 0 to 1, differences of rates, too; a percentage appears where a sentence says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from deitkit.measures.scores import Comparison, Scores
from deitkit.preflight.compression import Compression
from deitkit.preflight.cost import Cost
from deitkit.preflight.inputs import Way
from deitkit.preflight.order import OrderFinding
from deitkit.teachers.facts import Input


@dataclass(frozen=True)
class ViewScores:
    """The teacher on the student's own training views. `kind`: augmented, or augmented and mixed.

    `in_labels`: the share of views whose top-1 is the label, or one of the two labels; `in_larger`: is the label of the
    larger share. `two_labels`: views in which two different labels are mixed. entropy in nats.
    """

    kind: str
    views: int
    two_labels: int
    in_labels: float
    in_larger: float
    confidence: float
    entropy: float
    not_finite: int


@dataclass(frozen=True)
class InputTrial:
    """The same images, given to the network in another way; `comparison` against the way as it is."""

    way: Way
    top1: float
    nll: float
    comparison: Comparison
    settings: tuple[str, ...]


@dataclass(frozen=True)
class SizeTrial:
    """The same images at another size (height, width) px or crop ratio, or compressed once more."""

    name: str
    top1: float
    comparison: Comparison
    is_recompressed: bool = False


@dataclass(frozen=True)
class Stated:
    """The accuracy that others state, beside the one measured; `low` and `high` bound measured - stated (95 %)."""

    stated: float
    measured: float
    low: float
    high: float
    explanations: tuple[str, ...]

    @property
    def is_short(self) -> bool:
        """Whether the measured accuracy is lower beyond the chance of these images."""
        return self.high < 0


@dataclass(frozen=True)
class Rival:
    """A student on the same images; `comparison`: how much better the teacher is."""

    name: str
    top1: float
    comparison: Comparison


@dataclass(frozen=True)
class Findings:
    """All that was measured. What was not looked at is None or empty; `now` is the way in which pixels are given."""

    teacher: str
    dataset: str
    split: str
    labels: str  # hard or soft: what the student will be taught with
    held_out: Scores
    views: tuple[ViewScores, ...] = ()
    order: OrderFinding | None = None
    now: Input | None = None
    inputs: tuple[InputTrial, ...] = ()
    sizes: tuple[SizeTrial, ...] = ()
    compression: Compression | None = None
    cost: Cost | None = None
    stated: Stated | None = None
    rival: Rival | None = None
    refused: str = ""  # why a training would not take it
    remedy: str = ""  # and what helps
    unnamed: bool = False  # nobody says what its outputs are: taken to be in the data's order
    notes: tuple[str, ...] = ()
    is_brief: bool = False  # few images on purpose

    @property
    def best_input(self) -> InputTrial | None:
        """The most accurate other way of giving pixels."""
        return max(self.inputs, key=lambda trial: trial.top1, default=None)
