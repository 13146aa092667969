"""FiftyOne datasets from predictions, in a real MongoDB; the App in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deitkit import explore
from deitkit.errors import DeitkitError
from deitkit.predictions import Predictions, head_predictions

IMAGES, CLASSES = 24, 3
# fiftyone's own imports use what is deprecated elsewhere.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """fiftyone with a database of its own, or a skip that says why there is none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path_factory.mktemp("mongodb")))
        # A mongod that somebody runs already is shared, its databases are not.
        database = f"deitkit-tests-{os.getpid()}"
        patch.setenv("FIFTYONE_DATABASE_NAME", database)
        try:
            package = explore.connect()
        except DeitkitError as error:
            pytest.skip(str(error))
        yield package
        if package.config.database_name == database:
            package.core.odm.drop_database()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A dataset's name that no other test uses."""
    return f"test-{re.sub('[^a-z0-9]+', '-', request.node.name.lower())}"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    files = [folder / f"{number:02d}.png" for number in range(IMAGES)]
    for number, file in enumerate(files):
        Image.new("L", (32, 32), number * 10).save(file)
    return files


def predictions(classifier: str, *heads: str, seed: int, classes: int = CLASSES) -> Predictions:
    random = np.random.default_rng(seed)
    return Predictions(
        dataset="shades",
        split="val",
        fingerprint="f00d",
        classifier=classifier,
        class_names=("dark", "grey", "light")[:classes],
        ids=[f"shade/{number:02d}" for number in range(IMAGES)],
        labels=np.arange(IMAGES) % classes,
        heads={head: head_predictions(head, random.dirichlet(np.ones(classes), IMAGES)) for head in heads},
    )


def student(seed: int = 1) -> Predictions:
    return predictions("student", "class", "distillation", "fused", seed=seed)


def teacher(seed: int = 2) -> Predictions:
    return predictions("teacher", "class", seed=seed)


Build = Callable[..., Any]


@pytest.fixture
def build(fiftyone: ModuleType, files: list[Path], name: str) -> Build:
    def built(*tables: Predictions, **options: Any) -> Any:
        return explore.build_dataset(tables, name, **({"image_of": lambda row: files[row]} | options))

    return built


def test_every_head_is_a_classification_with_its_confidence(build: Build, files: list[Path]) -> None:
    dataset = build(student(), teacher())
    assert dataset.persistent
    assert dataset.values("image_id") == student().ids
    assert dataset.values("filepath") == [str(file) for file in files]
    assert dataset.values("ground_truth.label") == ["dark", "grey", "light"] * 8
    fields = {"student_class": "class", "student_distillation": "distillation", "student_fused": "fused"}
    expected = {field: student().heads[head] for field, head in fields.items()} | {"teacher": teacher().heads["class"]}
    for field, head in expected.items():
        labels, confidences = dataset.values([f"{field}.label", f"{field}.confidence"])
        assert labels == [student().class_names[index] for index in head.top[:, 0]]
        np.testing.assert_allclose(confidences, head.confidence[:, 0], rtol=1e-6)


def test_each_saved_view_holds_the_images_that_its_name_says(build: Build) -> None:
    labels, decided, taught = student().labels, student().top1("fused"), teacher().top1("class")
    on_class, on_distillation = student().top1("class"), student().top1("distillation")
    agree = (on_class == on_distillation) & (on_class == decided) & (on_class == taught)
    expected = {
        "student wrong": decided != labels,
        "teacher wrong": taught != labels,
        "teacher right, student wrong": (taught == labels) & (decided != labels),
        "student right, teacher wrong": (decided == labels) & (taught != labels),
        "student: heads disagree": on_class != on_distillation,
        "not all agree": ~agree,
        "all agree, label differs": agree & (on_class != labels),
    }
    dataset = build(student(), teacher())
    assert set(dataset.list_saved_views()) == set(expected)
    ids = np.array(student().ids)
    for view, chosen in expected.items():
        assert dataset.load_saved_view(view).values("image_id") == ids[chosen].tolist(), view


