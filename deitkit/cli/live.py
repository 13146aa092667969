"""The live view of a run: a display on a terminal, plain lines elsewhere. Both are observers; neither trains."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deitkit.cli.picture import BARS, Picture, beats
from deitkit.cli.progress import REFRESHES_A_SECOND
from deitkit.cli.render import escaped, say, talks_to_a_terminal
from deitkit.cli.screen import Keys, Region
from deitkit.models.forms import METRICS, score_of
from deitkit.runs.duration import spell_seconds

if TYPE_CHECKING:
    from deitkit.training.log import Sums
    from deitkit.training.observer import Request
    from deitkit.training.step import Training

PAUSED = "paused: p goes on"
KEYS: dict[str, Request] = {"e": "evaluate", "c": "checkpoint", "q": "stop"}
SHORT_HELP = "e evaluate  c checkpoint  p pause  q stop  ? help"
NARROW_HELP = "keys: e c p q, ? for help"
LONG_HELP = "e: evaluate now; counts for nothing  c: save a checkpoint  p: pause and go on  q: save and end  ?: less"


class PlainLines:
    """A line a log record, for pipes, files and CI."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.best = -1.0

    def start(self, training: Training, *, first_step: int) -> None:
        self.total = training.total_steps
        self.began, self.first_step = time.monotonic(), first_step
        say(f"{self.title}: {headline(training)}")

    def step(self, step: int, sums: Sums) -> None:
        """Steps between log records stay silent."""

    def logged(self, record: Mapping[str, Any]) -> None:
        if "top1" in record:
            first, *more = evaluation(record)
            is_best = beats(record, self.best)
            self.best = score_of(record) if is_best else self.best
            for line in (f"{first}{'  (best so far)' if is_best else ''}", *more):
                say(f"  {line}")
            return
        done = max(record["step"] - self.first_step, 1)
        eta = spell_seconds((time.perf_counter() - self.began) / done * (self.total - record["step"]))
        say(
            f"  step {record['step']}/{self.total}  loss {record['loss']:.4f}  lr {record['lr']:.2e}  "
            f"{record['images_per_s']:.0f} images/s  ETA {eta}"
        )

    def doing(self, what: str) -> None:
        """The lines before and after say it."""

    def asked(self) -> Request:
        """Nobody can press a key."""
        return ""

    def say(self, text: str) -> None:
        say(f"  {text}")

    def stop(self) -> None:
        """Nothing to take down."""


class LiveView:
    """A bar with the time left, curves of loss and accuracy, speed and keys; an evaluation's row stays above them."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.region, self.keys = Region(), Keys()
        self.state, self.request, self.wants_help = "", "", False
        self.drawn_at = self.paused_at = 0.0

    def start(self, training: Training, *, first_step: int) -> None:
        self.picture = Picture(
            self.title, training.recipe.train.epochs, training.total_steps,
            symbols=self.region.speaks(BARS + "★━"), step=first_step,
        )  # fmt: skip
        self.began, self.first_step = time.perf_counter(), first_step
        self.say(f"{self.title}: {headline(training)}")

    def step(self, step: int, sums: Sums) -> None:
        self.picture.step, self.state = step, ""
        now = time.perf_counter()
        if now - self.drawn_at < 1 / REFRESHES_A_SECOND:
            return
        self.picture.loss = sums.means().get("loss", self.picture.loss)
        self._draw()

    def logged(self, record: Mapping[str, Any]) -> None:
        for row in self.picture.take(record, width=self.region.width):
            self.region.print_above(row)
        self.state = ""
        self._draw()

    def doing(self, what: str) -> None:
        self.state = what
        self._draw()

    def asked(self) -> Request:
        """What was asked for by a key since the last call; "pause" as long as it lasts."""
        for key in self.keys.pressed():
            if key == "?":
                self.wants_help = not self.wants_help
            elif key == "p":
                self.state = "" if self.state == PAUSED else PAUSED
                self.began += time.perf_counter() - self.paused_at if not self.state else 0.0
                self.paused_at = time.perf_counter()
            else:
                self.request = KEYS.get(key, self.request)
            self._draw()
        if self.state == PAUSED and not self.request:
            return "pause"
        request, self.request = self.request, ""
        return request  # type: ignore[return-value]

    def say(self, text: str) -> None:
        from rich.text import Text

        for line in Text(f"  {escaped(text)}").wrap(self.region.console, self.region.width):
            self.region.print_above(line)

    def stop(self) -> None:
        self.keys.release()
        if hasattr(self, "picture"):
            self._draw(last=True)
            self.region.leave()

    def _draw(self, *, last: bool = False) -> None:
        from rich.text import Text

        self.drawn_at = time.perf_counter()
        done = self.picture.step - self.first_step
        pace = (self.drawn_at - self.began) / done if done > 0 else None
        eta = None if pace is None or last else pace * (self.picture.total_steps - self.picture.step)
        lines = self.picture.lines(width=self.region.width, eta_s=eta, state="" if last else self.state)
        if self.keys.there_are() and not last:
            lines.append(Text(f"  {self._help()}", style="dim"))
        self.region.draw(lines)

    def _help(self) -> str:
        if self.wants_help:
            return LONG_HELP
        return SHORT_HELP if len(SHORT_HELP) + 2 <= self.region.width else NARROW_HELP


def observer(title: str) -> PlainLines | LiveView:
    """The live view on a terminal, plain lines elsewhere."""
    return LiveView(title) if talks_to_a_terminal() else PlainLines(title)


def headline(training: Training) -> str:
    """What is about to happen, in a line."""
    recipe, shape = training.recipe, training.shape
    parameters = sum(parameter.numel() for parameter in training.student.parameters())
    teacher = f", teacher {', '.join(recipe.teacher.models)} ({recipe.teacher.labels} labels)" if recipe.teacher else ""
    height, width = recipe.model.size
    return (
        f"{recipe.model.name}{' distilled' if recipe.model.distilled else ''}, {parameters:,} parameters, "
        f"{height}x{width} px{teacher}; {len(training.train):,} images of {len(training.train.class_names)} classes, "
        f"{recipe.train.epochs} epochs x {shape.steps_per_epoch} steps of {shape.batch_size} views, "
        f"lr {recipe.peak_lr:.2e}, {training.device}"
    )


def evaluation(record: Mapping[str, Any]) -> list[str]:
    """An evaluation's accuracies and, in a second line where there are any, how the distillation goes."""
    watched = distillation(record)
    return [f"epoch {record['epoch']:g}: top-1 {accuracies(record)}", *([f"  {watched}"] if watched else [])]


def distillation(record: Mapping[str, Any]) -> str:
    """Agreement with the teacher and between the heads, and the tokens' cosine; what there is of them."""
    agreement, parts = record.get("agreement", {}), []
    if "teacher" in agreement:
        shares = ", ".join(f"{head} {share:.2%}" for head, share in agreement["teacher"].items())
        parts.append(f"agrees with the teacher ({record['teacher_top1']:.2%}): {shares}")
    if "heads" in agreement:
        parts.append(f"heads agree {agreement['heads']:.2%}")
    if "token_cosine" in record:
        parts.append(f"tokens' cosine {record['token_cosine']['final_norm']:.2f}")
    return " | ".join(parts)


def accuracies(record: Mapping[str, Any]) -> str:
    parts = [f"{head} {value:.2%}" for head, value in record["top1"].items()]
    if (metric := record.get("metric", "top1")) != "top1":
        parts.append(f"{METRICS[metric]} {score_of(record):.2%}")
    parts += [f"EMA {head} {value:.2%}" for head, value in record.get("ema_top1", {}).items()]
    return ", ".join(parts)
