"""Which weights become a run's model: real runs on digits, whose accuracies are given, so that the best is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from sklearn.metrics import f1_score

from deitkit.data.formats.split import TEST_SERVES
from deitkit.data.open import open_source
from deitkit.data.source import Source
from deitkit.errors import Interrupted
from deitkit.models.kept import standing_of
from deitkit.models.load import load_model
from deitkit.predictions.table import Predictions
from deitkit.recipe.load import override
from deitkit.recipe.schema import Data, Recipe
from deitkit.runs import saver
from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint
from deitkit.runs.folder import Run
from deitkit.training import fit, step
from deitkit.training.evaluate import Watch
from deitkit.training.fit import train_run
from deitkit.training.log import Sums
from deitkit.training.observer import Request, Silent
from tests.training.test_fit import Crash, CrashAt, Listener, assert_equal, comparable, tiny

BEST_IN_THE_MIDDLE = {4: 0.5, 8: 0.9, 12: 0.7}  # an epoch is four steps


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two classes of digits 48 to train on and 12 to choose by."""
    root = tmp_path_factory.mktemp("images")
    source = open_source(Data(dataset="digits"), "train")
    for index in range(60):
        path = root / ("val" if index < 12 else "train") / str(source.labels[index] % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read(index))
    return root


class Plain(Protocol):
    def __call__(self, **train: Any) -> Recipe: ...


@pytest.fixture
def plain(images: Path) -> Plain:
    """A small run of three epochs, an evaluation after each; its checkpoints fall between them."""

    def recipe(**train: Any) -> Recipe:
        return tiny(
            train={"epochs": 3, "accumulation": 1, **train}, data={"dataset": "folder", "path": str(images)},
            stream={"batch_size": 12, "repeats": 1, "mix_group": 4}, checkpoint={"every_steps": 3},
        )  # fmt: skip

    return recipe


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> dict[int, float]:
    """Step -> what an evaluation finds for the fused head; the class head always finds the contrary."""
    found = dict(BEST_IN_THE_MIDDLE)

    class Given(Watch):
        def evaluate(self) -> dict[str, Any]:
            score = found[self.training.progress.step]
            return {"top1": {"class": 1 - score, "distillation": 0.1, "fused": score}}

    monkeypatch.setattr(fit, "Watch", Given)
    return found


def weights(reference: object) -> dict[str, Any]:
    return dict(load_model(str(reference)).student.network.state_dict())


def moment(run: Run) -> tuple[Any, ...]:
    result = run.result() or {}
    return result["kept"], result["kept_step"], result["kept_epoch"], result["best_step"], result["best_epoch"]


def test_the_best_by_the_deciding_head_is_the_model_and_the_last_stays_reachable(
    plain: Plain, scores: Mapping[int, float], tmp_path: Path
) -> None:
    run = train_run(plain(), tmp_path / "run", device="cpu").run
    assert moment(run) == ("best", 8, 2.0, 8, 2.0)
    assert_equal(weights(run.path), weights(f"{run.path}@best"))
    assert_equal(weights(run.path), load_checkpoint(run.checkpoints / "best").model)
    with pytest.raises(AssertionError):
        assert_equal(weights(run.path), weights(f"{run.path}@last"))
    assert load_checkpoint(list_checkpoints(run.checkpoints)[-1]).step == 12
    standing = standing_of(run)
    assert standing is not None
    assert standing.sentences("R") == [
        "the model is of epoch 2 (fused 90.00%), the best; the last, epoch 3 (fused 70.00%), is R@last"
    ]


def test_of_equals_the_later_one_is_kept(plain: Plain, scores: dict[int, float], tmp_path: Path) -> None:
    scores.update({4: 0.9, 8: 0.9, 12: 0.2})
    assert moment(train_run(plain(), tmp_path / "run", device="cpu").run) == ("best", 8, 2.0, 8, 2.0)


def test_the_last_is_kept_where_the_recipe_says_so_and_the_best_stays_reachable(
    plain: Plain, scores: Mapping[int, float], tmp_path: Path
) -> None:
    run = train_run(plain(keep="last"), tmp_path / "run", device="cpu").run
    assert moment(run) == ("last", 12, 3.0, 8, 2.0)
    assert_equal(weights(run.path), weights(f"{run.path}@last"))
    assert load_checkpoint(run.checkpoints / "best").step == 8


