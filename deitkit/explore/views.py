"""Saved views, named after what one asks. The user's are never replaced, and ours only while they are as we made them.

A view is plain data first, noted in the dataset's record: so what we made can be told from what the user made of it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any

from deitkit.explore import agreement
from deitkit.explore.agreement import AGREEMENT, described, heads_field, only
from deitkit.explore.record import ACCEPTED, Record, RecordedClassifier
from deitkit.measures.agreement import SOME_RIGHT, WRONG_ALIKE, WRONG_DIFFERENTLY
from deitkit.models.forms import TOKEN_HEADS
from deitkit.predictions.verdict import LABELS_VIEW

# The App knows these eight, and shows no other colour of the view that is open.
ORANGE, YELLOW, CYAN, PURPLE, PINK = "#EF6820", "#FAC515", "#06AED4", "#7A5AF8", "#EE46BC"


@dataclass(frozen=True)
class View:
    """Samples whose `fields` have one of the values, those of the greatest confidence first.

    Ordered by the confidence of one answer, or by the sum or the least of several.
    """

    name: str
    description: str
    color: str
    fields: tuple[tuple[str, tuple[str | bool, ...]], ...]
    answers: tuple[str, ...]
    order: str = "sum"

    @classmethod
    def of(cls, noted: dict[str, Any]) -> View:
        """What `asdict` made of it, in a record."""
        fields = tuple((field, tuple(values)) for field, values in noted["fields"])
        return cls(**{**noted, "fields": fields, "answers": tuple(noted["answers"])})

    def samples(self, dataset: Any, F: Any) -> Any:
        """The view of the dataset; `F` is fiftyone's ViewField."""
        chosen = dataset
        for field, values in self.fields:
            chosen = chosen.match(F(field) == values[0] if len(values) == 1 else F(field).is_in(list(values)))
        paths = [f"{answer}.confidence" for answer in self.answers]
        if len(paths) == 1:
            return chosen.sort_by(paths[0], reverse=True)
        least = reduce(lambda least, path: least.min(F(path)), paths[1:], F(paths[0]))
        return chosen.sort_by(least if self.order == "least" else reduce(add, map(F, paths)), reverse=True)


def words(record: Record) -> dict[str, str]:
    """Classifier -> what its views call it: student and teacher where there is a teacher, and nobody else is called so.

    Names of runs say little; what a person asks is where the student is wrong.
    """
    names = [each.name for each in record.classifiers]
    roles = {record.subject: "student", record.teacher: "teacher"} if record.teacher in names else {}
    return {name: roles[name] if name in roles and roles[name] not in {*names} - {name} else name for name in names}


def views_of(record: Record) -> list[View]:
    """Every view that these classifiers have, in the order in which they are shown."""
    word = words(record)
    views = [
        view
        for a, b, field in record.pairs
        if record.subject in (a.name, b.name)
        for view in _pair(record, b if a.name == record.subject else a, field)
    ]
    views += [view for each in record.classifiers for view in _heads(record, each, word[each.name])]
    views += [*_doubted(record), *_everyone(record)]
    for each in record.classifiers:
        views += _mistakes(record, each, word[each.name])
    return views


def _pair(record: Record, other: RecordedClassifier, field: str) -> list[View]:
    word, subject = words(record), record.first
    a, b = word[subject.name], word[other.name]
    fixes = f"{a} fixes {b}" if other.name == record.teacher else f"{a} right, {b} wrong"
    most = f"; the most confident of {subject.name} first"
    return [
        View(f"{b} right, {a} wrong", f"{other.name} is right and {subject.name} wrong{most}", YELLOW,
             ((field, (only(other.name),)),), (subject.decisive,)),
        View(fixes, f"{subject.name} is right and {other.name} wrong{most}", CYAN,
             ((field, (only(subject.name),)),), (subject.decisive,)),
    ]  # fmt: skip


def _heads(record: Record, each: RecordedClassifier, word: str) -> list[View]:
    field = heads_field(each.name)
    if field not in described(record):
        return []
    values = (*map(only, TOKEN_HEADS), agreement.BOTH_DIFFERENTLY)
    name = "heads disagree" if each.name == record.subject else f"{word}: heads disagree"
    answers = tuple(each.fields[head] for head in TOKEN_HEADS)
    what = f"the class head and the distillation head of {each.name} decide differently"
    return [View(name, f"{what}; the greatest sum of confidences first", PURPLE, ((field, values),), answers)]


