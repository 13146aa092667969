"""MLflow: server and experiment as its own environment says (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME)."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

# A server that is gone is noticed within seconds, not after MLflow's own minutes: training waits for the answer.
for variable, value in (("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"), ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")):
    os.environ.setdefault(variable, value)

from mlflow.entities import Metric, Param  # noqa: E402  (it reads those when it is imported)
from mlflow.tracking import MlflowClient  # noqa: E402

from deitkit.errors import quoted  # noqa: E402
from deitkit.trackers.tracker import PROJECT, TrackedRun  # noqa: E402

MOST_PARAMS = 100  # in one request
LONGEST = 500  # characters of a parameter that every server takes


class MLflow:
    """One run of MLflow for one of deitkit, by an id that the run's folder keeps."""

    def start(self, tracked: TrackedRun) -> str:
        self.client = MlflowClient()
        self.where = f"mlflow ui --backend-store-uri {quoted(self.client.tracking_uri)}"
        if tracked.known_as:
            self.id = tracked.known_as
            self.client.update_run(self.id, status="RUNNING")
            return self.id
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        known = self.client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self.client.create_experiment(name)
        self.id = self.client.create_run(experiment, run_name=tracked.name).info.run_id
        params = [Param(key, str(value)[:LONGEST]) for key, value in tracked.settings.items()]
        for first in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.id, params=params[first : first + MOST_PARAMS])
        self.client.log_text(self.id, tracked.recipe, "recipe.toml")
        return self.id

    def last_step(self, key: str) -> int:
        history = self.client.get_metric_history(self.id, key)
        return max((int(each.step) for each in history), default=-1)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)  # milliseconds since 1970
        self.client.log_batch(self.id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def figures(self, step: int, figures: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, png in figures.items():
                path = Path(folder, f"{name}.png")
                path.write_bytes(png)
                self.client.log_artifact(self.id, str(path), "figures")

    def report(self, path: Path, words: str) -> None:
        self.client.set_tag(self.id, "mlflow.note.content", words)
        self.client.log_artifact(self.id, str(path))

    def finish(self, *, done: bool) -> None:
        self.client.set_terminated(self.id, "FINISHED" if done else "KILLED")
