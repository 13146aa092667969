"""What a person sees of a run, as lines of text: from its metrics, whether it trains here or elsewhere. Draws nothing.

`live` shows it while a run trains, `runs watch` from another terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deitkit.models.forms import decisive_head, score_of
from deitkit.runs.duration import spell_seconds

if TYPE_CHECKING:
    from rich.text import Text

BARS, PLAIN_BARS = "▁▂▃▄▅▆▇█", "_.-=*#"
MUCH_WAITING = 0.1  # share of a step's time that goes by without data
SPARKS = 40  # cells of a curve at the most
SHORT = {"distillation": "distil"}  # a column's name
SHORT_METRIC = {"top1": "top-1", "balanced_accuracy": "bal.acc", "macro_f1": "F1"}


@dataclass
class Picture:
    """A run so far. `epochs` and `total_steps` are the recipe's; `symbols` is False where there is no Unicode."""

    title: str
    epochs: int
    total_steps: int
    symbols: bool = True
    step: int = 0
    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    loss: float | None = None
    best: float = -1.0
    numbers: Mapping[str, Any] = field(default_factory=dict)
    metric: str = "top1"  # of the scores
    log_steps: int = 0  # between the last two records of a loss

    def take(self, record: Mapping[str, Any], *, width: int) -> list[Text]:
        """Take in a line of metrics.jsonl; gives the lines that stay: an evaluation's row, and before the first the
        columns' names."""
        self.step = max(self.step, record.get("step", 0))
        if "top1" not in record:
            self.log_steps = record["step"] - self.numbers.get("step", 0)
            self.losses.append(record["loss"])
            self.loss, self.numbers = record["loss"], record
            return []
        score, self.metric = score_of(record), record.get("metric", "top1")
        self.scores.append(score)
        is_best = beats(record, self.best)
        self.best = score if is_best else self.best
        cells = self._cells(record, is_best=is_best)
        rows = [self._row(cells, width=width)]
        return (
            [self._row({name: name for name in cells}, width=width, heading=True), *rows]
            if not self.scores[1:]
            else rows
        )

    def _cells(self, record: Mapping[str, Any], *, is_best: bool) -> dict[str, str]:
        """A row's cells by column, in the order of their importance."""
        top1, agreement = record["top1"], record.get("agreement", {}).get("teacher", {})
        decisive = decisive_head(top1)
        cells = {"epoch": f"{round(record['epoch'], 1):g}", SHORT.get(decisive, decisive): f"{top1[decisive]:.2%}"}
        cells["best"] = ("★" if self.symbols else "*") if is_best else ""
        if self.metric != "top1":
            cells[SHORT_METRIC[self.metric]] = f"{score_of(record):.2%}"
        cells["loss"] = "" if self.loss is None else f"{self.loss:.4f}"
        cells |= {SHORT.get(head, head): f"{value:.2%}" for head, value in top1.items() if head != decisive}
        cells |= {f"EMA {SHORT.get(head, head)}": f"{value:.2%}" for head, value in record.get("ema_top1", {}).items()}
        if agreement:
            cells["as teacher"] = f"{agreement.get(decisive, next(iter(agreement.values()))):.2%}"
        if "heads" in record.get("agreement", {}):
            cells["heads agree"] = f"{record['agreement']['heads']:.2%}"
        if "token_cosine" in record:
            cells["cosine"] = f"{record['token_cosine']['final_norm']:.2f}"
        return cells

    @staticmethod
    def _row(cells: Mapping[str, str], *, width: int, heading: bool = False) -> Text:
        from rich.text import Text

        row = Text("  ", style="dim" if heading else "")
        for name, cell in cells.items():
            cell_width = max(len(name), 6)
            if row.cell_len + cell_width > width:
                break
            row.append(f"{cell:>{cell_width}}  ", style="bold green" if name == "best" else "")
        row.rstrip()
        return row

    def lines(self, *, width: int, eta_s: float | None, state: str = "") -> list[Text]:
        """The lines that change: how far, both curves, speed and memory. `state` stands for the time left."""
        from rich.text import Text

        epoch = self.epochs * self.step / max(self.total_steps, 1)
        left = state or ("" if eta_s is None else f"{spell_seconds(eta_s)} left")
        share = f"{self.step / max(self.total_steps, 1):4.0%}"
        end = f" {share}  epoch {epoch:.1f}/{self.epochs}  {left}"
        if len(end) + 8 > width:  # the time left matters most
            end = f" {share}  {left}"
        bar = Text.assemble((self._bar(max(width - len(end) - 2, 5)), "cyan"), (end, "bold"))
        lines = [bar]
        if self.loss is not None:
            lines.append(
                Text.assemble(("  loss   ", "dim"), (self._curve(self.losses, width), "yellow"), f"  {self.loss:.4f}")
            )
        if self.scores:
            said = f"  {self.scores[-1]:.2%}  best {self.best:.2%}"
            lines.append(
                Text.assemble(
                    (f"  {SHORT_METRIC[self.metric]:<7}", "dim"), (self._curve(self.scores, width), "green"), said
                )
            )
        if self.numbers:
            lines.append(self._speed())
        return lines

    def _bar(self, cells: int) -> str:
        done = min(cells, int(cells * self.step / max(self.total_steps, 1)))
        return "  " + ("━" * done + "─" * (cells - done) if self.symbols else "#" * done + "." * (cells - done))

    def _curve(self, values: Sequence[float], width: int) -> str:
        return sparkline(values, cells=min(SPARKS, max(width - 36, 8)), bars=BARS if self.symbols else PLAIN_BARS)

    def _speed(self) -> Text:
        from rich.text import Text

        record = self.numbers
        waiting = record.get("data_wait_s", 0.0) / max(record.get("seconds", 0.0), 1e-9)
        line = Text(f"  {record.get('images_per_s', 0):.0f} images/s", style="dim")
        if waiting > MUCH_WAITING:
            line.append(f"  waits for data {waiting:.0%}: more --workers", style="not dim yellow")
        else:
            line.append(f"  data wait {waiting:.0%}")
        line.append(f"  {record.get('memory_mb', 0):.0f} MiB  lr {record['lr']:.1e}")
        return line


def beats(record: Mapping[str, Any], best: float) -> bool:
    """Whether an evaluation is the best so far: the later one of equals, and none that was asked for by a key."""
    return not record.get("asked") and score_of(record) >= best


def sparkline(values: Sequence[float], *, cells: int, bars: str = BARS) -> str:
    """A curve in one line, its least value lowest; of more values than cells the mean of each part."""
    if not values:
        return ""
    parts = [values[len(values) * k // cells : len(values) * (k + 1) // cells] for k in range(cells)]
    points = [sum(part) / len(part) for part in parts if part]
    low, high = min(points), max(points)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((point - low) * scale)] for point in points)
