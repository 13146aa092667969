"""What the tokens read of some images, as pictures, tables, curves and words: of these images alone, too few for more.

Legend: L layers, T tokens, N patches; a grid is (rows, columns) of patches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cosine_similarity

from deitkit.analysis.attention.measure import AttentionLook, Pixels, Weights
from deitkit.analysis.report import AnyFigure, Cloud, Curves, Panel, Panels, Points, Report, Series, Table
from deitkit.errors import DeitkitError
from deitkit.measures.words import rate_words
from deitkit.models.forms import decisive_head

COLOURS = "inferno"
LEGEND = "colours: each picture's least (dark) to greatest (yellow)"
IN_A_ROW = 6  # pictures
COLOURS_SHARE = 0.6  # of an overlay; the rest is the image in grey


@dataclass(frozen=True)
class Grids:
    """Which pictures are drawn beside rollout and layers: heads of some layers, layers of some heads (from 1), and
    all heads of all layers of some tokens."""

    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    tokens: tuple[str, ...] = ()


def attention_report(looks: Sequence[AttentionLook], *, classifier: str, grids: Grids | None = None) -> Report:
    """Looks of one model at any number of images -> pictures of each, and what holds over all."""
    if not looks:
        raise DeitkitError("there is no image to look at", remedy="name an image, or --dataset")
    looks, grids = _distinct(looks), grids or Grids()
    _refuse_absent(looks[0], grids)
    layers, heads = looks[0].distance.shape
    tables = (_image_table(looks), _layer_table(looks), _head_table(looks))
    return Report(
        name="attention",
        title=f"Attention of {classifier}, {len(looks)} image{'s' if len(looks) > 1 else ''}",
        definitions=DEFINITIONS,
        sources=SOURCES,
        numbers={"images": len(looks), "layers": layers, "heads": heads, "tokens": list(looks[0].names)},
        tables=tables,
        figures=(*(figure for look in looks for figure in _pictures(look, grids)), *_curves(looks)),
        verdict=tuple(attention_verdict(looks, *tables[:2])),
    )


DEFINITIONS = {
    "attention": "softmax of a token's query with every token's key: its share for each patch, in % of all tokens",
    "rollout": "heads averaged, an identity of equal weight added for the residual path, rows normalised, and the"
    " layers' matrices multiplied: the share of each patch in what reaches the token, in %",
    "difference": "class token minus distillation token, in percentage points",
    "overlay": "grey image under colours, from that picture's least weight (dark) to its greatest (yellow)",
    "cosine": "of the class token's and the distillation token's weights on the patches, heads joined",
    "apart": "half the sum of the differences of the two tokens' rollouts, each scaled to 1: 0 equal, 1 disjoint",
    "on patches": "the share of a token's attention that goes to patches; the rest goes to the tokens",
    "distance": "mean distance in pixels between two patches, weighted by the attention of one to the other",
}
SOURCES = (
    "Touvron et al., Training data-efficient image transformers, 2020, Sec. 4",
    "Abnar and Zuidema, Quantifying attention flow in transformers, 2020",
    "Dosovitskiy et al., An image is worth 16x16 words, 2020, Fig. 7",
)


def overlay(picture: Pixels, weights: Weights) -> Pixels:
    """picture [H, W, 3] in grey under the colours of weights [rows, columns], from their least to their greatest."""
    from matplotlib import colormaps

    height, width = picture.shape[:2]
    rows = np.arange(height) * weights.shape[0] // height
    columns = np.arange(width) * weights.shape[1] // width
    least, greatest = float(weights.min()), float(weights.max())
    scaled = (weights[rows][:, columns] - least) / max(greatest - least, 1e-12)
    colours = colormaps[COLOURS](scaled)[..., :3] * 255
    grey = picture.mean(axis=2, keepdims=True)
    blended: Pixels = (COLOURS_SHARE * colours + (1 - COLOURS_SHARE) * grey).round().astype(np.uint8)
    return blended


def _distinct(looks: Sequence[AttentionLook]) -> list[AttentionLook]:
    """Names that can be files' stems, each once."""
    seen: dict[str, int] = {}
    named = []
    for look in looks:
        stem = re.sub(r"[^\w.-]+", "_", re.sub(r"\.\w{1,5}$", "", look.name)).strip("._") or "image"
        number = seen[stem] = seen.get(stem, 0) + 1
        named.append(replace(look, name=stem if number == 1 else f"{stem}_{number}"))
    return named