def _doubted(record: Record) -> list[View]:
    field = record.first.decisive
    if field not in record.doubted:
        return []
    what = f"{record.subject} doubts the label, by confident learning; its most confident decisions first"
    return [View(LABELS_VIEW, what, PINK, ((f"{field}.doubted", (True,)),), (field,))]


def _everyone(record: Record) -> list[View]:
    if AGREEMENT not in described(record):
        return []
    answers, decisions = tuple(record.answers), tuple(each.decisive for each in record.classifiers)
    split = (SOME_RIGHT, WRONG_DIFFERENTLY)
    wrong = (WRONG_ALIKE, WRONG_DIFFERENTLY)
    return [
        View("all agree, label differs", "every answer is the same class, the label another: is the label right?"
             " The greatest least confidence first", PINK, ((AGREEMENT, (WRONG_ALIKE,)),), answers, "least"),
        View("not all agree", "the answers are of several classes; the greatest sum of confidences first", PURPLE,
             ((AGREEMENT, split),), decisions),
        View("all wrong", "no answer is the label; the greatest sum of confidences first", ORANGE,
             ((AGREEMENT, wrong),), decisions),
    ]  # fmt: skip


def _mistakes(record: Record, each: RecordedClassifier, word: str) -> list[View]:
    field, which = each.decisive, f"the most confident mistakes of {each.name} first"
    wrong: tuple[str, tuple[str | bool, ...]] = (f"{field}.right", (False,))
    views = [View(f"{word} wrong", f"{which[0].upper()}{which[1:]}", ORANGE, (wrong,), (field,))]
    if ACCEPTED in record.fields:
        views.append(
            View(f"{word} wrong, but accepted", f"not the label, but among the accepted labels; {which}", PINK,
                 (wrong, (f"{field}.accepted", (True,))), (field,))
        )  # fmt: skip
    return views


def save_views(dataset: Any, record: Record) -> list[str]:
    """Make our views what they should be; the names of those that are ours, in order.

    One that the user has under such a name, or made of ours, is the user's from now on. One of ours that is no longer
    wanted goes.
    """
    import fiftyone

    F, noted = fiftyone.ViewField, {each["name"]: View.of(each) for each in record.views}
    there = set(dataset.list_saved_views())
    ours = {name for name in there & noted.keys() if _is_as_made(dataset, noted[name])}
    taken = {fiftyone.core.utils.to_slug(name) for name in there - ours}
    wanted = [view for view in views_of(record) if fiftyone.core.utils.to_slug(view.name) not in taken]
    stay = {view.name for view in wanted if view.name in ours and view == noted[view.name]}
    for name in ours - stay:
        dataset.delete_saved_view(name)
    # Noted before they are made, so that an interrupted build knows them as its own.
    record.views = [asdict(view) for view in wanted]
    record.save(dataset)
    for view in wanted:
        if view.name not in stay:
            dataset.save_view(view.name, view.samples(dataset, F), description=view.description, color=view.color)
    return [view.name for view in wanted]


def _is_as_made(dataset: Any, view: View) -> bool:
    """Whether a saved view picks what ours picked when we saved it."""
    import fiftyone

    try:
        return bool(dataset.load_saved_view(view.name) == view.samples(dataset, fiftyone.ViewField))
    except ValueError:  # a field of it is gone
        return True


def most_disputed(dataset: Any, record: Record, *, count: int) -> Any:
    """The view of so many images at which to look first: answers of several classes, then all of them wrong."""
    import fiftyone

    names, F = ("not all agree", f"{words(record)[record.subject]} wrong"), fiftyone.ViewField
    ids: list[str] = []
    for view in views_of(record):
        if view.name in names and len(ids) < count:
            found = view.samples(dataset, F).limit(count).values("id")
            ids += [each for each in found if each not in ids][: count - len(ids)]
    return dataset.select(ids, ordered=True)
