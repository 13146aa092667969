"""Embeddings against the student's own tokens and head weights; found, made anew, and never half there."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from deitkit.data.open import Files, open_source
from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel, ModelInfo, load_model, save_model
from deitkit.models.reference import Reference
from deitkit.models.student import Student, build_student, rebuild_student
from deitkit.predictions.embeddings import Embeddings, embed, embeddings_path, token_embeddings, weights_identity
from deitkit.recipe.schema import Data, Model, Recipe
from deitkit.runs.checkpoint import save_checkpoint
from deitkit.runs.folder import Run

MODEL = Model(
    name="deit_nano", image_size=16, distilled=True, options={"embed_dim": 32, "depth": 1, "num_heads": 2}
)  # fmt: skip
INFO = ModelInfo.of(Data(), (16, 16), tuple("0123456789"))
IMAGES = 70  # more than a batch


def student(*, distilled: bool = True, seed: int = 0) -> Student:
    return build_student(MODEL.model_copy(update={"distilled": distilled}), 10, seed=seed)


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """Some of scikit-learn's digits as image files, in the same two classes for training and validation."""
    root = tmp_path_factory.mktemp("digits")
    for number, pixels in enumerate(load_digits().images[: 2 * IMAGES]):
        file = root / ("val" if number < IMAGES else "train") / str(number % 2) / f"{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype(np.uint8)).save(file)
    return Data(dataset="folder", path=str(root))


@pytest.fixture
def run(tmp_path: Path, digits: Data) -> Run:
    """A finished run, as far as embeddings look at one."""
    made = Run.create(tmp_path / "student", Recipe(model=MODEL, data=digits), environment={}, overwrite=False)
    save_model(made.model, student(), INFO)
    return made


class Counted:
    """How many images were embedded."""

    def __init__(self) -> None:
        self.done = self.total = 0

    def __call__(self, done: int, total: int) -> None:
        self.done, self.total = done, total


def made(model: Path | str, settings: Data, **options: Any) -> tuple[Embeddings, int]:
    """The embeddings of the validation images, and how many images they took to make."""
    counted = Counted()
    found = token_embeddings(str(model), settings, "val", device="cpu", progress=counted, **options)
    return found, counted.done


def normalised_digit(data: bytes, crop_ratio: float = INFO.crop_ratio) -> np.ndarray[Any, Any]:
    """An 8x8 digit as the protocol sees it at 16 px, with Pillow and numpy alone: [3, 16, 16]."""
    side = int(16 / crop_ratio)
    resized = Image.open(io.BytesIO(data)).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    corner = round((side - 16) / 2)
    pixels = np.asarray(resized.crop((corner, corner, corner + 16, corner + 16)), dtype=np.float32) / 255
    return ((pixels - np.float32(INFO.mean)) / np.float32(INFO.std)).transpose(2, 0, 1)


# What they are


def test_embeddings_are_the_tokens_after_the_final_norm_of_the_evaluation_view(run: Run, digits: Data) -> None:
    found, _ = made(run.path, digits)
    source = open_source(digits, "val")
    assert found.ids == list(source.ids)
    rows = [0, 63, 64, IMAGES - 1]  # within and across batches
    views = torch.from_numpy(np.stack([normalised_digit(source.read(row)) for row in rows]))
    with torch.inference_mode():
        normed = load_model(str(run.path)).student.tokens(views).normed
    for place, token in enumerate(("class", "distillation")):
        np.testing.assert_allclose(found.tokens[token][rows], normed[place].numpy(), atol=2e-5)
    assert (found.classifier, found.dataset, found.split) == ("student", "folder", "val")
    assert found.fingerprint == source.fingerprint


