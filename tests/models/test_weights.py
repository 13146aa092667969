"""A reference -> weights: files, folders, timm's names and the hub, with and without a network."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf

from deitkit.errors import DeitkitError
from deitkit.models import hub
from deitkit.models.load import ModelInfo, load_info, load_model, save_model
from deitkit.models.student import Student, build_student
from deitkit.models.weights import describe, open_reference
from deitkit.recipe.schema import Data, Model

COMMIT = "a" * 40
# timm's smallest published transformer, 160 px, 1,000 classes of ImageNet.
SMALL = "test_vit.r160_in1k"
CIFAR = ("bird", "cat", "dog")


def nano(*, distilled: bool = False, classes: int = 3) -> Student:
    return build_student(Model(name="deit_nano", distilled=distilled, image_size=24), classes).eval()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(cache: Path, repository: str) -> Path:
    """The folder of a repository's commit, laid out as the hub's client does."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    (root / "snapshots" / COMMIT).mkdir(parents=True)
    return root / "snapshots" / COMMIT


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("the hub was asked")


# Files of the reference


@pytest.mark.parametrize(
    ("architecture", "positions"),
    [("deit_tiny_patch16_224", 197), ("deit_tiny_distilled_patch16_224", 198)],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_the_references_checkpoint_is_read_with_its_arguments(
    tmp_path: Path, architecture: str, positions: int, zipped: bool
) -> None:
    network = timm.create_model(architecture).eval()
    args = argparse.Namespace(model=architecture, lr=5e-4, output_dir="/x", distributed=True)
    saved = {"model": network.state_dict(), "args": args, "epoch": 3, "scaler": {"scale": 1.0}}
    torch.save(saved, tmp_path / "checkpoint.pth", _use_new_zipfile_serialization=zipped)
    weights = open_reference(str(tmp_path / "checkpoint.pth"))
    assert (weights.known.architecture, weights.grid) == (architecture, (14, 14))
    assert weights.known.class_names is None
    assert weights.state["pos_embed"].shape[1] == positions
    assert weights.known.distilled == ("distilled" in architecture)
    model = load_model(tmp_path / "checkpoint.pth")
    images = torch.randn(1, 3, 224, 224)
    assert torch.equal(model.student(images).average_logits(), network(images))


def test_a_released_384_file_is_known_by_its_shapes(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = timm.create_model("deit_base_distilled_patch16_384").state_dict()
    torch.save({"model": {key: torch.zeros(value.shape) for key, value in shapes.items()}}, tmp_path / "w.pth")
    known = describe(str(tmp_path / "w.pth"))
    assert (known.size, known.distilled) == ((384, 384), True)
    sizes = {key: known.arguments[key] for key in ("embed_dim", "depth", "num_heads", "patch_size", "num_classes")}
    assert sizes == {"embed_dim": 768, "depth": 12, "num_heads": 12, "patch_size": 16, "num_classes": 1000}


def test_wrappers_before_the_keys_are_left_out_and_said(tmp_path: Path) -> None:
    state = nano().network.state_dict()
    wrapped = {f"module._orig_mod.{key}": value for key, value in state.items()}
    torch.save({"model": wrapped, "model_ema": state}, tmp_path / "w.pth")
    weights = open_reference(str(tmp_path / "w.pth"))
    assert weights.state.keys() == state.keys()
    assert weights.known.notes == (
        "the file's 'model' was taken, not its 'model_ema'",
        "what torch.compile or FSDP put into the names was left out",
        "'module.' before every key was left out",
        "taken as 4 heads of 16 numbers, which no shape tells (model.options.num_heads)",
    )


@pytest.mark.parametrize("entry", ["state_dict", "model_ema"])
def test_other_entries_of_checkpoints_are_found(tmp_path: Path, entry: str) -> None:
    torch.save({entry: nano().network.state_dict(), "arch": "deit_tiny_patch16_224"}, tmp_path / "w.pth")
    assert "cls_token" in open_reference(str(tmp_path / "w.pth")).state


class Payload:
    """A pickle that would create a file when loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_foreign_code_behind_the_references_arguments_is_refused_and_not_executed(tmp_path: Path) -> None:
    args = argparse.Namespace(model="deit_tiny_patch16_224", output_dir=Payload(tmp_path / "executed"))
    torch.save({"model": nano().network.state_dict(), "args": args}, tmp_path / "w.pth")
    with pytest.raises(DeitkitError, match=r"foreign code.* and was not executed"):
        open_reference(str(tmp_path / "w.pth"))
    assert not (tmp_path / "executed").exists()


def test_a_file_without_a_state_dict_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "model": "deit"}, tmp_path / "w.pth")
    with pytest.raises(DeitkitError, match="holds no state dict"):
        open_reference(str(tmp_path / "w.pth"))


# Folders


def test_a_model_file_beside_its_config_is_known_as_its_folder_is(tmp_path: Path) -> None:
    save_model(tmp_path / "model", nano(), ModelInfo.of(Data(), (24, 24), CIFAR, data_fingerprint="f00d"))
    weights = open_reference(str(tmp_path / "model" / "model.safetensors"))
    assert weights.known.class_names == CIFAR
    assert weights.known.info is not None and weights.known.info.data_fingerprint == "f00d"


def test_a_run_without_a_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DeitkitError, match="neither a run nor a model folder"):
        open_reference(str(tmp_path / "empty"))


def test_a_folder_of_timms_making_is_read(tmp_path: Path) -> None:
    network = timm.create_model("test_vit", num_classes=3).eval()
    save_for_hf(network, str(tmp_path / "w"), model_config={"label_names": list(CIFAR)}, safe_serialization=True)
    model = load_model(tmp_path / "w")
    assert model.info.class_names == CIFAR
    assert model.info.mean == (0.5, 0.5, 0.5) and model.info.size == (160, 160)
    images = torch.randn(1, 3, 160, 160)
    assert torch.equal(model.student(images).classes, network(images))


@pytest.mark.parametrize(
    ("reference", "remedy"),
    [
        ("runs/nothing/here", "deitkit runs list"),
        ("deit_tiny_patch16_224.fb_in1k", "timm:deit_tiny_patch16_224.fb_in1k"),
        ("timm/deit_tiny_patch16_224.fb_in1k", "hf-hub:timm/deit_tiny_patch16_224.fb_in1k"),
    ],
)
def test_what_is_nowhere_is_told_how_it_is_written(reference: str, remedy: str) -> None:
    with pytest.raises(DeitkitError, match="does not exist") as caught:
        open_reference(reference)
    assert remedy in caught.value.remedy


# timm's names


def test_a_published_model_is_described_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "fetch", refuse)
    known = describe("timm:deit_small_distilled_patch16_224.fb_in1k")
    assert (known.architecture, known.distilled, known.size) == (
        "deit_small_distilled_patch16_224", True, (224, 224),
    )  # fmt: skip
    assert known.class_names is not None
    assert (len(known.class_names), known.class_names[0], known.class_names[-1]) == (1000, "n01440764", "n15075141")
    assert load_info("timm:deit_small_distilled_patch16_224.fb_in1k").dataset == "imagenet"


def test_clip_features_have_no_class_names() -> None:
    assert describe("timm:vit_base_patch32_clip_224.laion2b").class_names is None


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("timm:deit_tinny_patch16_224", "Did you mean deit_tiny_patch16_224"),
        ("timm:deit_tiny_patch16_224.nonsense", "timm:deit_tiny_patch16_224.fb_in1k"),
        ("timm:vit_tiny_r_s16_p8_224.nonsense", "timm publishes no weights"),
        ("hf-hub:deit_tiny", "expected hf-hub:OWNER/NAME"),
    ],
)
def test_names_that_are_wrong_are_refused_before_any_network(
    monkeypatch: pytest.MonkeyPatch, reference: str, said: str
) -> None:
    monkeypatch.setattr(hub, "_download", refuse)
    with pytest.raises(DeitkitError) as caught:
        open_reference(reference)
    assert said in str(caught.value)


def test_cached_weights_are_taken_without_asking_the_hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = timm.create_model(SMALL).eval()
    save_file(network.state_dict(), cached(cache, f"timm/{SMALL}") / "model.safetensors")
    monkeypatch.setattr(hub, "_download", refuse)
    model = load_model(f"timm:{SMALL}")
    assert len(model.info.class_names) == 1000 and model.info.class_names[0] == "n01440764"
    images = torch.randn(1, 3, 160, 160)
    assert torch.equal(model.student(images).classes, network(images))
    save_model(cache / "saved", model.student, model.info)
    assert torch.equal(load_model(cache / "saved").student(images).classes, network(images))


# The hub


def test_a_deitkit_model_on_the_hub_brings_its_classes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cached(cache, "someone/pets")
    folder.rmdir()
    save_model(folder, nano(distilled=True), ModelInfo.of(Data(), (24, 24), CIFAR))
    monkeypatch.setattr(hub, "_download", refuse)
    for reference in ("hf-hub:someone/pets", "hub:someone/pets", f"hf-hub:someone/pets@{COMMIT}"):
        weights = open_reference(reference)
        assert weights.known.class_names == CIFAR and weights.known.distilled
        assert weights.grid == (6, 6)


def test_a_transformers_repository_is_known_by_its_config_and_its_pixels_by_the_processors(cache: Path) -> None:
    folder = cached(cache, "facebook/deit-tiny-distilled-patch16-224")
    config = {"model_type": "deit", "architectures": ["DeiTForImageClassificationWithTeacher"], "hidden_size": 192}
    config |= {"num_attention_heads": 3, "intermediate_size": 768, "id2label": {"0": "cat", "1": "dog"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    known = describe("hf-hub:facebook/deit-tiny-distilled-patch16-224")
    assert known.distilled and known.class_names == ("cat", "dog")
    assert known.info is not None and known.info.std == (0.25, 0.25, 0.25)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "swin"}))
    with pytest.raises(DeitkitError, match="a swin"):
        describe("hf-hub:facebook/deit-tiny-distilled-patch16-224")


class Hub(BaseHTTPRequestHandler):
    """The hub's answers to HEAD and GET for the files of one repository."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        body = self.files.get(self.path, b"")
        self.send_response(200 if body else 404)
        if not body:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def use_endpoint(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    endpoint = f"http://127.0.0.1:{port}"
    template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    use_endpoint(monkeypatch, server.server_address[1])
    yield Hub
    server.shutdown()
    server.server_close()
    Hub.files = {}


def test_weights_are_downloaded_once_and_then_cached(
    cache: Path, server: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = timm.create_model(SMALL)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    server.files = {f"/timm/{SMALL}/resolve/main/model.safetensors": (tmp_path / "w.safetensors").read_bytes()}
    first = open_reference(f"timm:{SMALL}")
    assert torch.equal(first.state["pos_embed"], network.state_dict()["pos_embed"])
    monkeypatch.setattr(hub, "_download", refuse)
    assert open_reference(f"timm:{SMALL}").state.keys() == first.state.keys()


def test_a_repository_without_safetensors_gives_its_other_file(cache: Path, server: type[Hub], tmp_path: Path) -> None:
    network = timm.create_model(SMALL)
    torch.save(network.state_dict(), tmp_path / "w.bin")
    server.files = {f"/timm/{SMALL}/resolve/main/pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    assert torch.equal(open_reference(f"timm:{SMALL}").state["pos_embed"], network.state_dict()["pos_embed"])


def test_a_repository_without_weights_is_said(cache: Path, server: type[Hub]) -> None:
    with pytest.raises(DeitkitError, match=r"has no model\.safetensors or pytorch_model\.bin on the hub"):
        open_reference(f"timm:{SMALL}")


@pytest.mark.parametrize("reference", [f"timm:{SMALL}", f"hf-hub:timm/{SMALL}"])
def test_offline_with_nothing_cached_names_two_commands_at_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    use_endpoint(monkeypatch, 9)  # nobody listens
    began = time.perf_counter()
    with pytest.raises(DeitkitError, match="not at hand: nothing is cached") as caught:
        open_reference(reference)
    assert time.perf_counter() - began < hub.PATIENCE_S + 1
    assert f"hf download timm/{SMALL} config.json model.safetensors --local-dir {SMALL}" in caught.value.remedy
    assert f"deitkit finetune --from {SMALL}" in caught.value.remedy


def test_what_the_first_command_downloads_is_what_the_second_opens(tmp_path: Path) -> None:
    network = timm.create_model(SMALL)
    save_for_hf(network, str(tmp_path / SMALL), safe_serialization=True)
    assert {path.name for path in (tmp_path / SMALL).iterdir()} >= {"config.json", "model.safetensors"}
    weights = open_reference(str(tmp_path / SMALL))
    assert weights.known.class_names == describe(f"timm:{SMALL}").class_names
    assert torch.equal(weights.state["pos_embed"], network.state_dict()["pos_embed"])
