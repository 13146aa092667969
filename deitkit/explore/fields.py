"""The fields that deitkit adds to a fiftyone dataset, each with words that say what it holds. Writes no value."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from deitkit.errors import DeitkitError
from deitkit.explore.agreement import CLASSIFIERS_RIGHT, described
from deitkit.explore.record import ACCEPTED, GROUND_TRUTH, KEY, Record, eval_key


def declare(dataset: Any, record: Record, *, accepted: bool) -> None:
    """Add our fields, and never take one that is the user's or fiftyone's.

    Raises:
        DeitkitError: one of them is taken; a dataset that was made just now is deleted.
    """
    import fiftyone

    heads = [(each, head, own) for each in record.classifiers for head, own in each.heads]
    labels = {own: f"What the {head} head of {each.name} says" for each, head, own in heads}
    texts = described(record)
    lists = {ACCEPTED: "Every label that counts as right"} if accepted or ACCEPTED in record.fields else {}
    answers = [own for _, _, own in heads]
    fields = [GROUND_TRUTH, *answers, *lists, *texts, *map(eval_key, answers)]
    _refuse_taken(dataset, record, fields=fields)
    _delete_stale(dataset, [field for field in record.fields if field not in fields])
    # Noted before they are made, so that an interrupted build knows them as its own.
    record.fields = sorted(fields)
    record.save(dataset)
    add = partial(_add_field, dataset)
    add(KEY, "The image's id in its data set", fiftyone.StringField)
    dataset.create_index(KEY, unique=True)
    text = "The label that the data set gives. Yours to correct: it is written once"
    add(GROUND_TRUTH, text, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Classification)
    for field, text in lists.items():
        add(field, text, fiftyone.EmbeddedDocumentField, embedded_doc_type=fiftyone.Classifications)
    for own in answers:
        inside = _attributes(own, accepted=bool(lists))
        kind = {"embedded_doc_type": fiftyone.Classification, "fields": list(inside.values())}
        add(own, labels[own], fiftyone.EmbeddedDocumentField, **kind)
        for name, field in inside.items():  # those of a later version, and accepted labels that came later
            add(f"{own}.{name}", field.description, type(field))
    for field, text in texts.items():
        add(field, text, fiftyone.IntField if field == CLASSIFIERS_RIGHT else fiftyone.StringField)


def _delete_stale(dataset: Any, fields: Sequence[str]) -> None:
    """Take away what said something of answers that the user has deleted."""
    for field in fields:
        if field in dataset.list_evaluations():
            dataset.delete_evaluation(field)
        elif dataset.has_field(field):
            dataset.delete_sample_field(field)


def _attributes(own: str, *, accepted: bool) -> dict[str, Any]:
    """What an answer says besides label and confidence."""
    import fiftyone

    found = {
        "right": fiftyone.BooleanField(description=f"Whether {own} is the label"),
        "doubted": fiftyone.BooleanField(description=f"Whether {own} doubts the label (confident learning)"),
        "label_probability": fiftyone.FloatField(description=f"The probability that {own} gives to the label"),
    }
    if accepted:
        found["accepted"] = fiftyone.BooleanField(description=f"Whether {own} is among the accepted labels")
    for name, field in found.items():
        field.name = name
    return found


def _add_field(dataset: Any, field: str, text: str, kind: Any, **options: Any) -> None:
    if not dataset.has_field(field):
        dataset.add_sample_field(field, kind, description=text, **options)


def _refuse_taken(dataset: Any, record: Record, *, fields: Sequence[str]) -> None:
    taken = {*dataset.get_field_schema(), *dataset.list_evaluations()} - {*record.fields}
    for number, field in enumerate(fields):
        if field in taken or field in (KEY, *fields[:number]):
            if not record.fields:
                dataset.delete()
            raise DeitkitError(
                f"the field {field!r} of the fiftyone dataset {dataset.name!r} is taken",
                value=field,
                remedy="rename that field in fiftyone, or the run's folder",
            )
