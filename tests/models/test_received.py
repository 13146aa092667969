"""Model folders and recipes that came from somebody else: nothing in them is executed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

from deitkit.errors import DeitkitError
from deitkit.models.load import ModelInfo, load_model, save_model
from deitkit.models.student import build_student
from deitkit.models.weights import open_reference
from deitkit.recipe.schema import Data, Model


class Trap:
    """A pickle that makes a file when it is executed."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.marker,))  # type: ignore[return-value]


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A model folder of timm's making, as others publish them."""
    own, folder = tmp_path / "own", tmp_path / "foreign"
    student = build_student(Model(name="deit_nano", image_size=16), 3)
    save_model(own, student, ModelInfo.of(Data(), (16, 16), ("a", "b", "c")))
    config = json.loads((own / "config.json").read_text())
    del config["deitkit"]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.save(load_file(own / "model.safetensors"), folder / "pytorch_model.bin")
    return folder


def test_pickled_weights_are_read_as_timm_reads_them(foreign: Path) -> None:
    theirs = timm.create_model(f"local-dir:{foreign}", pretrained=True).state_dict()
    ours = open_reference(str(foreign)).state
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert load_model(str(foreign)).info.class_names == ("a", "b", "c")


def test_a_pickle_in_a_model_folder_is_not_executed(foreign: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    with (foreign / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Trap(marker), file)
    with pytest.raises(DeitkitError, match="not executed"):
        load_model(str(foreign))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("table", "name"),
    [("model_args", "checkpoint_path"), ("model_args", "pretrained_cfg"), ("pretrained_cfg", "file"),
     ("pretrained_cfg", "url"), ("pretrained_cfg", "custom_load")],
)  # fmt: skip
def test_a_config_that_points_to_other_weights_is_refused(foreign: Path, tmp_path: Path, table: str, name: str) -> None:
    marker, trap = tmp_path / "executed", tmp_path / "trap.pth"
    with trap.open("wb") as file:
        pickle.dump(Trap(marker), file)
    config = json.loads((foreign / "config.json").read_text())
    config[table][name] = str(trap)
    (foreign / "config.json").write_text(json.dumps(config))
    with pytest.raises(DeitkitError, match=f"{table} would read other weights: {name}"):
        load_model(str(foreign))
    assert not marker.exists()


def test_a_recipes_model_options_read_no_weights(tmp_path: Path) -> None:
    options = {"checkpoint_path": str(tmp_path / "trap.pth")}
    with pytest.raises(DeitkitError, match="would read other weights"):
        build_student(Model(name="deit_nano", options=options), 3)