def test_each_head_reads_its_own_token(run: Run) -> None:
    images = torch.randn(3, 3, 16, 16)
    loaded = load_model(str(run.path)).student
    with torch.inference_mode():
        tokens, logits = embed(loaded, images), loaded(images)
    network = loaded.network
    for token, head, expected in (
        ("class", network.head, logits.classes), ("distillation", network.head_dist, logits.distillation)
    ):  # fmt: skip
        np.testing.assert_allclose(
            tokens[token].numpy() @ head.weight.detach().numpy().T + head.bias.detach().numpy(), expected, atol=1e-5
        )


@pytest.mark.parametrize(
    ("architecture", "arguments", "name"),
    [
        ("test_resnet", {}, "features"),
        ("test_convnext", {}, "features"),
        ("test_vit", {"global_pool": "avg"}, "features"),
        ("test_vit", {"global_pool": "token"}, "class"),
    ],
)
def test_a_model_of_one_head_has_what_that_head_reads(architecture: str, arguments: dict[str, Any], name: str) -> None:
    loaded = rebuild_student(architecture, {"num_classes": 5, **arguments}).eval()
    images = torch.randn(2, 3, 160, 160)
    with torch.inference_mode():
        vectors = embed(loaded, images)
        assert list(vectors) == [name]
        torch.testing.assert_close(loaded.network.get_classifier()(vectors[name]), loaded(images).classes)


def test_embeddings_of_another_length_than_their_ids_are_refused() -> None:
    with pytest.raises(ValueError, match="2 image ids"):
        Embeddings("student", ["a", "b"], {"class": np.zeros((3, 4), np.float32)})


def test_diverged_weights_are_refused_and_nothing_is_kept(tmp_path: Path, digits: Data) -> None:
    diverged = student()
    with torch.no_grad():
        diverged.network.norm.weight[3] = torch.nan
    save_model(tmp_path / "student", diverged, INFO)
    with pytest.raises(DeitkitError, match="not finite"):
        made(tmp_path / "student", digits)
    assert list((tmp_path / "student" / "predictions").glob("*")) == []


# Found, or made anew


def test_what_is_kept_is_found_again_as_files_that_numpy_maps(run: Run, digits: Data) -> None:
    first, embedded = made(run.path, digits)
    again, none = made(run.path, digits)
    assert (embedded, none) == (IMAGES, 0)
    for token, array in again.tokens.items():
        assert isinstance(array, np.memmap)
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, first.tokens[token])
        np.testing.assert_array_equal(np.load(run.predictions / f"folder-val.{token}.npy"), array)
    assert sorted(path.name for path in run.predictions.iterdir()) == [
        "folder-val.class.npy", "folder-val.distillation.npy", "folder-val.embeddings.json",
    ]  # fmt: skip


HEADER, FIRST = "folder-val.embeddings.json", "folder-val.class.npy"


@pytest.mark.parametrize(
    "change",
    [
        lambda run: save_model(run.model, student(seed=1), INFO),
        lambda run: save_model(run.model, student(), replace(INFO, crop_ratio=1.0)),
        lambda run: (run.predictions / HEADER).unlink(),
        lambda run: (run.predictions / HEADER).write_text("[1, 2]"),
        lambda run: (run.predictions / "folder-val.distillation.npy").unlink(),
        lambda run: np.save(run.predictions / FIRST, np.zeros((IMAGES - 1, 32), np.float32)),
        lambda run: (run.predictions / FIRST).write_bytes(b"\x93NUMPY"),
    ],
    ids=["weights", "protocol", "no header", "no object", "no array", "a row less", "cut short"],
)
def test_embeddings_of_something_else_or_not_whole_are_made_anew(
    run: Run, change: Callable[[Run], Any], digits: Data
) -> None:
    made(run.path, digits)
    change(run)
    found, embedded = made(run.path, digits)
    assert embedded == IMAGES
    source = open_source(digits, "val")
    loaded = load_model(str(run.path))
    view = normalised_digit(source.read(7), loaded.info.crop_ratio)
    with torch.inference_mode():
        expected = loaded.student.tokens(torch.from_numpy(view)[None]).normed[:, 0]
    np.testing.assert_allclose(np.stack([array[7] for array in found.tokens.values()]), expected, atol=2e-5)