def _refuse_absent(look: AttentionLook, grids: Grids) -> None:
    layers, heads = look.distance.shape
    for what, asked, count in (("layer", grids.layers, layers), ("head", grids.heads, heads)):
        if wrong := [number for number in asked if not 1 <= number <= count]:
            raise DeitkitError(f"the model has no {what} {wrong[0]}", value=wrong[0], choices=["1", "...", str(count)])
    if missing := [token for token in grids.tokens if token not in look.names]:
        raise DeitkitError(
            f"the model has no {missing[0]} token",
            value=missing[0],
            choices=look.names,
            remedy="`deitkit distill` trains a model with a distillation token",
        )


def _pictures(look: AttentionLook, grids: Grids) -> list[Panels]:
    title = f"{look.name}{f' ({look.label})' if look.label else ''}"
    decided = ", ".join(f"{head}: {name} {confidence:.0%}" for head, (name, confidence) in look.decisions.items())
    rolled = [*_overlays(look, look.rolled, ""), *_differences(look, look.rolled, "")]
    found = [
        _panels(f"{look.name}_rollout", f"Rollout, {title}; {decided}", [[Panel("image", look.picture), *rolled]]),
        _panels(
            f"{look.name}_layers",
            f"Mean over the heads by layer, {title}",
            _rows(look, look.weights.mean(axis=1)),
        ),
    ]
    found += [
        _panels(f"{look.name}_layer{layer}", f"Layer {layer} by head, {title}", _rows(look, look.weights[layer - 1]))
        for layer in grids.layers
    ]
    found += [
        _panels(f"{look.name}_head{head}", f"Head {head} by layer, {title}", _rows(look, look.weights[:, head - 1]))
        for head in grids.heads
    ]
    return found + [_grid(look, token, title) for token in grids.tokens]


def _panels(name: str, title: str, rows: Sequence[Sequence[Panel]]) -> Panels:
    return Panels(
        name=name, title=f"{title}\n{LEGEND}", rows=tuple(tuple(row) for row in rows), diverging=True,
        unit="class minus distillation (% points)",
    )  # fmt: skip


def _rows(look: AttentionLook, weights: Weights) -> list[list[Panel]]:
    """weights [C, T, rows, columns] -> pictures of both tokens and their difference below each other, C of them in
    bands of a width that can be read."""
    columns = [
        [*_overlays(look, each, f"{number}"), *_differences(look, each, f"{number}")]
        for number, each in enumerate(weights, 1)
    ]
    bands = [columns[start : start + IN_A_ROW] for start in range(0, len(columns), IN_A_ROW)]
    return [list(row) for band in bands for row in zip(*band, strict=True)]


def _overlays(look: AttentionLook, weights: Weights, title: str) -> list[Panel]:
    return [
        Panel(f"{token} {title}".strip(), overlay(look.picture, each))
        for token, each in zip(look.names, weights, strict=True)
    ]


def _differences(look: AttentionLook, weights: Weights, title: str) -> list[Panel]:
    return [Panel(f"difference {title}".strip(), 100 * (weights[0] - weights[1]))] if len(look.names) > 1 else []


def _grid(look: AttentionLook, token: str, title: str) -> Panels:
    """Every head of every layer, one token, all on one scale."""
    weights = 100 * look.weights[:, :, look.names.index(token)]
    return Panels(
        name=f"{look.name}_{token}_grid",
        title=f"{token.capitalize()} token, {title}",
        rows=tuple(
            tuple(Panel(f"{layer}.{head}", each) for head, each in enumerate(row, 1))
            for layer, row in enumerate(weights, 1)
        ),
        unit="attention (%), by layer.head",
    )


