"""What a report of tokens says, in sentences: how alike the two are, and whether less than a control's.

The interval of a mean is Student's, over the images; a difference of means is Welch's (1947).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from scipy.stats import t

from deitkit.analysis.tokens.measure import FIXED, TokenMeasures
from deitkit.measures.agreement import CONFIDENCE, Interval


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
