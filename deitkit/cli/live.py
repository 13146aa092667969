"""The live view of a run: a display on a terminal, plain lines elsewhere. Both are observers; neither trains."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from deitkit.cli.render import say

if TYPE_CHECKING:
    from deitkit.training.log import Sums
    from deitkit.training.step import Training

REFRESHES_A_SECOND = 4


class PlainLines:
    """A line a log record, for pipes, files and CI."""

    def __init__(self, title: str) -> None:
        self.title = title

    def start(self, training: Training, *, first_step: int) -> None:
        self.total = training.total_steps
        self.began, self.first_step = time.perf_counter(), first_step
        say(f"{self.title}: {headline(training)}")

    def step(self, step: int, sums: Sums) -> None:
        """Steps between log records stay silent."""

    def logged(self, record: Mapping[str, Any]) -> None:
        if "top1" in record:
            for line in evaluation(record):
                say(f"  {line}")
            return
        eta = remaining(self.began, record["step"] - self.first_step, self.total - record["step"])
        say(
            f"  step {record['step']}/{self.total}  loss {record['loss']:.4f}  lr {record['lr']:.2e}  "
            f"{record['images_per_s']:.0f} images/s  ETA {eta}"
        )

    def say(self, text: str) -> None:
        say(f"  {text}")

    def stop(self) -> None:
        """Nothing to take down."""


class LiveView:
    """A bar with ETA above a line of numbers and the last evaluation's one or two."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.title = title
        self.console = Console(stderr=True, highlight=False)
        self.bar = Progress(
            TextColumn("[bold]{task.description}"), BarColumn(bar_width=None), TextColumn("{task.fields[epoch]}"),
            TextColumn("[cyan]{task.percentage:>3.0f}%"), TimeElapsedColumn(), TextColumn("ETA"),
            TimeRemainingColumn(), console=self.console, transient=False, refresh_per_second=REFRESHES_A_SECOND,
        )  # fmt: skip
        self.numbers: dict[str, str] = {}
        self.evaluation: list[str] = []

    def start(self, training: Training, *, first_step: int) -> None:
        from rich.live import Live

        self.training, self.total = training, training.total_steps
        self.console.print(f"[bold]{self.title}[/]: {headline(training)}")
        self.task = self.bar.add_task(self.title, total=self.total, completed=first_step, epoch="")
        self.last_drawn = 0.0
        self.live = Live(self._render(), console=self.console, auto_refresh=False)
        self.live.start()

    def step(self, step: int, sums: Sums) -> None:
        now = time.perf_counter()
        if now - self.last_drawn < 1 / REFRESHES_A_SECOND:
            return
        self.last_drawn = now
        means = sums.means()
        for key, name in (("loss", "loss"), ("loss_label", "label"), ("loss_distillation", "distillation")):
            if key in means:
                self.numbers[name] = f"{means[key]:.4f}"
        self._draw(step)

    def logged(self, record: Mapping[str, Any]) -> None:
        if "top1" in record:
            self.evaluation = evaluation(record)
        else:
            self.numbers |= {
                "lr": f"{record['lr']:.2e}",
                "images/s": f"{record['images_per_s']:.0f}",
                "data wait": f"{100 * record['data_wait_s'] / max(record['seconds'], 1e-9):.0f} %",
                "memory": f"{record['memory_mb']:.0f} MiB",
            }
        self._draw(record["step"])

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False)

    def stop(self) -> None:
        if hasattr(self, "live"):
            self.live.update(self._render(), refresh=True)
            self.live.stop()

    def _draw(self, step: int) -> None:
        epochs = self.training.recipe.train.epochs
        self.bar.update(self.task, completed=step, epoch=f"epoch {self.training.epoch_of(step):.1f}/{epochs}")
        self.live.update(self._render(), refresh=True)

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        numbers = "  ".join(f"{name} {value}" for name, value in self.numbers.items())
        lines = "\n".join(f"  {line}" for line in self.evaluation)
        return Group(self.bar, Text(f"  {numbers}", style="dim"), Text(lines, style="green"))


def observer(title: str) -> PlainLines | LiveView:
    """The live view on a terminal, plain lines elsewhere."""
    return LiveView(title) if sys.stderr.isatty() else PlainLines(title)


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
    parts += [f"EMA {head} {value:.2%}" for head, value in record.get("ema_top1", {}).items()]
    return ", ".join(parts)


def remaining(began: float, done: int, left: int) -> str:
    """Time left at the pace so far, as h:mm:ss."""
    seconds = int((time.perf_counter() - began) / max(done, 1) * left)
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"