def test_other_images_are_other_embeddings(run: Run, digits: Data, tmp_path: Path) -> None:
    before, _ = made(run.path, digits)
    copy = shutil.copytree(str(digits.path), tmp_path / "copy")
    settings = digits.model_copy(update={"path": str(copy)})
    assert made(run.path, settings)[1] == 0  # the same images in another place
    (copy / "val" / "1" / "001.png").unlink()
    after, embedded = made(run.path, settings)
    assert embedded == len(after.ids) == IMAGES - 1
    assert after.fingerprint != before.fingerprint


def test_an_interrupted_pass_leaves_what_was_there_and_nothing_half_written(
    run: Run, monkeypatch: pytest.MonkeyPatch, digits: Data
) -> None:
    first, _ = made(run.path, digits)
    kept = {path.name: path.read_bytes() for path in run.predictions.iterdir()}
    save_model(run.model, student(seed=1), INFO)
    read = Files.read

    def fail_late(self: Files, index: int) -> bytes:
        if index == 66:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(Files, "read", fail_late)
    with pytest.raises(KeyboardInterrupt):
        made(run.path, digits)
    assert {path.name: path.read_bytes() for path in run.predictions.iterdir()} == kept
    monkeypatch.undo()
    again, embedded = made(run.path, digits)
    assert embedded == IMAGES
    assert not np.array_equal(again.tokens["class"], first.tokens["class"])


def test_no_header_stands_beside_arrays_of_another_model(
    run: Run, monkeypatch: pytest.MonkeyPatch, digits: Data
) -> None:
    made(run.path, digits)
    save_model(run.model, student(seed=1), INFO)

    replaced: list[str] = []

    def replace_once(source: Path, target: Path) -> None:
        if replaced:
            raise KeyboardInterrupt
        replaced.append(Path(target).name)
        Path(source).rename(target)

    monkeypatch.setattr("deitkit.predictions.embeddings.os.replace", replace_once)
    with pytest.raises(KeyboardInterrupt):
        made(run.path, digits)
    assert replaced == [FIRST]
    assert not (run.predictions / HEADER).exists()


def test_a_place_that_cannot_be_written_is_said_with_a_remedy(run: Run, digits: Data) -> None:
    run.predictions.write_text("not a folder")
    with pytest.raises(DeitkitError, match="cannot write") as caught:
        made(run.path, digits)
    assert caught.value.remedy


