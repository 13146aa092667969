"""ONNX files against the model they were made of, by onnxruntime alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from deitkit.data.views.augment import evaluation_view
from deitkit.errors import DeitkitError
from deitkit.models.export import onnx as onnx_format
from deitkit.models.export.check import Samples
from deitkit.models.export.preprocess import with_preprocessing
from deitkit.models.export.wanted import Wanted
from deitkit.models.load import LoadedModel, ModelInfo, load_classifier, load_model
from deitkit.models.reference import Reference
from deitkit.models.student import build_student
from deitkit.recipe.schema import Data, Model
from tests.models.export.conftest import NAMES, SIZE

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def file(distilled: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    onnx_format.write(distilled, path, Wanted("onnx"))
    return path


def run(file: Path, images: torch.Tensor) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(str(file))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images.numpy()}), strict=True))


@pytest.mark.parametrize("batch", [1, 5])
def test_a_batch_of_any_size_gives_the_models_logits_and_the_papers_sum(
    file: Path, distilled: LoadedModel, samples: Samples, batch: int
) -> None:
    found = run(file, samples.images[:batch])
    with torch.inference_mode():
        heads = distilled.student(samples.images[:batch])
    np.testing.assert_allclose(found["class_logits"], heads.classes.numpy(), atol=1e-4)
    np.testing.assert_allclose(found["distillation_logits"], heads.logits()["distillation"].numpy(), atol=1e-4)
    both = (softmax(found["class_logits"], axis=1) + softmax(found["distillation_logits"], axis=1)) / 2
    np.testing.assert_allclose(found["probabilities"], both, atol=1e-6)


def test_metadata_say_how_images_are_prepared_and_what_the_classes_are(file: Path) -> None:
    said = onnxruntime.InferenceSession(str(file)).get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == list(NAMES)
    shown = json.loads(said["preprocessing"])
    assert (shown["resize_short_side"], shown["image_size"], shown["crop"]) == ([18, 18], list(SIZE), "centre")
    assert (shown["mean"], shown["std"], shown["channels"]) == ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4], "rgb")


def test_it_is_read_back_as_a_model_with_its_heads_and_its_very_weights(
    file: Path, distilled: LoadedModel, samples: Samples
) -> None:
    assert Reference.parse(f"{file}:class") == Reference(str(file), head="class")
    assert Reference(str(file)).kind == "exported"
    answering, inside = load_classifier(str(file)), load_model(str(file))
    assert answering.info == inside.info == distilled.info
    state = distilled.student.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in inside.student.network.state_dict().items())
    heads, own = answering.student(samples.images), distilled.student(samples.images)
    torch.testing.assert_close(heads.fused(), own.fused().detach(), atol=1e-5, rtol=1e-4)


def test_half_precision_is_near_and_leaves_the_model_as_it_was(
    distilled: LoadedModel, samples: Samples, tmp_path: Path
) -> None:
    before = {key: value.clone() for key, value in distilled.student.state_dict().items()}
    onnx_format.write(distilled, tmp_path / "half.onnx", Wanted("onnx", "fp16"))
    after = distilled.student.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    found, own = run(tmp_path / "half.onnx", samples.images), distilled.student(samples.images)
    assert 0 < np.abs(found["class_logits"] - own.classes.detach().numpy()).max() < 0.1
    assert load_model(str(tmp_path / "half.onnx")).student.network.head.weight.dtype == torch.float32


def test_a_cut_file_is_damaged_and_an_unknown_opset_is_refused(
    file: Path, distilled: LoadedModel, tmp_path: Path
) -> None:
    content = file.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(DeitkitError, match=r"damaged"):
        load_classifier(str(tmp_path / "cut.onnx"))
    with pytest.raises(DeitkitError, match="knows no opset 99"):
        onnx_format.write(distilled, tmp_path / "new.onnx", Wanted("onnx", opset=99))


def test_tensors_at_their_start_are_found_again_though_the_exporter_leaves_some_out(tmp_path: Path) -> None:
    shape = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    student = build_student(Model(name="deit_nano", image_size=16, distilled=True, options=shape), len(NAMES)).eval()
    model = LoadedModel(student, ModelInfo.of(Data(), SIZE, NAMES), "fresh")
    onnx_format.write(model, tmp_path / "fresh.onnx", Wanted("onnx"))
    state = student.network.state_dict()
    inside = load_model(str(tmp_path / "fresh.onnx")).student.network.state_dict()
    assert inside.keys() == state.keys() and all(torch.equal(inside[key], state[key]) for key in state)


# Pre-processing in the graph, and 8 bits


@pytest.mark.parametrize(("interpolation", "crop_ratio"), [("bicubic", 0.875), ("bilinear", 1.0)])
def test_the_graphs_view_is_pillows_up_to_a_rare_step(interpolation: str, crop_ratio: float) -> None:
    from PIL import Image

    onnx = pytest.importorskip("onnx")
    info = ModelInfo.of(Data(crop_ratio=crop_ratio, interpolation=interpolation), (24, 16), NAMES)
    nothing = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 18]> core (float[batch, 3, 24, 16] images) => '
        "(float[batch, 3, 24, 16] same) { same = Identity (images) }"
    )
    session = onnxruntime.InferenceSession(with_preprocessing(nothing, info).SerializeToString())
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (info.mean, info.std))
    rng = np.random.default_rng(0)
    for height, width in ((90, 61), (30, 100), (7, 5)):
        images = np.repeat(np.repeat(rng.integers(0, 256, (2, height, width, 3), dtype=np.uint8), 2, 1), 2, 2)
        (views,) = session.run(None, {"pixels": images})
        for image, view in zip(images, views, strict=True):
            expected = evaluation_view(Image.fromarray(image), info.size, crop_ratio, interpolation)
            steps = np.abs(np.rint((view * std + mean) * 255) - expected)
            assert steps.max() <= 2 and (steps > 0).mean() < 0.03


def test_a_file_of_8_bits_that_prepares_images_itself_is_read_back(
    distilled: LoadedModel, samples: Samples, tmp_path: Path
) -> None:
    path = tmp_path / "int8.onnx"
    onnx_format.write(distilled, path, Wanted("onnx", "int8", preprocess=True), calibration=samples.images)
    session = onnxruntime.InferenceSession(str(path))
    assert [(one.name, one.type) for one in session.get_inputs()] == [("pixels", "tensor(uint8)")]
    own = distilled.student(samples.images).classes.detach()
    found = load_classifier(str(path)).student(samples.images).classes
    assert 0 < float((found - own).abs().max()) < float(own.abs().max()) / 2
    with pytest.raises(DeitkitError, match="keeps its weights in 8 bits"):
        load_model(str(path))
