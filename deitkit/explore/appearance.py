"""How the App shows a dataset: its sidebar, its colours, what is ticked. What a user arranged stays as it is.

The words under an image say which class, the colour whether it is right: the label grey, an answer green where it is
the label and red where not. A colour for each class, the App's own habit, tells a thousand classes apart no better
than their names, and right from wrong not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from deitkit.explore import agreement
from deitkit.explore.agreement import AGREEMENT, CLASSIFIERS_RIGHT, described, heads_field, only
from deitkit.explore.record import ACCEPTED, GROUND_TRUTH, KEY, MARK, Record, RecordedClassifier, eval_key
from deitkit.measures.agreement import ALL_RIGHT, SOME_RIGHT, WRONG_ALIKE, WRONG_DIFFERENTLY
from deitkit.models.forms import TOKEN_HEADS

# Below white words; right and wrong are told apart by the colour-blind, too (Okabe and Ito).
RIGHT, WRONG, NEUTRAL = "#00805f", "#d55e00", "#6b7280"
FIRST_BETTER, SECOND_BETTER, ALIKE, DISPUTED = "#0072b2", "#a87000", "#b0507f", "#7a5f1a"
FIELD_COLORS = ("#0072b2", "#e69f00", "#cc79a7", "#56b4e9", "#8c6d1f")  # in the sidebar: one a classifier
METADATA = [f"metadata.{name}" for name in ("size_bytes", "mime_type", "width", "height", "num_channels")]
CLOSED = ("evaluation", "metadata", "primitives")  # groups that are folded at first
EXTRAS = "brain"  # where `brain` and `heatmaps` note what they made

Groups = list[dict[str, Any]]


def arrange(dataset: Any, record: Record) -> None:
    """Set what the App shows, each thing where nobody has set it since we did; a new field always gets its place."""
    import fiftyone

    config = dataset.app_config
    now = _shown(dataset)
    wanted: dict[str, Any] = {
        "description": description(record),
        "sidebar": sidebar(dataset, record),
        "colors": _plain_colors(fiftyone.ColorScheme(color_by="value", fields=colors(record))),
        "active": [GROUND_TRUTH, *(each.decisive for each in looked_at(record))],
    }
    ours = [name for name in wanted if now[name] == record.shown.get(name)]
    due = {name for name in ours if now[name] != wanted[name]}
    if "description" in due:
        dataset.description = wanted["description"]
    if "sidebar" in due:
        config.sidebar_groups = _as_groups(wanted["sidebar"], config.sidebar_groups or [])
    if "colors" in due:
        scales = config.color_scheme.colorscales if config.color_scheme else None
        config.color_scheme = fiftyone.ColorScheme(color_by="value", fields=colors(record), colorscales=scales)
    if "active" in due:
        config.active_fields = fiftyone.core.odm.dataset.ActiveFields(paths=wanted["active"])
    added = "sidebar" not in ours and _add_new(config, wanted["sidebar"])
    record.shown = {name: wanted[name] if name in ours else record.shown.get(name) for name in wanted}
    if due or added:
        dataset.save()
    record.save(dataset)


@contextmanager
def arrangement_kept(dataset: Any) -> Iterator[None]:
    """What fiftyone does meanwhile to the sidebar and to what is ticked is taken back."""
    config = dataset.app_config
    groups, active = config.sidebar_groups, config.active_fields
    before = None if groups is None else [type(group)(**_group(group), expanded=group.expanded) for group in groups]
    ticked = None if active is None else type(active)(paths=list(active.paths), exclude=active.exclude)
    try:
        yield
    finally:
        dataset.app_config.sidebar_groups, dataset.app_config.active_fields = before, ticked
        dataset.save()


@contextmanager
def additions_arranged(dataset: Any) -> Iterator[Record]:
    """What is added meanwhile gets its place in the sidebar afterwards, and nothing else of it changes."""
    with arrangement_kept(dataset):
        yield Record.load(dataset)
    arrange(dataset, Record.load(dataset))


# What is wanted


def description(record: Record) -> str:
    """One or two sentences, and the command that brings it up to date."""
    names = [each.name for each in record.classifiers]
    who = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    by = f" Brought up to date by: {record.command}" if record.command else ""
    return f"What {who} make of {record.images}.{by}"


def looked_at(record: Record) -> list[RecordedClassifier]:
    """The subject and its teacher, or the first of the others."""
    others = [each for each in record.classifiers if each.name != record.subject]
    beside = [each for each in others if each.name == record.teacher] or others
    return [record.first, *beside[:1]]


def sidebar(dataset: Any, record: Record) -> Groups:
    """The groups and what is in them; the App puts a user's own fields behind."""
    answers = record.answers
    extras = [name for name in dataset.info[MARK].get(EXTRAS, {}) if dataset.has_field(name)]
    maps = [name for name in extras if type(dataset.get_field(name)).__name__ == "EmbeddedDocumentField"]
    groups = {
        "tags": ["tags", "_label_tags"],
        "labels": [GROUND_TRUTH, *([ACCEPTED] if ACCEPTED in record.fields else [])],
        "classifiers": answers,
        "agreement": list(described(record)),
        "attention": maps,
        "scores": [name for name in extras if name not in maps],
        "evaluation": [eval_key(field) for field in answers],
        "metadata": METADATA,
        "primitives": [KEY, "id", "filepath", "created_at", "last_modified_at"],
    }
    return [{"name": name, "paths": paths} for name, paths in groups.items() if paths]


