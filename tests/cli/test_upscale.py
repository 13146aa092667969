"""`deitkit upscale` through the command line's own function, on files and folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deitkit.cli.app import run
from deitkit.cli.upscale import default_folder, parse_size
from deitkit.errors import DeitkitError
from deitkit.models.load import load_model
from deitkit.models.student import build_student
from deitkit.recipe.schema import Model


def test_a_references_checkpoint_upscales_beside_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True), 3)
    torch.save({"model": student.network.state_dict(), "epoch": 3}, tmp_path / "best.pth")
    assert run(["upscale", str(tmp_path / "best.pth"), "--to", "24"]) == 0
    assert "bicubic" in capsys.readouterr().out
    assert load_model(tmp_path / "best_24").info.size == (24, 24)


@pytest.mark.parametrize(
    ("model", "folder"),
    [
        ("runs/a/", "runs/a_384"),
        ("runs/v1.2", "runs/v1.2_384"),
        ("timm:deit_tiny_patch16_224.fb_in1k", "deit_tiny_patch16_224.fb_in1k_384"),
        ("hf-hub:someone/pets@v2", "pets_384"),
    ],
)
def test_a_new_folder_lies_beside_the_old_one_or_here(model: str, folder: str) -> None:
    assert default_folder(model, "384") == Path(folder)


@pytest.mark.parametrize("text", ["", "big", "0", "3x3x3"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(DeitkitError, match="expected pixels"):
        parse_size(text)