def test_unreadable_images_are_left_out_with_their_ids_where_the_settings_say_so(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for number, name in enumerate(("train/cat/a", "train/dog/b", "val/cat/a", "val/cat/b", "val/dog/c")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (16, 16), 40 * number).save(root / f"{name}.png")
    whole, _ = made(run.path, Data(dataset="folder", path=str(root)), data=str(root))
    assert whole.ids == ["val/cat/a.png", "val/cat/b.png", "val/dog/c.png"]
    expected = np.array(whole.tokens["class"])[[0, 2]]
    (root / "val" / "cat" / "b.png").write_bytes(b"no image")
    for header in run.predictions.glob("*.json"):
        header.unlink()
    with pytest.raises(DeitkitError, match=r"b\.png"):
        made(run.path, Data(dataset="folder", path=str(root), on_bad_image="error"), data=str(root))
    settings = Data(dataset="folder", path=str(root), on_bad_image="replace")
    for embedded in (3, 0):  # made, then found
        found, done = made(run.path, settings, data=str(root))
        assert (found.ids, done) == (["val/cat/a.png", "val/dog/c.png"], embedded)
        np.testing.assert_allclose(found.tokens["class"], expected, atol=1e-6)


# What is referred to


@pytest.fixture
def checkpointed(run: Run) -> Run:
    """The run with a checkpoint of other weights, and a moving average of others still."""
    save_checkpoint(
        run.checkpoints, step=40, model=student(seed=4).network.state_dict(), state={}, metrics_bytes=0, keep=1
    )
    save_model(run.path / "model_ema", student(seed=5), INFO)
    return run


@pytest.mark.parametrize(
    ("word", "seed", "name", "header"),
    [
        ("", 0, "student", "predictions/folder-val.embeddings.json"),
        ("@40", 4, "student@40", "predictions/folder-val@step-000000040.embeddings.json"),
        ("@step-000000040", 4, "student@40", "predictions/folder-val@step-000000040.embeddings.json"),
        ("@ema", 5, "student@ema", "model_ema/predictions/folder-val.embeddings.json"),
    ],
)
def test_a_checkpoint_and_the_moving_average_have_embeddings_of_their_own(
    checkpointed: Run, word: str, seed: int, name: str, header: str, digits: Data
) -> None:
    reference = f"{checkpointed.path}{word}"
    loaded = load_model(reference)
    for key, value in student(seed=seed).network.state_dict().items():
        assert torch.equal(loaded.student.network.state_dict()[key], value)
    assert Reference.parse(reference).short(1) == name
    assert embeddings_path(reference, "folder", "val") == checkpointed.path / header
    found, embedded = made(reference, digits)
    assert (found.classifier, embedded) == (name, IMAGES)
    assert (checkpointed.path / header).is_file()


def test_a_checkpoint_that_is_not_kept_is_refused_with_those_that_are(checkpointed: Run, digits: Data) -> None:
    with pytest.raises(DeitkitError, match="keeps no checkpoint '41'") as caught:
        made(f"{checkpointed.path}@41", digits)
    assert caught.value.choices == ("step-000000040", "ema")


@pytest.mark.parametrize(
    ("reference", "name", "header"),
    [
        ("timm:resnet50.a1_in1k", "resnet50.a1_in1k", "resnet50.a1_in1k/predictions/folder-val.embeddings.json"),
        ("hf-hub:timm/deit_tiny@abc", "deit_tiny", "deit_tiny/predictions/folder-val.embeddings.json"),
    ],
)
def test_a_published_model_is_named_and_kept_under_its_own_name(reference: str, name: str, header: str) -> None:
    assert Reference.parse(reference).short(1) == name
    assert embeddings_path(reference, "folder", "val") == Path(header)


def test_a_folder_named_by_the_user_has_a_file_of_its_own(run: Run) -> None:
    path = embeddings_path(str(run.path), "folder", "val", data="/somewhere/photos")
    assert path.name == "folder-val-photos.embeddings.json"


def test_the_weights_identity_follows_tensors_and_protocol_and_not_names() -> None:
    def identity(network: Student, info: ModelInfo = INFO) -> str:
        return weights_identity(LoadedModel(network, info, "anywhere"))

    changed = student()
    with torch.no_grad():
        changed.network.pos_embed[0, 1, 2] = torch.nextafter(changed.network.pos_embed[0, 1, 2], torch.tensor(9.0))
    same = identity(student())
    assert same == identity(student(), replace(INFO, class_names=tuple("abcdefghij"), recipe="other"))
    others = [identity(changed), identity(student(), replace(INFO, mean=(0.4, 0.4, 0.4)))]
    others += [identity(student(), replace(INFO, exif_orientation=True)), identity(student(distilled=False))]
    assert len({same, *others}) == 5


def test_the_header_says_what_the_arrays_are_of(run: Run, digits: Data) -> None:
    found, _ = made(run.path, digits)
    header = json.loads((run.predictions / HEADER).read_text())
    assert header["weights"] == found.weights
    assert header["fingerprint"] == found.fingerprint
    assert (header["rows"], header["widths"], header["left_out"]) == (IMAGES, {"class": 32, "distillation": 32}, [])
