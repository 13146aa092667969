"""What deitkit wrote into a fiftyone dataset, noted in its `info`: all else there is the user's and is left alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from deitkit.errors import DeitkitError
from deitkit.models.forms import decisive_head

MARK = "deitkit"  # the key of `dataset.info` that says what is ours
KEY = "image_id"
GROUND_TRUTH = "ground_truth"
ACCEPTED = "accepted_labels"
FORMAT = 1
LATER = {"doubted"}  # fields that older records of this format lack
OTHER_NAME = "choose another name with --name, or --overwrite to delete it with all its tags and views"


@dataclass(frozen=True)
class RecordedClassifier:
    """A classifier, the run or file that it was, and the field of each head: (head, field)."""

    name: str
    place: str
    heads: tuple[tuple[str, str], ...]

    @property
    def fields(self) -> dict[str, str]:
        """Head -> field."""
        return dict(self.heads)

    @property
    def decisive(self) -> str:
        """The field of its decision: of both heads fused, else of the class head, else of the only one there is."""
        return self.fields[decisive_head(self.fields)]


@dataclass
class Record:
    """`fields` names ours; `views` and `shown` are as we last set them.

    The `subject` is looked at, the others are compared with it. `logits` names the fields that hold some, `doubted`
    those that say which labels they doubt;
    `corrected` are the labels that the user changed, by image id. `unfinished` while a build writes labels.
    """

    images: str
    fingerprint: str
    subject: str = ""
    teacher: str = ""
    command: str = ""
    classifiers: tuple[RecordedClassifier, ...] = ()
    compared: list[list[str]] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    shown: dict[str, Any] = field(default_factory=dict)
    logits: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    corrected: list[list[str]] = field(default_factory=list)
    unfinished: bool = False

    @classmethod
    def load(cls, dataset: Any) -> Record:
        """The record of a dataset that is ours.

        Raises:
            DeitkitError: it has none, or that of another version.
        """
        noted = dataset.info.get(MARK)
        if noted is None:
            raise DeitkitError(
                f"the fiftyone dataset {dataset.name!r} was not made by deitkit, and is left alone",
                value=dataset.name,
                remedy=OTHER_NAME,
            )
        if noted.get("format") != FORMAT or not set(cls.__dataclass_fields__) - LATER <= set(noted):
            raise DeitkitError(
                f"the fiftyone dataset {dataset.name!r} was made by another version of deitkit",
                value=dataset.name,
                remedy=OTHER_NAME,
            )
        plain = _plain(noted)
        known = {name: plain[name] for name in cls.__dataclass_fields__ if name in plain}
        known["classifiers"] = tuple(
            RecordedClassifier(each["name"], each["place"], tuple((head, own) for head, own in each["heads"]))
            for each in plain["classifiers"]
        )
        return cls(**known)

    def save(self, dataset: Any) -> None:
        """Write it, beside what other parts of deitkit note there; only where something changed."""
        noted = {**_plain(dataset.info.get(MARK, {})), **_plain(asdict(self)), "format": FORMAT}
        if noted != _plain(dataset.info.get(MARK, {})):
            dataset.info[MARK] = noted
            dataset.save()

    @property
    def answers(self) -> list[str]:
        """The fields of all heads of all classifiers."""
        return [own for each in self.classifiers for own in each.fields.values()]

    @property
    def first(self) -> RecordedClassifier:
        """The subject itself."""
        return next(each for each in self.classifiers if each.name == self.subject)

    @property
    def pairs(self) -> list[tuple[RecordedClassifier, RecordedClassifier, str]]:
        """Those that are compared, and the field that says how their decisions stand to the label."""
        by_name = {each.name: each for each in self.classifiers}
        return [(by_name[a], by_name[b], identifier(f"{a}_vs_{b}")) for a, b in self.compared]

    def compare(self) -> None:
        """The subject is compared with each other; pairs of an earlier subject stay while both are there."""
        names = [each.name for each in self.classifiers]
        self.compared = [pair for pair in self.compared if {*pair} <= {*names}]
        known = {frozenset(pair) for pair in self.compared}
        new = [[self.subject, name] for name in names if name != self.subject]
        self.compared += [pair for pair in new if frozenset(pair) not in known]


def identifier(text: str) -> str:
    """A field's name: letters, digits and underscores, a letter first."""
    name = re.sub(r"\W+", "_", text).strip("_")
    return name if name[:1].isalpha() else f"run_{name}"


def eval_key(field: str) -> str:
    """The key of a field's evaluation, and the field that says of each sample whether the answer is right."""
    return f"eval_{field}"


def _plain(value: Any) -> Any:
    """Dicts and lists as JSON has them, without the database's own kinds."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
