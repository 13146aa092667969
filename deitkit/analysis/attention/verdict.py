"""What a report of attention says, in sentences: of these images alone, which are too few for more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from deitkit.analysis.attention.measure import AttentionLook
from deitkit.analysis.report import Table
from deitkit.measures.words import rate_words
from deitkit.models.forms import decisive_head


def attention_verdict(looks: Sequence[AttentionLook], images: Table, layers: Table) -> Iterator[str]:
    """By the tables of images and of layers."""
    these = f"these {len(looks)} images" if len(looks) > 1 else "this image"
    head = decisive_head(looks[0].decisions)
    labelled = [look for look in looks if look.label]
    if labelled:
        right = sum(look.decisions[head][0] == look.label for look in labelled)
        yield f"On {these} the {head} head has {rate_words(right, len(labelled))}; what follows holds for them alone."
    else:
        yield f"What follows holds for {these} alone."
    rows = [dict(zip(layers.columns, row, strict=True)) for row in layers.rows]
    if rows[0]["cosine"] is not None:
        most, least = (pick(rows, key=lambda row: row["cosine"]) for pick in (max, min))
        apart = [row[images.columns.index("apart")] for row in images.rows]
        yield (
            f"The two tokens read the patches most alike in layer {most['layer']} (cosine {most['cosine']:.3f}) and"
            f" least in layer {least['layer']} ({least['cosine']:.3f}); their rollouts are"
            f" {sum(apart) / len(apart):.3f} apart (0 equal, 1 disjoint)."
        )
    far, near = (pick(rows, key=lambda row: row["distance"]) for pick in (max, min))
    yield (
        f"Heads look farthest in layer {far['layer']} ({far['distance']:.1f} px on average) and nearest in layer"
        f" {near['layer']} ({near['distance']:.1f} px)."
    )
