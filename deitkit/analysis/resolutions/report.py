"""One model's image sizes in tables, figures and words, beside the paper's Table 10. Measures nothing."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from deitkit.analysis.report import AnyFigure, Cloud, Curves, Points, Report, Series, Table
from deitkit.analysis.resolutions.measure import Finetuned, Hits, Resolution
from deitkit.analysis.speed import COMMON, Size, speed_definitions, speed_table, spelled
from deitkit.measures.agreement import wilson_interval
from deitkit.measures.words import beside_words, listed, rate_words

AS_IT_IS, THERE = "as it is", "trained at that size"
SOURCES = (
    "Touvron et al., Training data-efficient image transformers, 2020, Sec. 3 and Table 10",
    "Touvron et al., Fixing the train-test resolution discrepancy, 2019 (FixRes)",
)
Value = Callable[[Resolution, Finetuned | None], Any]


def resolutions_report(
    found: Sequence[Resolution], finetuned: Sequence[Finetuned] = (), *, classifier: str, own: Size, images: str = "",
    mode: str = "", conditions: Mapping[str, Any] | None = None, is_imagenet: bool = False,
) -> Report:  # fmt: skip
    """The model `classifier`, trained at `own` px, at each size; `images` names the data, `mode` the interpolation
    (none for a convnet), `conditions` say how speed was measured (None: it was not).

    Table 10's rows stand beside the same model's only where the images are ImageNet's.
    """
    if not is_imagenet:
        found = [replace(row, published=None) for row in found]
    count = max((row.hits.images for row in found if row.hits), default=0)
    return Report(
        name="resolutions",
        title=f"{classifier} (trained at {spelled(own)} px) at other image sizes",
        definitions=_definitions(mode, conditions, is_imagenet=is_imagenet),
        sources=SOURCES,
        numbers={
            "size": list(own), "sizes": [list(row.size) for row in found], "mode": mode or None, "images": count,
            "finetuned": [each.run for each in finetuned], "conditions": dict(conditions) if conditions else None,
        },
        tables=(
            _main_table(found, finetuned, images),
            *([_accuracy_table(found, finetuned, own, images)] if count else []),
            *([speed_table({spelled(row.size): row.speed for row in found}, what="size")] if conditions else []),
        ),
        figures=tuple(_figures(found, finetuned, own, images)),
        verdict=tuple(resolutions_verdict(found, finetuned, own)),
    )  # fmt: skip


def _definitions(mode: str, conditions: Mapping[str, Any] | None, *, is_imagenet: bool) -> dict[str, str]:
    paper = "Table 10's DeiT-B, fine-tuned at each size but 224; its images per second are of one V100"
    resampled = f"its position embedding resampled ({mode})" if mode else "a network without position embedding"
    return {
        "as it is": f"every weight as trained, {resampled}; images resized to the size over the crop ratio and cropped",
        "fine-tuned": "a run that went on from this model at that size; both columns count the same images",
        THERE: "as it is at the model's own size, fine-tuned at the others, as in the paper's Table 10",
        "real": "top-1 by all labels that people accept, on the images that have one (ImageNet-ReaL)",
        "v2": "top-1 on ImageNet-V2, matched-frequency",
        "tokens": "patches and prefix tokens",
        **({"paper": paper} if is_imagenet else {}),
        "band": "the longer side of the 95% interval; of speeds, of the quartiles",
        **COMMON,
        **(speed_definitions(conditions) if conditions else {}),
    }


def _main_table(found: Sequence[Resolution], finetuned: Sequence[Finetuned], images: str) -> Table:
    """A row for each size and for each run that was fine-tuned there; columns that nothing fills are left out."""
    several = len({run.size for run in finetuned}) < len(finetuned)
    columns: dict[str, tuple[Value, str]] = {
        "size": (lambda row, _: spelled(row.size), ""),
        "patches": (lambda row, _: row.grid and f"{row.grid[0]}x{row.grid[1]}", ""),
        "tokens": (lambda row, _: row.tokens, ","),
        "GMACs": (lambda row, _: row.macs and row.macs / 1e9, ".3g"),
        "images/s": (lambda row, _: row.speed and row.speed.images_per_s, ",.1f"),
        "MiB": (lambda row, _: row.speed and row.speed.memory_mb, ",.1f"),
        "as it is": (lambda row, _: row.hits and row.hits.top1(), ".1%"),
        "fine-tuned": (lambda _, run: run and run.hits.top1(), ".1%"),
        "run": (lambda _, run: run.run if run and several else None, ""),
        "real": (lambda row, _: row.hits and row.hits.real_top1(), ".1%"),
        "fine-tuned real": (lambda _, run: run and run.hits.real_top1(), ".1%"),
        "v2": (lambda row, _: row.v2 and row.v2.top1(), ".1%"),
        "fine-tuned v2": (lambda _, run: run and run.v2 and run.v2.top1(), ".1%"),
        "paper images/s": (lambda row, _: row.published and row.published.images_per_s, ",.1f"),
        "paper top1": (lambda row, _: row.published and row.published.imagenet / 100, ".1%"),
        "paper real": (lambda row, _: row.published and row.published.real and row.published.real / 100, ".1%"),
        "paper v2": (lambda row, _: row.published and row.published.v2 and row.published.v2 / 100, ".1%"),
    }
    rows = []
    for row in found:
        there: list[Finetuned | None] = [run for run in finetuned if run.size == row.size]
        rows += [tuple(value(row, run) for value, _ in columns.values()) for run in there or [None]]
    measured = any(row.speed for row in found)
    kept = [
        place
        for place, name in enumerate(columns)
        if any(row[place] is not None for row in rows) or (name == "MiB" and measured)
    ]
    names = [*columns]
    return Table(
        name="resolutions",
        title=f"Cost, and top-1 of the deciding head on {images}" if images else "Cost",
        columns=tuple(names[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in rows),
        formats={name: spec for name, (_, spec) in columns.items() if spec},
    )


def _accuracy_table(
    found: Sequence[Resolution], finetuned: Sequence[Finetuned], own: Size, images: str
) -> Table:  # fmt: skip
    """Every head of everything that was evaluated, with its interval."""
    rows = []
    for size, weights, hits, v2 in _evaluated(found, finetuned, own):
        for head, right in hits.right.items():
            interval = wilson_interval(right, hits.images)
            share = v2.top1(head) if v2 and head in v2.right else None
            rows.append(
                (spelled(size), weights, head, hits.top1(head), interval.low, interval.high, hits.images,
                 hits.real_top1(head), hits.judged or None, share, v2.images if v2 else None)
            )  # fmt: skip
    columns = {
        "size": "", "weights": "", "head": "", "top1": ".1%", "low": ".1%", "high": ".1%", "images": ",",
        "real": ".1%", "judged": ",", "v2": ".1%", "v2_images": ",",
    }  # fmt: skip
    return Table.of("accuracy", f"Top-1 of each head on {images}, with 95% intervals", columns, rows, filled=True)


def _evaluated(
    found: Sequence[Resolution], finetuned: Sequence[Finetuned], own: Size
) -> Iterator[tuple[Size, str, Hits, Hits | None]]:
    """(size, what the weights are, its hits, those on V2), by size."""
    for row in found:
        if row.hits:
            yield row.size, "as trained" if row.size == own else AS_IT_IS, row.hits, row.v2
        for run in finetuned:
            if run.size == row.size:
                yield run.size, run.run, run.hits, run.v2


# Figures


def _figures(
    found: Sequence[Resolution], finetuned: Sequence[Finetuned], own: Size, images: str
) -> list[AnyFigure]:  # fmt: skip
    figures: list[AnyFigure] = []
    sizes = tuple(spelled(row.size) for row in found)
    if any(row.hits for row in found):
        figures.append(
            Curves(
                name="accuracy", title=f"Top-1 on {images} by image size, with 95% intervals",
                x_label="image size (px)", y_label="top-1 accuracy (%)", ticks=sizes, bounds=(0.0, 100.0),
                series=tuple(_accuracy_series(found, finetuned, own)),
            )
        )  # fmt: skip
    speeds = [row.speed for row in found]
    if any(speeds):
        medians = tuple(speed.images_per_s if speed else None for speed in speeds)
        spread = tuple(
            max(speed.high - speed.images_per_s, speed.images_per_s - speed.low) if speed else None for speed in speeds
        )
        figures.append(
            Curves(
                name="speed", title="Images per second by image size, with quartiles",
                x_label="image size (px)", y_label="images/s (measured here)", ticks=sizes,
                series=(Series("", medians, spread),),
            )
        )  # fmt: skip
    if len(figures) == 2:
        figures.append(_against_speed(found, finetuned, own, images))
    return figures


def _accuracy_series(
    found: Sequence[Resolution], finetuned: Sequence[Finetuned], own: Size
) -> Iterator[Series]:  # fmt: skip
    heads = next([*row.hits.right] for row in found if row.hits)
    for head in heads:
        # One band, because those of several heads hide each other.
        yield _series(f"{head}, {AS_IT_IS}", [row.hits for row in found], head, band=head == heads[-1])
    there, others = _trained_there(found, finetuned, own)
    if finetuned:
        yield _series(f"{THERE} (deciding head)", there, "", band=True)
    for run in others:
        yield Series(run.run, tuple(100 * run.hits.top1() if row.size == run.size else None for row in found))
    if any(row.published for row in found):
        published = tuple(row.published.imagenet if row.published else None for row in found)
        yield Series(f"DeiT-B, {THERE} (paper, Table 10)", published, published=True)


def _series(label: str, hits: Sequence[Hits | None], head: str, *, band: bool) -> Series:
    """A head's accuracy in per cent, or the deciding one's; the band has the longer side of its interval."""
    values = tuple(100 * each.top1(head) if each else None for each in hits)
    if not band:
        return Series(label, values)
    return Series(label, values, tuple(100 * _longer_side(each, head or each.head) if each else None for each in hits))


def _longer_side(hits: Hits, head: str) -> float:
    interval, top1 = wilson_interval(hits.right[head], hits.images), hits.top1(head)
    return max(interval.high - top1, top1 - interval.low)


def _trained_there(
    found: Sequence[Resolution], finetuned: Sequence[Finetuned], own: Size
) -> tuple[list[Hits | None], list[Finetuned]]:
    """What was trained at each size: the first run, else at its own size the model itself; and the other runs."""
    first: dict[Size, Finetuned] = {}
    for run in finetuned:
        first.setdefault(run.size, run)
    there = [first[row.size].hits if row.size in first else row.hits if row.size == own else None for row in found]
    return there, [run for run in finetuned if first[run.size] is not run]


def _against_speed(
    found: Sequence[Resolution], finetuned: Sequence[Finetuned], own: Size, images: str
) -> Points:  # fmt: skip
    """The sizes on the plane of throughput and accuracy."""
    there, _ = _trained_there(found, finetuned, own)
    clouds = [_cloud(AS_IT_IS, found, [row.hits for row in found])]
    if finetuned:
        run_at = {run.size for run in finetuned}  # elsewhere both clouds have the same point, which is named once
        clouds.append(_cloud(THERE, found, there, named=run_at))
    return Points(
        name="tradeoff", title=f"Accuracy on {images} against throughput, by image size in px",
        x_label="images/s (measured here)", y_label="top-1 accuracy (%)", clouds=tuple(clouds), joined=True, log_x=True,
    )  # fmt: skip


def _cloud(
    label: str, found: Sequence[Resolution], hits: Sequence[Hits | None], *, named: Container[Size] | None = None
) -> Cloud:
    known = [(row, row.speed, each) for row, each in zip(found, hits, strict=True) if row.speed and each]
    intervals = [wilson_interval(each.right[each.head], each.images) for _, _, each in known]
    return Cloud(
        label=label,
        x=tuple(speed.images_per_s for _, speed, _ in known),
        y=tuple(100 * each.top1() for _, _, each in known),
        names=tuple(spelled(row.size) if named is None or row.size in named else "" for row, _, _ in known),
        intervals=tuple((100 * interval.low, 100 * interval.high) for interval in intervals),
    )


def resolutions_verdict(found: Sequence[Resolution], finetuned: Sequence[Finetuned], own: Size) -> Iterator[str]:
    """The other sizes, and what was fine-tuned, beside the model at its own size."""
    base, where = next((row for row in found if row.size == own), None), f"its own {spelled(own)} px"
    if base is None:
        return
    if base.hits is not None and base.hits.decided is not None:
        yield f"At {where}: {rate_words(base.hits.right[base.hits.head], base.hits.images)}."
        others = {f"{spelled(row.size)} px": row.hits for row in found if row is not base}
        others |= {f"{run.run}, fine-tuned at {spelled(run.size)} px": run.hits for run in finetuned}
        known = {name: hits for name, hits in others.items() if hits is not None}
        pairs = {name: hits.decided for name, hits in known.items() if hits.decided is not None}
        same = {name: decided for name, decided in pairs.items() if len(decided) == len(base.hits.decided)}
        yield from beside_words(where, base.hits.decided, same)
    if base.speed is not None:
        ratios = [
            f"{row.speed.images_per_s / base.speed.images_per_s:.2g} x at {spelled(row.size)} px"
            for row in found
            if row is not base and row.speed is not None
        ]
        if ratios:
            yield f"Images per second beside {where}: {listed(ratios)}."