def _similarity(look: AttentionLook) -> NDArray[np.float64]:
    """Cosine of both tokens' weights on the patches, by layer and head: [L, heads]."""
    weights = torch.from_numpy(look.weights).flatten(-2)
    found: NDArray[np.float64] = cosine_similarity(weights[:, :, 0], weights[:, :, 1], dim=-1).numpy()
    return found


def _joined(look: AttentionLook) -> NDArray[np.float64]:
    """The same with the heads joined: [L]."""
    weights = torch.from_numpy(look.weights).flatten(-2).transpose(1, 2).flatten(-2)  # [L, T, heads x N]
    found: NDArray[np.float64] = cosine_similarity(weights[:, 0], weights[:, 1], dim=-1).numpy()
    return found


def _image_table(looks: Sequence[AttentionLook]) -> Table:
    heads = tuple(looks[0].decisions)
    rows = []
    for look in looks:
        shares = look.rolled / look.rolled.sum(axis=(1, 2), keepdims=True)
        apart = float(np.abs(shares[0] - shares[1]).sum() / 2) if len(look.names) > 1 else None
        decisions = (value for head in heads for value in look.decisions[head])
        rows.append((look.name, look.label, *decisions, apart))
    decided = {column: spec for head in heads for column, spec in ((head, ""), (f"{head}_confidence", ".1%"))}
    title = "What was decided, and how far apart the tokens' rollouts are"
    return Table.of("images", title, {"image": "", "label": "", **decided, "apart": ".3f"}, rows)


def _layer_table(looks: Sequence[AttentionLook]) -> Table:
    names = looks[0].names
    similar = np.mean([_joined(look) for look in looks], axis=0).tolist() if len(names) > 1 else None
    shares = np.mean([look.weights.sum(axis=(-2, -1)).mean(axis=1) for look in looks], axis=0)  # [L, T]
    distance = np.mean([look.distance for look in looks], axis=(0, 2))
    on_patches = {f"{token} on patches": ".1%" for token in names}
    return Table.of(
        "layers",
        "By layer, mean over images and heads",
        {"layer": "", "cosine": ".3f", **on_patches, "distance": ".1f"},
        (
            (layer + 1, None if similar is None else similar[layer], *shares[layer].tolist(), float(distance[layer]))
            for layer in range(len(shares))
        ),
    )


def _head_table(looks: Sequence[AttentionLook]) -> Table:
    distance = np.mean([look.distance for look in looks], axis=0)
    similar = np.mean([_similarity(look) for look in looks], axis=0) if len(looks[0].names) > 1 else None
    rows = (
        (layer + 1, head + 1, None if similar is None else float(similar[layer, head]), float(value))
        for (layer, head), value in np.ndenumerate(distance)
    )
    columns = {"layer": "", "head": "", "cosine": ".3f", "distance": ".1f"}
    return Table.of("heads", "By head, mean over images", columns, rows)


def _curves(looks: Sequence[AttentionLook]) -> list[AnyFigure]:
    distance = np.mean([look.distance for look in looks], axis=0)
    layers, heads = distance.shape
    over = f"mean over {len(looks)} image{'s' if len(looks) > 1 else ''}"
    places = tuple(float(layer + 1) for layer in range(layers) for _ in range(heads))
    found: list[AnyFigure] = [
        Points(
            name="distance", title=f"Attention distance of each head, {over}", x_label="layer",
            y_label="mean attention distance (px)", clouds=(Cloud("a head", places, tuple(distance.ravel().tolist())),),
        )
    ]  # fmt: skip
    if len(looks[0].names) > 1:
        similar = np.stack([_joined(look) for look in looks])
        found.append(
            Curves(
                name="tokens", title=f"Attention of class and distillation token, {over}", x_label="layer",
                y_label="cosine of weights on patches", ticks=tuple(str(layer + 1) for layer in range(layers)),
                series=(Series(over, tuple(similar.mean(0).tolist()), tuple(similar.std(0).tolist())),),
                bounds=(0.0, 1.0),
            )
        )  # fmt: skip
    return found


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
