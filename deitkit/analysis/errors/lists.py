"""Single images of one head: top losses, confident mistakes, doubtful labels, as tables and as sheets of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deitkit.analysis.errors.heads import HeadErrors, LabelledImages
from deitkit.analysis.report import Panel, Panels, Table

TOP = 24  # images of a list
IN_A_ROW, MOST_PICTURES = 6, 48
Pixels = NDArray[np.uint8]
Picture = Callable[[int], Pixels | None]  # row -> [H, W, 3], None where the image is gone
GONE: Pixels = np.full((8, 8, 3), 225, dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class ImageList:
    """Rows of images, the first of which show best what the list is of. `total` counts all of that kind."""

    name: str
    title: str
    rows: NDArray[np.int64]
    total: int


@dataclass(frozen=True)
class Reassessed:
    """Of the doubtful images, then of all: how many ImageNet's reassessment judged, and how many labels it rejects."""

    doubtful_judged: int
    doubtful_rejected: int
    judged: int
    rejected: int


def image_lists(head: HeadErrors, *, top: int = TOP) -> list[ImageList]:
    """Those that the head can show, each of at most `top` images."""
    found = []
    if head.scores is not None:
        worst = np.argsort(-head.scores.loss, kind="stable")
        found.append(ImageList("top_losses", "Top losses", worst[:top], len(worst)))
    wrong = np.flatnonzero(~head.hits)
    surest = wrong[np.argsort(-head.confidence[wrong], kind="stable")]
    found.append(ImageList("mistakes", "Most confident mistakes", surest[:top], len(surest)))
    if head.doubts is not None:
        rows = head.doubts.rows
        found.append(ImageList("doubtful", "Labels to doubt", rows[:top], len(rows)))
    return found


def list_table(chosen: ImageList, head: HeadErrors, images: LabelledImages) -> Table:
    """One row an image: what is known of it, what was said, and how surely."""
    names, scores, rows = images.class_names, head.scores, chosen.rows
    accepted = _accepted(images, head, rows)
    table = [
        (images.ids[row], images.paths[row] if images.paths else None, names[images.labels[row]],
         names[head.decisions[row]], float(head.confidence[row]),
         None if scores is None else float(scores.label_probability[row]),
         None if scores is None else float(scores.loss[row]),
         None if scores is None else float(scores.margin[row]), *accepted[place])
        for place, row in enumerate(rows.tolist())
    ]  # fmt: skip
    columns = {
        "image": "", "path": "", "label": "", "said": "", "confidence": ".1%", "label's": ".2%", "loss": ".2f",
        "margin": "+.2f", "label accepted": "", "said accepted": "",
    }  # fmt: skip
    plural = "" if chosen.total == 1 else "s"
    shown = f"{len(rows):,} of {chosen.total:,}" if len(rows) < chosen.total else f"{chosen.total:,}"
    title = f"{chosen.title} of {head.name} ({shown} image{plural})"
    return Table.of(chosen.name, title, columns, table, filled=True)


def _accepted(
    images: LabelledImages, head: HeadErrors, rows: NDArray[np.int64]
) -> list[tuple[str | None, str | None]]:  # fmt: skip
    """Whether the reassessed labels hold the label, and the decision: yes, no, or not judged."""
    if images.accepted is None or not len(rows):
        return [(None, None)] * len(rows)
    own = images.accepted.take(rows)
    pairs = [own.hits(each[rows][:, None]) for each in (images.labels, head.decisions)]
    words = [["yes" if hit else "no" for hit in each] for each in pairs]
    judged = own.counts > 0
    return [
        (label, said) if known else ("not judged", "not judged")
        for known, label, said in zip(judged, *words, strict=True)
    ]


def reassessed(head: HeadErrors, images: LabelledImages) -> Reassessed | None:
    """How the reassessed labels, where they are known, stand to the head's doubts."""
    if images.accepted is None or head.doubts is None:
        return None
    judged = images.accepted.counts > 0
    rejected = judged & ~images.accepted.hits(images.labels[:, None])
    rows = head.doubts.rows
    return Reassessed(
        int(judged[rows].sum()), int(rejected[rows].sum()), judged=int(judged.sum()), rejected=int(rejected.sum())
    )


def list_panels(chosen: ImageList, head: HeadErrors, images: LabelledImages, picture: Picture) -> Panels | None:
    """A sheet of pictures; nothing where the list is empty or every image is gone."""
    rows = chosen.rows[:MOST_PICTURES].tolist()
    pictures = [picture(row) for row in rows]
    gone = sum(pixels is None for pixels in pictures)
    if gone == len(rows):
        return None
    panels = [
        Panel(
            _caption(row, head, images) + (" (image is gone)" if pixels is None else ""),
            GONE if pixels is None else pixels,
        )
        for row, pixels in zip(rows, pictures, strict=True)
    ]
    first = f", the first {len(rows):,} of {chosen.total:,}" if len(rows) < chosen.total else ""
    return Panels(
        name=chosen.name,
        title=f"{chosen.title} of {head.name} on {images.title}{first}\nlabel → decision, its probability",
        rows=tuple(tuple(panels[start : start + IN_A_ROW]) for start in range(0, len(panels), IN_A_ROW)),
    )


def _caption(row: int, head: HeadErrors, images: LabelledImages) -> str:
    label, said = images.class_names[images.labels[row]], images.class_names[head.decisions[row]]
    return f"{label} → {said}, {head.confidence[row]:.0%}"
