"""How alike the class and the distillation token are, by depth and model (paper Sec. 4). Runs no network.

The paper says 0.06 before the first layer and 0.93 after the last, and leaves open whether position embeddings and the
final norm are counted. Both are measured each way. Of two class tokens with the same target it says 0.999: such a run
is the control. In sentences, the interval of a mean is Student's, over the images; a difference of means is Welch's
(1947).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from scipy.stats import t

from deitkit.analysis.report import Curves, PublishedValue, Report, Series, Table
from deitkit.analysis.tokens.measure import FIXED, TokenMeasures
from deitkit.catalog import TOKENS_COSINE_AFTER, TOKENS_COSINE_BEFORE
from deitkit.errors import DeitkitError
from deitkit.measures.agreement import CONFIDENCE, Interval

TOKENS_COSINE_CONTROL = 0.999  # Sec. 4: two class tokens with the same target
EXTREMES = 5  # classes shown at either end
DEFINITIONS = {
    "embedding": "the two tokens' parameters alone",
    "input": "the same with their position embeddings: what the first block reads",
    "block": "the two tokens after that block, of the same image",
    "final norm": "after the norm that follows the last block: what the heads read",
    "std": "standard deviation over the images; embedding and input are the same for all",
    "control": "a model whose second token has the same target as the first: two class tokens",
    "cka": "linear CKA of the class tokens [images, D] and the distillation tokens [images, D] of the same images, both"
    " centred: |X'Y|^2 / (|X'X| |Y'Y|), Frobenius norms; it nears 1 where images are fewer than D",
    "cka_debiased": "the same with the unbiased estimator HSIC_1: comparable across numbers of images; about 0 where"
    " the spaces have nothing in common; empty where nothing varies or below 4 images",
    "norm": "mean L2 norm over the images",
    "classes": "mean cosine after the final norm over the images of a true class, with its standard deviation",
}
PAPER = {"paper": "Sec. 4, DeiT on ImageNet: 0.06 before the first layer, 0.93 after the last; 0.999 for the control"}
SOURCES = (
    "Touvron et al., Training data-efficient image transformers, 2020, Sec. 4",
    "Kornblith et al., Similarity of neural network representations revisited, 2019",
    "Song et al., Feature selection via dependence maximization, 2012, eq. 5",
)


def compare_tokens(
    models: Sequence[TokenMeasures], *, images: str = "images", is_imagenet: bool = False
) -> Report:  # fmt: skip
    """Any number of models' tokens side by side, a control among them or not; beside the paper's where the images are
    ImageNet's."""
    if not models:
        raise DeitkitError("there is nothing to compare: no model was given", remedy="name a distilled run")
    models = _distinct(models)
    names = ", ".join(model.label for model in models)
    counts = " and ".join(f"{count:,}" for count in sorted({model.images for model in models}))
    return Report(
        name="tokens",
        title=f"Class and distillation token of {names}, {counts} images of {images}",
        definitions=DEFINITIONS | (PAPER if is_imagenet else {}),
        sources=SOURCES,
        numbers={
            "images": {model.label: model.images for model in models},
            "cosine": {model.label: {place.name: place.cosine for place in model.places} for model in models},
        },
        tables=(_depth_table(models, is_imagenet=is_imagenet), *_class_tables(models)),
        figures=tuple(
            figure
            for layers, group in groupby(sorted(models, key=lambda model: model.layers), key=lambda model: model.layers)
            for figure in _figures(
                list(group), f"_{layers}_layers" if len({m.layers for m in models}) > 1 else "", is_imagenet=is_imagenet
            )
        ),
        verdict=tuple(tokens_verdict(models)),
    )


def _distinct(models: Sequence[TokenMeasures]) -> list[TokenMeasures]:
    """Of models of one name, later ones get a number."""
    seen: dict[str, int] = {}
    named = []
    for model in models:
        number = seen[model.label] = seen.get(model.label, 0) + 1
        named.append(model if number == 1 else replace(model, classifier=f"{model.classifier} ({number})"))
    return named


def _published(model: TokenMeasures) -> tuple[float | None, ...]:
    """What the paper says of such a model at each place."""
    if model.control:
        return (*(None for _ in model.places[:-2]), TOKENS_COSINE_CONTROL, TOKENS_COSINE_CONTROL)
    before, after = (TOKENS_COSINE_BEFORE,) * FIXED, (TOKENS_COSINE_AFTER,) * 2
    return (*before, *(None for _ in range(model.layers - 1)), *after)


def _depth_table(models: Sequence[TokenMeasures], *, is_imagenet: bool) -> Table:
    published = {"paper": ".3g"} if is_imagenet else {}
    measured = dict.fromkeys(("cka", "cka_debiased", "norm_class", "norm_distillation"), ".3f")
    columns = {"model": "", "depth": "", "cosine": ".3f", "std": ".3f", **published, **measured}
    rows = (
        (
            model.label, place.name, place.cosine, place.cosine_std, *([paper] if is_imagenet else []), place.cka,
            place.cka_debiased, *place.norms,
        )
        for model in models
        for place, paper in zip(model.places, _published(model), strict=True)
    )  # fmt: skip
    return Table.of("depth", "By depth", columns, rows)


def _class_tables(models: Sequence[TokenMeasures]) -> tuple[Table, ...]:
    """Every class, the least alike first, and the extremes of each model."""
    rows, extremes = [], []
    for model in models:
        own = sorted(
            (
                (model.label, name, int(count), float(mean), float(std))
                for name, count, mean, std in zip(
                    model.class_names, model.class_counts, model.class_means, model.class_stds, strict=True
                )
                if count
            ),
            key=lambda row: row[3],
        )
        rows += own
        extremes += own if len(own) <= 2 * EXTREMES else [*own[:EXTREMES], *own[-EXTREMES:]]
    columns = {"model": "", "class": "", "images": ",", "cosine": ".3f", "std": ".3f"}
    if not rows:
        return ()
    return (
        Table.of("classes", "Final norm, by true class", columns, rows),
        Table.of("class_extremes", "Final norm, classes least and most alike", columns, extremes),
    )