def test_a_lone_plain_classifier_has_only_its_mistakes_to_show(build: Build) -> None:
    assert build(teacher()).list_saved_views() == ["teacher wrong"]


def test_building_again_changes_nothing(build: Build) -> None:
    def state(dataset: Any) -> Any:
        return [
            dataset.values(["id", "image_id", "filepath", "student_fused.id", "student_fused.label"]),
            sorted(dataset.list_saved_views()),
            dataset.info,
        ]

    before = state(build(student(), teacher()))
    assert state(build(student(), teacher())) == before


def test_what_a_user_added_survives_new_predictions(build: Build, fiftyone: ModuleType) -> None:
    dataset = build(student())
    sample = dataset.first()
    sample.tags.append("look again")
    sample["note"] = "smudged"
    sample["student_fused"].tags.append("surprising")
    sample.save()
    dataset.save_view("mine", dataset.match_tags("look again"))

    rebuilt = build(student(seed=7), teacher())
    sample = rebuilt.first()
    assert (sample.tags, sample["note"], sample["student_fused"].tags) == (["look again"], "smudged", ["surprising"])
    assert len(rebuilt.load_saved_view("mine")) == 1
    new = student(seed=7)
    assert rebuilt.values("student_fused.label") == [new.class_names[index] for index in new.top1("fused")]


def test_a_users_view_of_the_same_name_is_not_replaced(build: Build) -> None:
    dataset = build(student())
    dataset.save_view("teacher wrong", dataset.limit(1))
    rebuilt = build(student(), teacher())
    assert rebuilt.load_saved_view("teacher wrong").values("image_id") == ["shade/00"]


def test_classifiers_seen_earlier_stay(build: Build) -> None:
    build(student(), teacher())
    dataset = build(student())
    assert None not in dataset.values("teacher.label")
    assert "teacher right, student wrong" in dataset.list_saved_views()


def test_images_that_moved_are_found_at_their_new_place(build: Build, files: list[Path], tmp_path: Path) -> None:
    build(teacher())
    moved = [Path(shutil.copy(file, tmp_path)) for file in files]
    dataset = build(teacher(), image_of=lambda row: moved[row])
    assert dataset.values("filepath") == [str(file) for file in moved]
    assert len(dataset) == IMAGES


def test_only_images_that_all_have_are_shown_each_with_its_own_file(build: Build, files: list[Path]) -> None:
    rows = [5, 2, 9]
    whole = teacher()
    part = replace(
        whole,
        classifier="part",
        ids=[whole.ids[row] for row in rows],
        labels=whole.labels[rows],
        heads={"class": head_predictions("class", np.eye(CLASSES)[[0, 1, 2]])},
    )
    dataset = build(whole, part)
    assert dataset.values("filepath") == [str(files[row]) for row in (2, 5, 9)]
    assert dataset.values("part.label") == ["grey", "dark", "light"]


def test_a_dataset_made_by_others_is_left_alone(
    build: Build, fiftyone: ModuleType, name: str, files: list[Path]
) -> None:
    theirs = fiftyone.Dataset(name, persistent=True)
    theirs.add_sample(fiftyone.Sample(filepath=str(files[0])))
    with pytest.raises(DeitkitError, match="not made by deitkit") as caught:
        build(teacher())
    assert "--overwrite" in caught.value.remedy
    assert (len(theirs), theirs.list_saved_views()) == (1, [])
    assert len(build(teacher(), overwrite=True)) == IMAGES


def test_a_dataset_of_other_images_is_left_alone(build: Build) -> None:
    build(teacher())
    with pytest.raises(
        DeitkitError, match=r"other images or labels \(shades/val\) than these predictions \(shades/train"
    ):
        build(replace(teacher(), split="train", fingerprint="beef"))


def test_a_field_of_the_users_is_not_taken(build: Build, fiftyone: ModuleType) -> None:
    dataset = build(student())
    dataset.add_sample_field("teacher", fiftyone.StringField)
    dataset.set_values("teacher", ["Ms. Frizzle"] * IMAGES)
    with pytest.raises(DeitkitError, match="the field 'teacher'"):
        build(student(), teacher())
    assert set(dataset.values("teacher")) == {"Ms. Frizzle"}


