"""Weights & Biases: project, team and login as its own environment says (WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE)."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import wandb
from PIL import Image

from deitkit.errors import quoted
from deitkit.trackers.tracker import PROJECT, TrackedRun


class WeightsAndBiases:
    """One run of wandb for one of deitkit, by an id that the run's folder keeps."""

    def start(self, tracked: TrackedRun) -> str:
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        again = {"id": tracked.known_as, "resume": "allow"} if tracked.known_as else {}
        self.session = wandb.init(
            project=project, name=tracked.name, config=tracked.settings, dir=str(tracked.run.path),
            settings=wandb.Settings(silent=True), **again,
        )  # fmt: skip
        self.where = self.session.url or f"wandb sync {quoted(Path(self.session.dir).parent)}"
        self.before = self.session.step - 1 if tracked.known_as else -1
        return str(self.session.id)

    def last_step(self, key: str) -> int:
        return self.before

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.session.log(dict(values), step=step)

    def figures(self, step: int, figures: Mapping[str, bytes]) -> None:
        images = {f"figures/{name}": wandb.Image(Image.open(io.BytesIO(png))) for name, png in figures.items()}
        self.session.log(images, step=step)

    def report(self, path: Path, words: str) -> None:
        self.session.summary["verdict"] = words
        self.session.log({"report": wandb.Html(path.read_text(encoding="utf-8"), inject=False)})

    def finish(self, *, done: bool) -> None:
        self.session.finish(exit_code=0 if done else 1)