def test_without_validation_images_the_last_is_kept_and_said(
    plain: Plain, scores: Mapping[int, float], tmp_path: Path
) -> None:
    recipe, hears = override(plain(), {"data.validate_on": "train"}), Listener()
    assert moment(train_run(recipe, tmp_path / "run", device="cpu", observer=hears).run)[:2] == ("last", 12)
    assert any("no validation images to choose by" in text for text in hears.said)


@pytest.fixture
def only_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits whose validation images are told to be test images."""

    def opened(data: Any, split: str) -> Source:
        from deitkit.data.formats.split import noted

        source = open_source(data, split)
        return noted(source, TEST_SERVES) if split == "val" else source

    monkeypatch.setattr(step, "open_source", opened)


@pytest.mark.usefixtures("only_test_images")
def test_test_images_choose_nothing_unless_they_are_asked_to(
    plain: Plain, scores: Mapping[int, float], tmp_path: Path
) -> None:
    hears = Listener()
    run = train_run(plain(), tmp_path / "run", device="cpu", observer=hears).run
    assert moment(run)[:2] == ("last", 12)
    assert any("test images, and those choose nothing" in text for text in hears.said)
    assert TEST_SERVES in hears.said
    asked = override(plain(patience=9), {"train.keep": "best"})
    run = train_run(asked, tmp_path / "asked", device="cpu", observer=hears).run
    assert moment(run)[:2] == ("best", 8)
    assert any("choose the best epoch, as asked" in text for text in hears.said)
    assert any("decide when to stop" in text for text in hears.said)


# Ends that are no ends


@pytest.mark.parametrize("dies_before", ["step-000000008", "best"])
def test_a_kill_while_the_best_is_saved_loses_nothing(
    dies_before: str, plain: Plain, scores: Mapping[int, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = train_run(plain(), tmp_path / "unbroken", device="cpu").run
    save = saver.save_checkpoint

    def dying(root: Path, **more: Any) -> Path:
        if more["step"] == 8 and (more["name"] or "step-000000008") == dies_before:
            raise Crash
        return save(root, **more)

    monkeypatch.setattr(saver, "save_checkpoint", dying)
    with pytest.raises(Crash):
        train_run(plain(), tmp_path / "run", device="cpu")
    monkeypatch.setattr(saver, "save_checkpoint", save)
    run = train_run(plain(), tmp_path / "run", device="cpu", resume=True).run
    assert_equal(comparable(run), comparable(unbroken))
    assert_equal(weights(run.path), weights(unbroken.path))
    assert moment(run) == moment(unbroken)


class StopsAt(Silent):
    """Presses the key that ends a run after a step."""

    def __init__(self, step: int) -> None:
        self.last_step, self.now = step, 0

    def step(self, step: int, sums: Sums) -> None:
        self.now = step

    def asked(self) -> Request:
        return "stop" if self.now == self.last_step else ""


@pytest.mark.parametrize("last", [8, 12])
def test_a_run_that_is_stopped_before_an_evaluation_makes_up_for_it(
    last: int, plain: Plain, scores: dict[int, float], tmp_path: Path
) -> None:
    scores[12] = 0.9 if last == 12 else 0.7
    unbroken = train_run(plain(), tmp_path / "unbroken", device="cpu").run
    with pytest.raises(Interrupted):
        train_run(plain(), tmp_path / "run", device="cpu", observer=StopsAt(last))
    assert Run(tmp_path / "run").result() is None
    run = train_run(plain(), tmp_path / "run", device="cpu", resume=True).run
    assert moment(run) == moment(unbroken) == ("best", last, last / 4, last, last / 4)
    assert_equal(comparable(run), comparable(unbroken))


def test_a_best_that_is_not_found_again_after_a_kill_is_still_the_model(
    plain: Plain, scores: dict[int, float], tmp_path: Path
) -> None:
    """As on a device that gives other last bits: what was once evaluated counts."""
    with pytest.raises(Crash):
        train_run(plain(), tmp_path / "run", device="cpu", observer=CrashAt(9))
    best = load_checkpoint(tmp_path / "run" / "checkpoints" / "best").model
    scores[8] = 0.0
    run = train_run(plain(), tmp_path / "run", device="cpu", resume=True).run
    assert moment(run)[:2] == ("best", 8)
    assert_equal(weights(run.path), best)


def test_a_lost_best_is_said_and_the_last_is_kept(plain: Plain, scores: Mapping[int, float], tmp_path: Path) -> None:
    with pytest.raises(Crash):
        train_run(plain(), tmp_path / "run", device="cpu", observer=CrashAt(11))
    (tmp_path / "run" / "checkpoints" / "best" / "model.safetensors").write_bytes(b"?")
    hears = Listener()
    run = train_run(plain(), tmp_path / "run", device="cpu", resume=True, observer=hears).run
    assert moment(run)[:2] == ("last", 12)
    assert any("the best checkpoint, of step 8, is lost" in text for text in hears.said)


def test_early_stopping_is_said_and_the_best_kept(plain: Plain, scores: dict[int, float], tmp_path: Path) -> None:
    scores.update({4: 0.9, 8: 0.5, 12: 0.5})
    hears = Listener()
    run = train_run(plain(epochs=9, patience=2), tmp_path / "run", device="cpu", observer=hears).run
    assert moment(run)[:3] == ("best", 4, 1.0)
    assert (run.result() or {})["stopped_early"]
    assert any(text.startswith("stopped early, after epoch 3 of 9: 2 evaluations without") for text in hears.said)
    assert load_checkpoint(list_checkpoints(run.checkpoints)[-1]).step == 12  # RUN@last is the last, indeed
    standing = standing_of(run)
    assert standing is not None
    assert standing.sentences("R")[0] == "stopped early, after epoch 3 of 9: train.patience"


# Runs of earlier versions


def as_of_an_earlier_version(run: Run) -> None:
    """Its recipe does not say what is kept."""
    path = run.path / "recipe.toml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith('keep = "')))


def test_an_interrupted_run_of_an_earlier_version_keeps_the_last_unless_told_otherwise(
    plain: Plain, scores: Mapping[int, float], tmp_path: Path
) -> None:
    for name, given, kept in (("as_it_was", {}, "last"), ("told", {"train.keep": "best"}, "best")):
        path, hears = tmp_path / name, Listener()
        with pytest.raises(Crash):
            train_run(plain(), path, device="cpu", observer=CrashAt(5))
        as_of_an_earlier_version(Run(path))
        assert Run(path).recipe().train.keep == "last"
        run = train_run(override(plain(), given), path, device="cpu", resume=True, observer=hears).run
        assert moment(run)[0] == kept
        assert any(text.startswith("train.keep ") for text in hears.said)


def test_a_run_of_an_earlier_version_that_patience_may_end_keeps_the_best(
    plain: Plain, scores: Mapping[int, float], tmp_path: Path
) -> None:
    run = Run.create(tmp_path / "run", plain(patience=2), environment={}, overwrite=False)
    as_of_an_earlier_version(run)
    assert run.recipe().train.keep == "best"


# By another metric


def test_the_best_and_patience_go_by_the_chosen_metric(
    plain: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recalls = {4: 0.6, 8: 0.8, 12: 0.7, 16: 0.8, 20: 0.7, 24: 0.7}  # top-1 says the contrary

    class Given(Watch):
        def evaluate(self) -> dict[str, Any]:
            value = recalls[self.training.progress.step]
            return {"top1": {"class": 1 - value}, "balanced_accuracy": {"class": value}, "metric": "balanced_accuracy"}

    monkeypatch.setattr(fit, "Watch", Given)
    listener = Listener()
    spec = plain(epochs=6, metric="balanced_accuracy", patience=3)
    run = train_run(spec, tmp_path / "run", device="cpu", observer=listener).run
    result = run.result() or {}
    assert (result["kept_step"], result["best_score"], result["metric"]) == (16, 0.8, "balanced_accuracy")
    assert result["best_top1"] == pytest.approx(0.2)
    assert result["step"] == 20 and result["stopped_early"]  # 12, 16 (equal, no gain) and 20
    assert any("without a better balanced accuracy" in said for said in listener.said)
    standing = standing_of(run)
    assert standing is not None and standing.best.step == 16


def test_a_run_logs_the_metric_that_it_is_judged_by_and_no_other(plain: Plain, tmp_path: Path) -> None:
    run = train_run(plain(epochs=1, metric="macro_f1"), tmp_path / "run", device="cpu").run
    (line,) = [line for line in run.metrics() if "top1" in line]
    assert line["metric"] == "macro_f1" and "balanced_accuracy" not in line
    table = Predictions.load(next(run.predictions.glob("*.parquet")))
    expected = f1_score(table.labels, table.top1("fused"), average="macro", zero_division=0)
    assert line["macro_f1"]["fused"] == pytest.approx(expected)
    assert "metric" not in next(
        line for line in train_run(plain(epochs=1), tmp_path / "other", device="cpu").run.metrics() if "top1" in line
    )