def colors(record: Record) -> list[dict[str, Any]]:
    """Of values and fields: fiftyone's `ColorScheme.fields`."""
    yes_no = _values({"true": RIGHT, "false": WRONG})
    # A label has no confidence: this is how the App gives all labels of a field one colour.
    plain = {"fieldColor": NEUTRAL, "colorByAttribute": "confidence", "valueColors": _values({"none": NEUTRAL})}
    found = [{"path": path, **plain} for path in (GROUND_TRUTH, *([ACCEPTED] if ACCEPTED in record.fields else []))]
    for number, each in enumerate(record.classifiers):
        own = FIELD_COLORS[number % len(FIELD_COLORS)]
        for field in each.fields.values():
            found.append({"path": field, "fieldColor": own, "colorByAttribute": "right", "valueColors": yes_no})
            found.append({"path": eval_key(field), "fieldColor": own, "valueColors": yes_no})
    kinds = {agreement.BOTH_RIGHT: RIGHT, agreement.BOTH_ALIKE: ALIKE, agreement.BOTH_DIFFERENTLY: WRONG}
    pairs = {field: (a.name, b.name) for a, b, field in record.pairs}
    pairs |= {heads_field(each.name): TOKEN_HEADS for each in record.classifiers}
    for field in described(record):
        if field in pairs:
            a, b = pairs[field]
            values = {**kinds, only(a): FIRST_BETTER, only(b): SECOND_BETTER}
            found.append({"path": field, "fieldColor": NEUTRAL, "valueColors": _values(values)})
    if CLASSIFIERS_RIGHT in described(record):
        found.append({"path": CLASSIFIERS_RIGHT, "fieldColor": NEUTRAL})
    if AGREEMENT in described(record):
        values = {ALL_RIGHT: RIGHT, SOME_RIGHT: DISPUTED}
        values |= {WRONG_ALIKE: ALIKE, WRONG_DIFFERENTLY: WRONG}
        found.append({"path": AGREEMENT, "fieldColor": NEUTRAL, "valueColors": _values(values)})
    return found


def _values(colors: dict[str, str]) -> list[dict[str, str]]:
    return [{"value": value, "color": color} for value, color in colors.items()]


# What is there


def _shown(dataset: Any) -> dict[str, Any]:
    """What the App shows now, as JSON has it; None where it is fiftyone's default."""
    config = dataset.app_config
    groups, scheme, active = config.sidebar_groups, config.color_scheme, config.active_fields
    return {
        "description": dataset.description or None,
        "sidebar": None if groups is None else [_group(group) for group in groups],
        "colors": None if scheme is None else _plain_colors(scheme),
        "active": None if active is None else list(active.paths),
    }


def _group(group: Any) -> dict[str, Any]:
    return {"name": group.name, "paths": list(group.paths)}


def _plain_colors(scheme: Any) -> dict[str, Any]:
    """All but its id, which is drawn anew each time, and the heatmaps' own scales."""
    return {name: value for name, value in scheme.to_dict(extended=True).items() if name not in ("_id", "colorscales")}


def _as_groups(wanted: Groups, there: list[Any]) -> list[Any]:
    """Groups as fiftyone has them, folded as they are now."""
    from fiftyone.core.odm.dataset import SidebarGroupDocument

    opened = {group.name: group.expanded for group in there}
    return [
        SidebarGroupDocument(**group, expanded=opened.get(group["name"], group["name"] not in CLOSED))
        for group in wanted
    ]


def _add_new(config: Any, wanted: Groups) -> bool:
    """Put fields that have no place yet into the group that they belong to, in a sidebar that the user arranged.

    One that the user reset to the App's own has a place for all.
    """
    from fiftyone.core.odm.dataset import SidebarGroupDocument

    if config.sidebar_groups is None:
        return False
    placed = {path for group in config.sidebar_groups for path in group.paths}
    by_name, added = {group.name: group for group in config.sidebar_groups}, False
    for group in wanted:
        new = [path for path in group["paths"] if path not in placed]
        if new and group["name"] in by_name:
            by_name[group["name"]].paths.extend(new)
        elif new:
            config.sidebar_groups.append(SidebarGroupDocument(name=group["name"], paths=new, expanded=True))
        added = added or bool(new)
    return added
