"""The curves of a training, from its metrics.jsonl. Draws nothing.

Keys of a line: `deitkit.training.fit` (steps: loss and its parts, lr, the clock) and `deitkit.training.evaluate`
(evaluations).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deitkit.analysis.report import Cloud, Points
from deitkit.models.forms import HEADS

MOST = 300  # points of a line; more are averaged in groups of equal length
Lines = Sequence[Mapping[str, Any]]
Value = Callable[[Mapping[str, Any]], float | None]
LOSSES = {"loss": "loss", "loss_label": "label term", "loss_distillation": "distillation term"}
COSINES = {"last_block": "last block", "final_norm": "final norm"}
TEACHER = "teacher"


def training_figures(metrics: Lines) -> list[Points]:
    """Everything that was logged, by epoch; what was not is left out."""
    terms = LOSSES if any("loss_distillation" in line for line in metrics) else {"loss": "loss"}
    losses = {label: _value(key) for key, label in terms.items()}
    accuracies = {head: _value("top1", head, scale=100) for head in HEADS}
    accuracies |= {f"EMA, {head}": _value("ema_top1", head, scale=100) for head in HEADS}
    accuracies[TEACHER] = _value("teacher_top1", scale=100)
    alike = {f"{head}, {TEACHER}": _value("agreement", "teacher", head, scale=100) for head in HEADS}
    alike["class, distillation"] = _value("agreement", "heads", scale=100)
    cosines = {f"after the {place}": _value("token_cosine", key) for key, place in COSINES.items()}
    found = [
        _figure("loss", "Loss", "mean since the last line", metrics, losses),
        _figure("top1", "Top-1 on the validation images", "top-1 (%)", metrics, accuracies),
        _figure("agreement", "Equal decisions on the validation images", "decided alike (%)", metrics, alike),
        _figure("cosine", "Class and distillation token", "mean cosine", metrics, cosines),
        _figure("lr", "Learning rate", "learning rate", metrics, {"": _value("lr")}),
        _figure("norm", "Gradient norm", "mean since the last line", metrics, {"": _value("grad_norm")}),
        _figure("speed", "Speed", "images/s", metrics, {"": _value("images_per_s")}),
        _figure("wait", "Waiting for data", "share of the time (%)", metrics, {"": _wait}),
    ]
    return [figure for figure in found if figure.clouds]


def overlaid(runs: Mapping[str, Lines]) -> list[Points]:
    """Loss, decisive top-1, agreement with the teacher and speed of several runs."""
    measures: dict[str, tuple[str, str, Value]] = {
        "loss": ("Loss", "mean since the last line", _value("loss")),
        "top1": ("Top-1 of the fused or only head", "top-1 (%)", _decisive("top1")),
        "agreement": ("Equal decisions with the teacher", "decided alike (%)", _decisive("agreement", "teacher")),
        "speed": ("Speed", "images/s", _value("images_per_s")),
    }
    figures = []
    for name, (title, unit, value) in measures.items():
        clouds = tuple(cloud for run, lines in runs.items() if (cloud := _cloud(run, lines, value)).x)
        figures.append(Points(name, title, "epoch", unit, clouds, joined=True))
    return [figure for figure in figures if figure.clouds]


def _figure(name: str, title: str, unit: str, metrics: Lines, values: Mapping[str, Value]) -> Points:
    clouds = (_cloud(label, metrics, value) for label, value in values.items())
    return Points(name, title, "epoch", unit, tuple(cloud for cloud in clouds if cloud.x), joined=True)


def _cloud(label: str, metrics: Lines, value: Value) -> Cloud:
    pairs = [
        (float(line["epoch"]), found)
        for line in metrics
        if "epoch" in line and (found := value(line)) is not None and math.isfinite(found)
    ]
    size = max(1, -(-len(pairs) // MOST))
    groups = [pairs[start : start + size] for start in range(0, len(pairs), size)]
    means = tuple(sum(found for _, found in group) / len(group) for group in groups)
    return Cloud(label, tuple(group[-1][0] for group in groups), means)


def _value(*keys: str, scale: float = 1.0) -> Value:
    """Reads a number, keys one inside the other; None where it is not."""

    def read(line: Mapping[str, Any]) -> float | None:
        found: Any = line
        for key in keys:
            found = found.get(key) if isinstance(found, Mapping) else None
        return scale * found if isinstance(found, (int, float)) else None

    return read


def _decisive(*keys: str) -> Value:
    """Per cent, of the fused head or of the only one."""
    fused, alone = _value(*keys, "fused", scale=100), _value(*keys, "class", scale=100)

    def read(line: Mapping[str, Any]) -> float | None:
        found = fused(line)
        return alone(line) if found is None else found

    return read


def _wait(line: Mapping[str, Any]) -> float | None:
    seconds = line.get("seconds")
    return 100 * line.get("data_wait_s", 0.0) / seconds if seconds else None
