"""`deitkit export` through the command line: files that read back, and errors that lose nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from deitkit.cli.app import run
from deitkit.data.open import open_source
from deitkit.models.export.wanted import ENDINGS, FORMAT_NAMES
from deitkit.models.folder import save_model
from deitkit.models.load import LoadedModel, ModelInfo, load_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model

pytest.importorskip("onnxscript")
Capture = pytest.CaptureFixture[str]
DIGITS = tuple("0123456789")


def digits_model(folder: Path, *, name: str = "deit_nano", distilled: bool = True) -> LoadedModel:
    """A tiny model of random weights that knows the digits."""
    shape = {"embed_dim": 24, "depth": 1, "num_heads": 2} if name == "deit_nano" else {}
    model = Model(name=name, image_size=16, distilled=distilled, options=shape, drop_path=0.0)
    save_model(folder, build_student(model, 10, seed=3), ModelInfo.of(Data(dataset="digits"), (16, 16), DIGITS))
    return load_model(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distilled model, a plain one, and the distilled one's ONNX file."""
    root = tmp_path_factory.mktemp("export")
    digits_model(root / "student")
    digits_model(root / "plain", distilled=False)
    assert run(["export", str(root / "student"), "--to", "onnx", "--json"]) == 0
    return root


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def decisions(word: str, capsys: Capture) -> dict[str, int]:
    """How many of the digits each head has right."""
    assert run(["evaluate", word, "--json", "--device", "cpu"]) == 0
    found = json.loads(capsys.readouterr().out)["accuracy"]
    return {head: score["right"] for head, score in found.items()}


def error_of(words: list[str], capsys: Capture) -> str:
    assert run(words) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


def test_an_onnx_file_lies_beside_the_model_and_decides_as_it_does(place: Path, capsys: Capture) -> None:
    assert (place / "student.onnx").is_file()
    assert decisions(str(place / "student.onnx"), capsys) == decisions(str(place / "student"), capsys)
    assert run(["predict", str(place), "-m", str(place / "student.onnx")]) == 2  # which holds no images
    assert "holds no images" in capsys.readouterr().err


def test_a_file_beside_its_model_leaves_the_models_predictions_alone(place: Path, capsys: Capture) -> None:
    shutil.copytree(place / "student", "mine", ignore=shutil.ignore_patterns("predictions"))
    decisions("mine", capsys)
    kept = Path("mine/predictions/digits-val.parquet")
    before = kept.read_bytes()
    for to in ("onnx", "safetensors"):
        assert run(["export", "mine", "--to", to, "--json"]) == 0
        capsys.readouterr()
        decisions(f"mine.{to}", capsys)
        assert Path(f"mine_{to}/predictions/digits-val.parquet").is_file()
    assert kept.read_bytes() == before


def test_what_was_exported_is_told(place: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["export", f"{place}/student:class", "--to", "onnx", "-o", str(tmp_path / "new" / "one.onnx")]
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["heads"] == ["class"] and found["bytes"] == (tmp_path / "new" / "one.onnx").stat().st_size
    assert found["checked"]["what"] == "32 images of digits/val" and found["checked"]["difference"] <= 1e-4


def test_what_is_there_stays_unless_overwriting_is_asked_for(place: Path, capsys: Capture) -> None:
    before = (place / "student.onnx").read_bytes()
    assert "--overwrite" in error_of(["export", str(place / "student"), "--to", "onnx"], capsys)
    assert "no distillation head" in error_of(
        ["export", f"{place}/plain:distillation", "--to", "onnx", "-o", str(place / "student.onnx"), "--overwrite"],
        capsys,
    )
    assert (place / "student.onnx").read_bytes() == before
    Path("mine").mkdir()
    Path("mine", "photo.jpg").write_bytes(b"mine")
    for to, words in (("timm", "photo.jpg"), ("onnx", "NAME.onnx")):
        assert words in error_of(["export", str(place / "student"), "--to", to, "-o", "mine", "--overwrite"], capsys)
    assert Path("mine", "photo.jpg").read_bytes() == b"mine"


def test_8_bits_are_measured_beside_32_and_need_images(place: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["export", str(place / "student"), "--to", "onnx", "--precision", "int8", "--preprocess"]
    assert run([*words, "-o", "eight.onnx", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["pixels"]["largest"] <= 1 and found["checked"]["allowed"] is None
    plain, eight = found["measured"]
    assert (plain["precision"], eight["precision"]) == ("fp32", "int8") and plain["images"] == eight["images"] == 360
    assert plain["right"] == decisions(str(place / "student"), capsys)["fused"]
    assert eight["right"] == decisions("eight.onnx", capsys)["fused"]
    config = json.loads((place / "student" / "config.json").read_text())
    config["deitkit"]["dataset"] = "cars"  # which is not here
    shutil.copytree(place / "student", "elsewhere")
    Path("elsewhere", "config.json").write_text(json.dumps(config))
    said = error_of(["export", "elsewhere", *words[2:]], capsys)
    assert "int8 needs real images" in said and "--data" in said and not Path("elsewhere_int8.onnx").exists()


def test_a_folder_that_cannot_be_written_is_told_before_the_work(place: Path, tmp_path: Path, capsys: Capture) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    if os.access(locked, os.W_OK):
        locked = Path("/proc/here")  # root may write everywhere else
    said = error_of(["export", str(place / "student"), "--to", "onnx", "-o", str(locked / "x.onnx")], capsys)
    assert "cannot write" in said and "--output" in said


# Read back by everything that takes a model

READERS = {
    "predict": "predict IMAGE --model REF --device cpu",
    "disagreement": "analyze disagreement REF STUDENT --resamples 2 --device cpu -o out",
    "errors": "analyze errors REF --no-images --device cpu -o out",
    "tokens": "analyze tokens REF --device cpu -o out",
    "positions": "analyze positions REF --no-accuracy -o out",
    "attention": "analyze attention IMAGE --model REF --device cpu -o out",
    "resolutions": "analyze resolutions REF --no-accuracy --no-speed --no-finetuned --sizes 16 -o out",
    "tradeoff": "analyze tradeoff REF STUDENT --no-speed --x parameters --device cpu -o out",
    "upscale": "upscale REF --to 24 --dry-run",
    "distill": "distill -r quickstart/student --teacher REF --set teacher.check=false --epochs 1 -j 0 --device cpu"
    " --set schedule.warmup_epochs=0 -o run",
}  # fmt: skip
LOOKS_INSIDE = {"tokens", "positions", "attention", "resolutions", "upscale"}


@pytest.mark.slow
@pytest.mark.parametrize("to", [*FORMAT_NAMES, "onnx --precision fp16", "onnx --precision int8"])
def test_everything_that_takes_a_model_takes_what_was_exported(to: str, place: Path, capsys: Capture) -> None:
    source = open_source(Data(dataset="digits"), "val")
    Path("digit.png").write_bytes(source.read(0))
    written = f"it{ENDINGS[to.split()[0]]}"  # type: ignore[index]
    assert run(["export", str(place / "student"), "--to", *to.split(), "-o", written]) == 0
    for name, line in READERS.items():
        said = line.replace("REF", written).replace("STUDENT", str(place / "student")).replace("IMAGE", "digit.png")
        code = run([*said.split(), *(["--overwrite"] if "-o" in said else [])])
        refused = "int8" in to and name in LOOKS_INSIDE
        error = capsys.readouterr().err
        assert code == (2 if refused else 0), f"{name}: {error}"
        assert not refused or "8 bits" in error