def _figures(models: Sequence[TokenMeasures], suffix: str, *, is_imagenet: bool) -> list[Curves]:
    """Models of equal depth in the same figures."""
    ticks = tuple(place.name for place in models[0].places)
    found = [_cosine_figure(models, ticks, f"cosine{suffix}", is_imagenet=is_imagenet)]
    spaces = tuple(
        Series(model.label, tuple(value for value in values if value is not None))
        for model in models
        if None not in (values := [place.cka_debiased for place in model.places[FIXED:]])
    )
    if spaces:
        found.append(
            Curves(
                name=f"cka{suffix}", title="Spaces of class and distillation token", x_label="depth",
                y_label="linear CKA, debiased", ticks=ticks[FIXED:], series=spaces,
            )
        )  # fmt: skip
    norms = tuple(
        Series(
            f"{model.label}, {token}",
            tuple(place.norms[number] for place in model.places),
            tuple(place.norms_std[number] for place in model.places),
        )
        for model in models
        for number, token in enumerate(("class", "distillation"))
    )
    found.append(
        Curves(
            name=f"norms{suffix}", title="Norms of the tokens, mean and standard deviation", x_label="depth",
            y_label="L2 norm", ticks=ticks, series=norms,
        )
    )  # fmt: skip
    return found


def _references(models: Sequence[TokenMeasures], last: int) -> list[PublishedValue]:
    before, after, control = TOKENS_COSINE_BEFORE, TOKENS_COSINE_AFTER, TOKENS_COSINE_CONTROL
    references = []
    if not all(model.control for model in models):
        references += [
            PublishedValue(f"paper, before the first layer: {before}", before, 0, FIXED - 1),
            PublishedValue(f"paper, after the last layer: {after}", after, last - 1, last),
        ]
    if any(model.control for model in models):
        references.append(PublishedValue(f"paper, two class tokens: {control}", control, last - 1, last))
    return references


def _cosine_figure(
    models: Sequence[TokenMeasures], ticks: tuple[str, ...], name: str, *, is_imagenet: bool
) -> Curves:  # fmt: skip
    return Curves(
        name=name,
        title="Class and distillation token, mean and standard deviation",
        x_label="depth",
        y_label="cosine similarity",
        bounds=(-1.0, 1.0),
        ticks=ticks,
        series=tuple(
            Series(
                model.label,
                tuple(place.cosine for place in model.places),
                tuple(place.cosine_std for place in model.places),
            )
            for model in models
        ),
        references=tuple(_references(models, len(ticks) - 1) if is_imagenet else ()),
    )


def tokens_verdict(models: Sequence[TokenMeasures]) -> Iterator[str]:
    """Each model that is no control, the first control beside it."""
    control = next((model for model in models if model.control), None)
    students = [model for model in models if not model.control]
    for model in students:
        yield _cosine_words(model)
        if control is not None:
            yield _beside(model, control)
    if control is None:
        yield (
            "Whether two tokens with the same target would be as alike, only a control tells: a run of the recipe"
            " ablation/two_class_tokens, named with --control."
        )
    elif not students:
        yield _cosine_words(control)


def _cosine_words(model: TokenMeasures) -> str:
    """Before the first block and at the end; and whether the end is nearer."""
    before, after = model.places[FIXED - 1], model.places[-1]
    interval = _interval(after.cosine, *_spread(model))
    return (
        f"The two tokens of {model.label} have a cosine of {before.cosine:.2f} before the first block and of"
        f" {after.cosine:.3f} after the final norm{_over(model, interval)}."
    )


def _over(model: TokenMeasures, interval: Interval | None) -> str:
    if interval is None:
        return " of one image, which tells nothing of others"
    return f" ({max(-1.0, interval.low):.3f} to {min(1.0, interval.high):.3f}, mean of {model.images:,} images)"


def _beside(model: TokenMeasures, control: TokenMeasures) -> str:
    """Whether a control's tokens are more alike after the final norm."""
    own, other = model.places[-1].cosine, control.places[-1].cosine
    what = f"those of {control.label}, whose tokens have the same target ({other:.3f})"
    (error, freedom), (its_error, its_freedom) = _spread(model), _spread(control)
    if not freedom or not its_freedom:
        return f"One image is too few to compare them with {what}."
    both = math.hypot(error, its_error)
    shares = error**4 / freedom + its_error**4 / its_freedom
    interval = _interval(own - other, both, both**4 / shares if shares else freedom)
    apart = interval or Interval(own - other, own - other)
    if apart.low <= 0 <= apart.high:
        by = f"{-apart.high:+.3f} to {-apart.low:+.3f}"
        return f"Too few images to tell whether they are less alike than {what}: by {by}."
    how = "less" if own < other else "more"
    low, high = sorted((abs(apart.low), abs(apart.high)))
    return f"They are {how} alike than {what}, by {low:.3f} to {high:.3f}."


def _spread(model: TokenMeasures) -> tuple[float, float]:
    """The standard error of the mean cosine at the end, and its degrees of freedom; 0 of one image."""
    spread = model.places[-1].cosine_std
    if model.images < 2 or spread is None:
        return 0.0, 0.0
    return spread / math.sqrt(model.images - 1), float(model.images - 1)  # the spread is that of these images


def _interval(mean: float, error: float, freedom: float) -> Interval | None:
    """Of a mean or a difference; None of one image."""
    if not freedom:
        return None
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * error
    return Interval(mean - half, mean + half)
