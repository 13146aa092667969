"""Stand-ins for the libraries of trackers that a test does without: they keep what they are told, as servers would."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any


class WandbServer:
    """What wandb keeps: runs by id, each with its rows by step. As wandb does, it drops a step below the last one."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, dict[str, Any]]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.codes: list[int] = []
        self.dropped = 0

    def module(self) -> ModuleType:
        wandb = ModuleType("wandb")
        wandb.init = self._init  # type: ignore[attr-defined]
        wandb.Settings = SimpleNamespace  # type: ignore[attr-defined]
        wandb.Image = lambda image: ("image", image.size)  # type: ignore[attr-defined]
        wandb.Html = lambda text, inject: ("html", text)  # type: ignore[attr-defined]
        return wandb

    def _init(self, *, config: dict[str, Any], id: str = "", resume: str = "", **more: Any) -> Any:  # noqa: A002
        assert bool(id) == (resume == "allow")
        id = id or f"run{len(self.runs)}"  # noqa: A001
        rows = self.runs.setdefault(id, {})
        self.configs.setdefault(id, config)

        def log(values: dict[str, Any], step: int | None = None) -> None:
            step = max(rows, default=-1) + 1 if step is None else step
            if step < max(rows, default=-1):
                self.dropped += 1
                return
            rows.setdefault(step, {}).update(values)

        step = max(rows, default=-1) + 1
        finish = lambda exit_code: self.codes.append(exit_code)  # noqa: E731
        return SimpleNamespace(id=id, step=step, log=log, finish=finish, summary={}, url="https://wandb/it", dir=".")


class TrackioBoard:
    """What trackio keeps: runs by name, each a list of (step, values)."""

    def __init__(self) -> None:
        self.runs: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.is_finished = False

    def module(self) -> ModuleType:
        trackio = ModuleType("trackio")
        trackio.init = self._init  # type: ignore[attr-defined]
        trackio.finish = lambda: setattr(self, "is_finished", True)  # type: ignore[attr-defined]
        trackio.Image = lambda pixels: ("image", pixels.shape)  # type: ignore[attr-defined]
        trackio.Markdown = lambda text: ("words", text)  # type: ignore[attr-defined]
        return trackio

    def _init(self, *, name: str, resume: str, **more: Any) -> Any:
        assert resume == "allow"
        rows = self.runs.setdefault(name, [])

        def log(values: dict[str, Any], step: int | None = None) -> None:
            rows.append((following() if step is None else step, values))

        def following() -> int:
            return max((step for step, _ in rows), default=-1) + 1

        return SimpleNamespace(log=log, _next_step=following())


class MLflowServer:
    """What an MLflow server keeps of its runs; a value that is sent twice is kept twice."""

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}
        self.experiments: list[str] = []

    def modules(self) -> dict[str, ModuleType]:
        entities, tracking = ModuleType("mlflow.entities"), ModuleType("mlflow.tracking")
        entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step)  # type: ignore[attr-defined]
        entities.Param = lambda key, value: SimpleNamespace(key=key, value=value)  # type: ignore[attr-defined]
        tracking.MlflowClient = lambda: self  # type: ignore[attr-defined]
        return {"mlflow": ModuleType("mlflow"), "mlflow.entities": entities, "mlflow.tracking": tracking}

    tracking_uri = "http://mlflow"

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id=name) if name in self.experiments else None

    def create_experiment(self, name: str) -> str:
        self.experiments.append(name)
        return name

    def create_run(self, experiment: str, *, run_name: str) -> Any:
        run_id = f"{experiment}-{len(self.runs)}"
        self.runs[run_id] = SimpleNamespace(metrics=[], params={}, status="RUNNING", artifacts=[], tags={})
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id))

    def update_run(self, run_id: str, *, status: str) -> None:
        self.runs[run_id].status = status

    def log_batch(self, run_id: str, *, metrics: Any = (), params: Any = ()) -> None:
        run = self.runs[run_id]
        run.metrics += metrics
        for each in params:
            assert run.params.setdefault(each.key, each.value) == each.value, "a parameter cannot change"

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        return [each for each in self.runs[run_id].metrics if each.key == key]

    def log_text(self, run_id: str, text: str, name: str) -> None:
        self.runs[run_id].artifacts.append(name)

    def log_artifact(self, run_id: str, path: str, folder: str = "") -> None:
        self.runs[run_id].artifacts.append(f"{folder}/{path.rpartition('/')[2]}".lstrip("/"))

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[run_id].tags[key] = value

    def set_terminated(self, run_id: str, status: str) -> None:
        self.runs[run_id].status = status