@pytest.mark.parametrize(
    ("classifier", "field"), [("384 px", "run_384_px"), ("deit-tiny.v2", "deit_tiny_v2"), ("_hidden", "hidden")]
)
def test_any_runs_name_becomes_a_field(build: Build, classifier: str, field: str) -> None:
    assert build(replace(teacher(), classifier=classifier)).has_field(f"{field}.label")


@pytest.mark.parametrize("classifier", ["ground_truth", "image_id", "tags"])
def test_a_run_named_like_a_field_that_is_there_is_refused(build: Build, classifier: str) -> None:
    with pytest.raises(DeitkitError, match=f"the field '{classifier}'"):
        build(replace(teacher(), classifier=classifier))


def test_runs_whose_fields_would_be_one_are_refused(build: Build) -> None:
    with pytest.raises(DeitkitError, match="the field 'a_b'"):
        build(replace(teacher(), classifier="a b"), replace(student(), classifier="a-b", heads=teacher().heads))


def test_missing_images_are_named_before_anything_is_built(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match=r"1 of 24 images .*gone\.png"):
        explore.build_dataset(
            [teacher()], "test-never", image_of=lambda row: tmp_path / "gone.png" if row == 3 else files[row]
        )


def test_nothing_is_sent_home_and_nothing_printed_where_data_goes(
    build: Build, fiftyone: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    build(student(), teacher())
    assert fiftyone.config.do_not_track
    assert capfd.readouterr().out == ""


def test_without_fiftyone_the_remedy_is_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(DeitkitError, match="cannot be imported") as caught:
        explore.connect()
    assert caught.value.remedy == "pip install fiftyone"


@pytest.mark.parametrize(
    ("error", "uri", "remedy"),
    [
        (RuntimeError("no mongod"), None, "FIFTYONE_DATABASE_URI="),
        (PermissionError("read-only"), None, "FIFTYONE_DATABASE_DIR"),
        (ConnectionError("refused"), "mongodb://127.0.0.1:9", "start the MongoDB at mongodb://127.0.0.1:9"),
    ],
)
def test_a_database_that_does_not_answer_has_a_remedy(
    fiftyone: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception, uri: str | None, remedy: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(fiftyone, "list_datasets", fail)
    monkeypatch.setattr(fiftyone.config, "database_uri", uri)
    with pytest.raises(DeitkitError, match=str(error)) as caught:
        explore.connect()
    assert remedy in caught.value.remedy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((explore.ADDRESS, 0))
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_or_none_is_refused(fiftyone: ModuleType) -> None:
    with socket.socket() as other:
        other.bind((explore.ADDRESS, 0))
        other.listen()
        with pytest.raises(DeitkitError, match="cannot be used") as caught:
            explore.launch(None, other.getsockname()[1])
    assert "--port" in caught.value.remedy
    with pytest.raises(DeitkitError, match="port 70000"):
        explore.launch(None, 70_000)


def page(url: str, profile: Path) -> str:
    """What a browser shows at the address once the page is at rest."""
    switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    switches += " --disable-component-update --disable-sync --virtual-time-budget=30000 --dump-dom"
    command = [str(CHROMIUM), *switches.split(), f"--user-data-dir={profile}", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_the_app_shows_the_samples_and_a_saved_view(build: Build, name: str, tmp_path: Path) -> None:
    dataset, port = build(student(), teacher()), free_port()
    session = explore.launch(dataset, port, open_browser=False)
    try:
        everything = page(f"http://127.0.0.1:{port}/datasets/{name}", tmp_path / "all")
        disagreeing = page(f"http://127.0.0.1:{port}/datasets/{name}?view=student-heads-disagree", tmp_path / "view")
    finally:
        session.close()
    assert "student_fused" in everything
    assert everything.count("Click to select sample") == IMAGES
    differ = int((student().top1("class") != student().top1("distillation")).sum())
    assert 0 < differ < IMAGES
    assert "student: heads disagree" in disagreeing
    assert disagreeing.count("Click to select sample") == differ
