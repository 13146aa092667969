"""TensorBoard: event files in the run's own folder `tensorboard`. Look at them: tensorboard --logdir runs."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from deitkit.errors import quoted
from deitkit.trackers.tracker import TrackedRun

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars by step, the recipe and the report's words as text, figures as images."""

    def start(self, tracked: TrackedRun) -> str:
        """Read back what earlier sessions wrote, and go on in a file of its own beside theirs."""
        folder = tracked.run.path / FOLDER
        self.steps = _last_steps(folder) if folder.is_dir() else {}
        self.writer = SummaryWriter(str(folder))
        if not tracked.known_as:
            self.writer.add_text("recipe", f"```toml\n{tracked.recipe}\n```", 0)
            self.writer.flush()
        self.where = f"tensorboard --logdir {quoted(folder)}"
        return FOLDER

    def last_step(self, key: str) -> int:
        return self.steps.get(key, -1)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()  # a killed run has what it logged

    def figures(self, step: int, figures: Mapping[str, bytes]) -> None:
        for name, png in figures.items():
            pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
            self.writer.add_image(f"figures/{name}", pixels, step, dataformats="HWC")

    def report(self, path: Path, words: str) -> None:
        self.writer.add_text("report", f"{words}\n\n`{path}`", 0)

    def finish(self, *, done: bool) -> None:
        self.writer.close()


def _last_steps(folder: Path) -> dict[str, int]:
    """Value -> its last step in the folder's event files; the torn end of a killed session is left out."""
    events = EventAccumulator(str(folder), size_guidance={SCALARS: 1}).Reload()
    return {key: events.Scalars(key)[-1].step for key in events.Tags()["scalars"]}
