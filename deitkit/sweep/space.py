"""What a sweep varies: choices or ranges of recipe keys, as a grid or drawn at random. Knows no run and no Optuna."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Values = dict[str, Any]  # dotted recipe key -> a value
RANGE = ("low", "high", "log", "steps")


@dataclass(frozen=True)
class Choices:
    """These values."""

    values: tuple[Any, ...]

    def grid(self) -> tuple[Any, ...]:
        return self.values

    @property
    def size(self) -> int:
        return len(self.values)

    def draw(self, rng: np.random.Generator) -> Any:
        return self.values[int(rng.integers(len(self.values)))]


@dataclass(frozen=True)
class Range:
    """All values from `low` to `high`, both of them in it; whole numbers where both are. `log`: equal ratios are as
    likely as each other. A grid has `steps` of them."""

    low: float
    high: float
    log: bool = False
    steps: int | None = None

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def size(self) -> int:
        """Of a grid."""
        return self.steps or 0

    def grid(self) -> tuple[Any, ...]:
        places = np.linspace(0, 1, self.size)
        return tuple(self._at(float(place)) for place in places)

    def draw(self, rng: np.random.Generator) -> Any:
        if self.is_whole and not self.log:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        return self._at(float(rng.random()))

    def _at(self, place: float) -> Any:
        """The value at a place from 0 to 1, to six digits: what a recipe says can be typed."""
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + place * (self.high - self.low)
        return round(value) if self.is_whole else float(f"{value:.6g}")


Space = Mapping[str, Choices | Range]


def parse_space(keys: Mapping[str, Any], prefix: str = "") -> tuple[dict[str, Choices | Range], list[str]]:
    """The `[keys]` of a sweep, dotted or as tables, and what is wrong with them."""
    space: dict[str, Choices | Range] = {}
    problems: list[str] = []
    for key, value in keys.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "low" not in value and "high" not in value:
            inner, more = parse_space(value, f"{name}.")
            space |= inner
            problems += more
        elif isinstance(value, list) and value:
            space[name] = Choices(tuple(value))
        elif isinstance(value, Mapping) and (problem := _wrong_range(value)):
            problems.append(f"{name}: {problem}")
        elif isinstance(value, Mapping):
            space[name] = Range(**value)
        else:
            problems.append(f"{name}: expected a list of values, or {{ low = ..., high = ... }} (got {value!r})")
    return space, problems


def _wrong_range(value: Mapping[str, Any]) -> str:
    if unknown := sorted(value.keys() - set(RANGE)):
        return f"a range has {', '.join(RANGE)}, not {', '.join(unknown)}"
    low, high, steps = value.get("low"), value.get("high"), value.get("steps", 2)
    numbers = [each for each in (low, high) if isinstance(each, int | float) and not isinstance(each, bool)]
    if len(numbers) < 2 or not numbers[0] < numbers[1] or not all(map(math.isfinite, numbers)):
        return f"low must be a number below high (got {low!r} and {high!r})"
    if value.get("log") and numbers[0] <= 0:
        return f"a logarithmic range begins above 0 (got {low!r})"
    if type(steps) is not int or steps < 2:
        return f"steps must be 2 or more (got {steps!r})"
    if all(isinstance(number, int) for number in numbers) and steps > numbers[1] - numbers[0] + 1:
        return f"there are no {steps:,} whole numbers from {low} to {high}"
    return ""


def grid_size(space: Space) -> int:
    """Points of the whole grid, without making one."""
    return math.prod(each.size for each in space.values())


def grid(space: Space) -> Iterator[Values]:
    """Every combination; the last key varies fastest."""
    for combination in itertools.product(*(each.grid() for each in space.values())):
        yield dict(zip(space, combination, strict=True))


def draws(space: Space, count: int, *, seed: int) -> list[Values]:
    """So many points at random; the same seed gives the same."""
    rng = np.random.default_rng(seed)
    return [{key: each.draw(rng) for key, each in space.items()} for _ in range(count)]


def spell(values: Mapping[str, Any]) -> str:
    """`optim.lr 0.0005, optim.weight_decay 0.05`."""
    return ", ".join(f"{key} {spell_value(value)}" for key, value in values.items()) or "the recipe's own values"


def spell_value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def places(values: Sequence[Any], *, log: bool = False) -> list[float]:
    """Where each value stands between the least (0) and the most (1) of them; others than numbers in their order."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        numbers = [math.log(value) if log else float(value) for value in values]
    else:
        order = list(dict.fromkeys(map(str, values)))
        numbers = [float(order.index(str(value))) for value in values]
    low, high = min(numbers), max(numbers)
    return [(number - low) / (high - low) if high > low else 0.5 for number in numbers]


def is_logarithmic(values: Sequence[Any]) -> bool:
    """Whether numbers span so much that their ratios matter more than their differences."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    return len(numbers) == len(values) and min(numbers) > 0 and max(numbers) / min(numbers) >= 10
