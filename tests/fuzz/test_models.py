"""Model folders and weights files changed at random: config.json, .pth in both of torch's forms, .safetensors."""

from __future__ import annotations

import argparse
import io
import random
import resource
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from deitkit.cli.app import run as deitkit
from deitkit.errors import DeitkitError
from deitkit.models.load import ModelInfo, load_info, load_model, save_model
from deitkit.models.student import build_student
from deitkit.models.weight_files import read_weights_file
from deitkit.models.weights import describe
from deitkit.recipe.schema import Data, Model
from tests.fuzz.mutations import changed_bytes, changed_json, fuzz, refuse_crashes

FEW, MANY = 100, 1500
COUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]
ROOM = 16 * 2**30  # bytes of address space: what a changed number claims must not be taken


@pytest.fixture(autouse=True)
def _little_room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest of models: 2 layers of width 16."""
    path = tmp_path_factory.mktemp("model") / "m"
    tiny = Model(name="deit_nano", distilled=True, image_size=16, options={"embed_dim": 16, "depth": 2, "num_heads": 2})
    names = ("cat", "dog", "owl")
    save_model(path, build_student(tiny, 3), ModelInfo.of(Data(), (16, 16), names, data_fingerprint="f00d"))
    return path


def placed(folder: Path, content: bytes) -> str:
    (folder / "config.json").write_bytes(content)
    return str(folder)


@pytest.mark.parametrize("count", COUNTS)
def test_a_config(folder: Path, count: int) -> None:
    before = (folder / "config.json").read_bytes()
    try:
        found = fuzz("config.json", before, changed_json, lambda words: load_info(placed(folder, words)), count=count)
    finally:
        placed(folder, before)
    refuse_crashes(found)


@pytest.mark.slow
def test_a_config_of_timms_making(folder: Path) -> None:
    import json

    before = (folder / "config.json").read_bytes()
    values = {key: value for key, value in json.loads(before).items() if key != "deitkit"}
    try:
        found = fuzz(
            "config.json of timm", json.dumps(values).encode(), changed_json,
            lambda words: describe(placed(folder, words)), count=MANY,
        )  # fmt: skip
    finally:
        placed(folder, before)
    refuse_crashes(found)


@pytest.mark.parametrize("count", [10, pytest.param(400, marks=pytest.mark.slow)])
def test_a_model_whose_config_was_changed_predicts_or_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    from PIL import Image

    Image.new("RGB", (20, 20), "red").save(tmp_path / "i.png")
    before = (folder / "config.json").read_bytes()

    def read(words: bytes) -> object:
        if code := deitkit(["predict", str(tmp_path / "i.png"), "--model", placed(folder, words), "--device", "cpu"]):
            raise DeitkitError(f"exit code {code}")
        return code

    try:
        found = fuzz("config.json, predict", before, changed_json, read, count=count)
    finally:
        placed(folder, before)
    capsys.readouterr()
    refuse_crashes(found)


# Weights files


def state() -> dict[str, torch.Tensor]:
    return {"head.weight": torch.randn(3, 4), "head.bias": torch.zeros(3), "norm": torch.ones(2, dtype=torch.bfloat16)}


def pth(content: object, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


FILES = {
    "zip.pth": pth(state()),
    "legacy.pth": pth(state(), legacy=True),
    "reference.pth": pth({"model": state(), "args": argparse.Namespace(model="deit_tiny_patch16_224"), "epoch": 3}),
    "w.safetensors": save(state()),
}


def changed_pickle(content: bytes, rng: random.Random) -> bytes:
    """A .pth whose archive is whole, and whose pickle is changed: what a checksum does not find."""
    if rng.random() < 0.5 or not content.startswith(b"PK"):
        return changed_bytes(content, rng)
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            inside = old.read(name)
            new.writestr(name, changed_bytes(inside, rng) if name.endswith("data.pkl") else inside)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", FILES)
def test_a_weights_file(tmp_path: Path, name: str, count: int) -> None:
    path = tmp_path / name

    def read(content: bytes) -> object:
        path.write_bytes(content)
        return read_weights_file(path)

    refuse_crashes(fuzz(name, FILES[name], changed_pickle, read, count=count))


def test_a_weights_file_as_a_model(tmp_path: Path) -> None:
    path, content = (
        tmp_path / "w.safetensors",
        save(build_student(Model(name="deit_nano", image_size=16), 3).state_dict()),
    )

    def read(changed: bytes) -> object:
        path.write_bytes(changed)
        return load_model(str(path))

    refuse_crashes(fuzz("w.safetensors as a model", content, changed_bytes, read, count=20))


def test_a_git_lfs_pointer_is_named(tmp_path: Path) -> None:
    for name in ("w.pth", "w.safetensors"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 23\n")
        with pytest.raises(DeitkitError, match="is a Git LFS pointer") as caught:
            read_weights_file(tmp_path / name)
        assert "git lfs pull" in caught.value.remedy


def test_a_tensor_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(10**12)}, tmp_path / "w.pth")
    with pytest.raises(DeitkitError, match="larger than the file"):
        read_weights_file(tmp_path / "w.pth")


def test_a_config_that_claims_another_model_is_refused_before_it_is_built(folder: Path) -> None:
    before = (folder / "config.json").read_bytes()
    try:
        for old, new, words in (
            (b'"depth": 2', b'"depth": 1000000', "depth"), (b'"embed_dim": 16', b'"embed_dim": 1000000', "embed_dim"),
            (b'"dog",', b"", "two things of one"), (b'"mean": [', b'"mean": [0.1,', "mean"),
        ):  # fmt: skip
            with pytest.raises(DeitkitError, match=words):
                load_model(placed(folder, before.replace(old, new)))
    finally:
        placed(folder, before)
