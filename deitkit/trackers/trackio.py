"""Trackio: a database on this machine, or the Space that its own environment names (TRACKIO_SPACE_ID)."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import trackio
from PIL import Image

from deitkit.trackers.tracker import PROJECT, TrackedRun


class Trackio:
    """One run of trackio for one of deitkit, by a name that the run's folder keeps."""

    def start(self, tracked: TrackedRun) -> str:
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        name = tracked.known_as or f"{tracked.name}-{uuid.uuid4().hex[:6]}"  # names are unique in a project
        self.session = trackio.init(
            project=project, name=name, config=tracked.settings, resume="allow", embed=False,
            space_id=os.environ.get("TRACKIO_SPACE_ID"), auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip
        self.before = int(self.session._next_step) - 1
        self.where = f"trackio show --project {project}"
        return name

    def last_step(self, key: str) -> int:
        return self.before

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.session.log(dict(values), step=step)

    def figures(self, step: int, figures: Mapping[str, bytes]) -> None:
        pictures = {name: np.asarray(Image.open(io.BytesIO(png)).convert("RGB")) for name, png in figures.items()}
        self.session.log({f"figures/{name}": trackio.Image(pixels) for name, pixels in pictures.items()}, step=step)

    def report(self, path: Path, words: str) -> None:
        self.session.log({"report": trackio.Markdown(f"{words}\n\n`{path}`")})

    def finish(self, *, done: bool) -> None:
        trackio.finish()  # the session's own would be repeated when Python exits
