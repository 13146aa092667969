"""A folder on a hub: nothing without a yes, what was uploaded is what was written, and it is read back by its name."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch

from deitkit.cli.app import run
from deitkit.models.folder import save_model
from deitkit.models.load import LoadedModel, load_model
from tests.models.export.conftest import SIZE
from tests.models.export.hub_server import TOKEN, Hub, running_hub

NAME = "somebody/tiny"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of this test's own, an empty cache, and a user who is logged in."""
    constants = huggingface_hub.constants
    with running_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.chdir(tmp_path)
        yield server


@pytest.fixture
def words(distilled: LoadedModel, hub: Hub) -> list[str]:
    save_model(Path("student"), distilled.student, distilled.info)
    return ["export", "student", "--to", "timm", "--license", "mit", "--push", NAME]


def test_a_folder_goes_to_the_hub_and_comes_back_by_its_name(
    words: list[str], hub: Hub, distilled: LoadedModel, capsys: Capture
) -> None:
    assert run([*words, "--yes", "--private", "--json"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["pushed"] == f"{hub.address}/{NAME}"
    assert hub.private[NAME] and hub.files[NAME].keys() == {"README.md", "config.json", "model.safetensors"}
    assert all(Path("student_timm", name).read_bytes() == content for name, content in hub.files[NAME].items())
    again = load_model(f"hf-hub:{NAME}")
    assert again.info == distilled.info
    images = torch.randn(2, 3, *SIZE)
    with torch.inference_mode():
        network = timm.create_model(f"hf-hub:{NAME}", pretrained=True).eval()
        torch.testing.assert_close(network(images), distilled.student(images).average_logits())
        assert torch.equal(again.student(images).classes, distilled.student(images).classes)
    assert not [each for each in hub.others if each.startswith("POST")]


def test_nothing_is_uploaded_without_a_yes(
    words: list[str], hub: Hub, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(words) == 2  # nobody to ask: refused before anything is written
    assert "--yes" in capsys.readouterr().err and not Path("student_timm").exists()
    answers = io.StringIO("n\n")
    answers.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", answers)
    assert run(words) == 0
    said = capsys.readouterr().err
    assert NAME in said and "everybody" in said and "nothing was uploaded" in said
    assert not hub.files and Path("student_timm", "README.md").is_file()


def test_a_hub_that_refuses_leaves_the_folder_and_says_what_to_do(
    words: list[str], hub: Hub, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    assert run([*words, "--yes"]) == 2
    said = capsys.readouterr().err
    assert "was not uploaded" in said and "hf auth login" in said and "Traceback" not in said
    assert Path("student_timm", "model.safetensors").is_file() and not hub.files


@pytest.mark.parametrize(("changed", "told"), [(["--to", "onnx"], "writes a file"), (["--push", "tiny"], "OWNER/NAME")])
def test_what_is_no_repository_is_refused(words: list[str], changed: list[str], told: str, capsys: Capture) -> None:
    assert run([word for word in [*words, "--yes", *changed] if word not in ("--license", "mit")]) == 2
    assert told in capsys.readouterr().err
