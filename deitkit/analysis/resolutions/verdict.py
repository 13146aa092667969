"""What a report of resolutions says, in sentences: which size decides best, surely or not, and at what cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deitkit.analysis.resolutions.measure import Finetuned, Resolution
from deitkit.analysis.speed import Size, spelled
from deitkit.measures.words import beside_words, listed, rate_words


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
