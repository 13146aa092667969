"""Images whose class stands in their names: `cat.0.jpg`, `great_pyrenees_173.jpg`, or what an expression finds.

`data.label_from` asks for it: "filename" takes the name without the number at its end, a regular expression its group
`label`, or its first, from the path below the root. Decodes nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from deitkit.data.formats.folder import as_known, check_classes, class_order, split_folders
from deitkit.data.formats.listing import SeenFiles, folders_in, images_below, passed, place_of
from deitkit.data.formats.split import open_split
from deitkit.data.formats.split_names import by_split
from deitkit.data.source import Files, Form, PackedNames, Source, counted
from deitkit.errors import DeitkitError
from deitkit.recipe import schema

FILENAME = re.compile(r"(?:.*/)?(?P<label>[^/]+?)[\W_]*\d+[^/]*")


def open_named(root: Path, data: schema.Data, split: str) -> Source:
    """One split of the images below `root`, each with the class that its name says.

    Raises:
        DeitkitError: `data.label_from` is no expression with a group, or names do not fit it.
    """
    pattern = _pattern(data.label_from or "filename")
    folders = split_folders(root) or by_split(folders_in(root))
    if "train" not in folders:
        return open_split(["train"], lambda name: _scan(root, "", data, pattern, name), data, split, root=root)
    used = {name: found[0] for name, found in folders.items()}

    def part(name: str) -> Source:
        known = _scan(root, used["train"], data, pattern, "train").class_names if name != "train" else ()
        return _scan(root, used[name], data, pattern, name, known=known)

    if "test" in used and not _is_labelled(root, used["test"], pattern):
        del used["test"]  # as those of competitions: 1.jpg, 2.jpg
    return open_split(tuple(used), part, data, split, root=root)


def _pattern(given: str) -> re.Pattern[str]:
    if given == "filename":
        return FILENAME
    try:
        pattern = re.compile(given)
    except re.error as error:
        raise DeitkitError(f"data.label_from is no regular expression: {error}", value=given) from error
    if not pattern.groups:
        remedy = r"mark the class: --set 'data.label_from=([a-z]+)_\d+\.jpg'; or filename"
        raise DeitkitError(f"data.label_from {given!r} has no group", value=given, remedy=remedy)
    return pattern


def _label(pattern: re.Pattern[str], image: str) -> str:
    found = pattern.fullmatch(image) if pattern is FILENAME else pattern.search(image)
    if found is None:
        return ""
    return (found["label"] if "label" in pattern.groupindex else found[1]) or ""


def _is_labelled(root: Path, folder: str, pattern: re.Pattern[str]) -> bool:
    return any(
        _label(pattern, image) for image in images_below(str(root / folder), "", place_of(root), SeenFiles())[:20]
    )


def _scan(
    root: Path, folder: str, data: schema.Data, pattern: re.Pattern[str], split: str, *, known: tuple[str, ...] = ()
) -> Files:
    seen = SeenFiles()
    ids = images_below(str(root / folder), f"{folder}/" if folder else "", place_of(root), seen)
    labels = [_label(pattern, image) for image in ids]
    strange = [image for image, label in zip(ids, labels, strict=True) if not label]
    if strange or not ids:
        what = f"the names say no class by data.label_from = {data.label_from!r}" if ids else f"{root} has no images"
        raise DeitkitError(
            what,
            value=data.label_from,
            problems=[counted("images", strange)] if strange else [],
            remedy="another expression with one group, or a table of labels: labels.csv with the columns image,label",
        )
    labels = as_known(labels, known)
    names = known or class_order(labels)
    check_classes(sorted(set(labels)), root / folder, known=known, remedy="another data.label_from names others")
    number = {name: index for index, name in enumerate(names)}
    return Files(
        dataset=data.dataset,
        split=split,
        root=root,
        class_names=names,
        labels=np.array([number[label] for label in labels], dtype=np.int64),
        ids=PackedNames(ids),
        notes=tuple(passed(seen)),
    )


NAMED = Form("images named after their classes", "ROOT/cat.0.jpg ... with data.label_from", Path.is_dir, open_named)
