"""ONNX files as teachers: any layout, any number format, any batch; what it answers is what the graph computes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deitkit.errors import DeitkitError
from deitkit.recipe.schema import TeacherTable
from deitkit.teachers import Classifier, open_classifier, open_teacher
from tests.teachers.conftest import recipe, seen

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

ABC = ("a", "b", "c")
SIDE = 8
WEIGHTS = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


def write(
    path: Path, *, layout: str = "NCHW", kind: str = "FLOAT", batch: object = "batch", size: object = "size",
    outputs: tuple[str, ...] = ("logits",), softmax: bool = False, **metadata: object,
) -> str:  # fmt: skip
    """A linear classifier of the channels' means."""
    helper, types = onnx.helper, onnx.TensorProto
    axes = [2, 3] if layout == "NCHW" else [1, 2]
    shape = [batch, 3, size, size] if layout == "NCHW" else [batch, size, size, 3]
    last = "product" if softmax else outputs[0]
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=types.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["means"], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], [last]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["product"], [outputs[0]], axis=1))
    nodes += [helper.make_node("Neg", [outputs[0]], [name]) for name in outputs[1:]]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", getattr(types, kind), shape)],
        [helper.make_tensor_value_info(name, types.FLOAT, [batch, 3]) for name in outputs],
        [onnx.numpy_helper.from_array(WEIGHTS, "weights"),
         onnx.numpy_helper.from_array(np.array(axes), "axes")],
    )  # fmt: skip
    return save(path, graph, metadata)


def save(path: Path, graph: Any, metadata: dict[str, object]) -> str:
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    )
    model.ir_version = 9
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.save(model, path)
    return str(path)


def opened(reference: str, **keys: Any) -> Classifier:
    return open_classifier(reference, TeacherTable(model=reference, **keys), size=(SIDE, SIDE))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", ["batch", 1, 5], ids=["any", "one", "five"])
@pytest.mark.parametrize(("kind", "values"), [("FLOAT", "0..1"), ("FLOAT", "0..255"), ("UINT8", "0..255"),
                                              ("FLOAT16", "0..1"), ("DOUBLE", "0..1")])  # fmt: skip
def test_every_layout_batch_and_number_format_gives_the_graphs_answers(
    layout: str, batch: object, kind: str, values: str, tmp_path: Path
) -> None:
    plain = {} if kind == "UINT8" else {"mean": [0, 0, 0], "std": [1, 1, 1], "input": values}
    reference = write(tmp_path / "t.onnx", layout=layout, kind=kind, batch=batch, class_names=ABC, **plain)
    spec = recipe(reference)
    pixels = torch.randint(0, 256, (7, 3, 32, 32)) / 255
    scale = 255 if values == "0..255" else 1
    expected = (pixels * scale).mean((2, 3)) @ torch.from_numpy(WEIGHTS)
    answered = open_teacher(spec, ABC)(seen(pixels, spec), group=7)
    torch.testing.assert_close(answered, expected, rtol=1e-3, atol=2e-3 if kind == "FLOAT16" else 1e-4)


def test_a_fixed_size_has_views_resized_and_says_so(tmp_path: Path) -> None:
    spec = recipe(write(tmp_path / "t.onnx", size=24, class_names=ABC))
    teacher = open_teacher(spec, ABC)
    images = torch.randn(4, 3, 32, 32)
    smaller = torch.nn.functional.interpolate(images, (24, 24), mode="bicubic", antialias=True)
    expected = smaller.mean((2, 3)) @ torch.from_numpy(WEIGHTS)
    torch.testing.assert_close(teacher(images, group=4), expected)
    assert any("from 32x32 to 24x24" in note for note in teacher.facts.notes)
    with pytest.raises(DeitkitError, match="takes 24x24 px only"):
        open_teacher(recipe(str(tmp_path / "t.onnx"), image_size=32), ABC)


def test_metadata_are_read_and_the_recipe_may_say_otherwise(tmp_path: Path) -> None:
    reference = write(tmp_path / "t.onnx", class_names=ABC, mean=[0.1, 0.2, 0.3], std=[1, 1, 1], channels="bgr")
    classifier = opened(reference)
    assert (classifier.class_names, classifier.input.mean, classifier.input.channels) == (ABC, (0.1, 0.2, 0.3), "bgr")
    assert opened(reference, channels="rgb").input.channels == "rgb"
    with pytest.raises(DeitkitError, match="says of itself what cannot be") as caught:
        opened(write(tmp_path / "t.onnx", mean=[0.1, 0.2]))
    assert "mean" in caught.value.problems[0]


def test_probabilities_are_recognised(tmp_path: Path) -> None:
    classifier = opened(write(tmp_path / "t.onnx", softmax=True))
    assert classifier.scores == "probabilities" and any("probabilities" in note for note in classifier.notes)


def test_of_several_outputs_one_is_chosen_by_name(tmp_path: Path) -> None:
    reference = write(tmp_path / "t.onnx", outputs=("logits", "auxiliary"))
    with pytest.raises(DeitkitError, match="2 outputs that could be its scores") as caught:
        opened(reference)
    assert caught.value.choices == ("logits", "auxiliary")
    first, second = opened(reference, output="logits"), opened(reference, output="auxiliary")
    images = torch.randn(2, 3, SIDE, SIDE)
    assert torch.equal(first.network(images), -second.network(images))
    assert first.identity != second.identity and any("'logits' is taken" in note for note in first.notes)
    with pytest.raises(DeitkitError, match="Did you mean logits"):
        opened(reference, output="logit")


def test_a_scikit_learn_classifier_teaches(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    digits = load_digits()
    model = LogisticRegression(tol=0.1).fit(digits.data[:500] / 16, digits.target[:500])
    helper, types = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node(
            "LinearClassifier", ["pixels"], ["label", "raw"], domain="ai.onnx.ml", post_transform="SOFTMAX",
            coefficients=model.coef_.flatten().tolist(), intercepts=model.intercept_.tolist(),
            classlabels_ints=list(range(10)),
        ),
        helper.make_node("Identity", ["raw"], ["probabilities"]),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("pixels", types.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("label", types.INT64, ["n"]),
         helper.make_tensor_value_info("probabilities", types.FLOAT, ["n", 10])],
    )  # fmt: skip
    names = [str(digit) for digit in range(10)]
    reference = save(tmp_path / "digits.onnx", graph, {"class_names": names})
    classifier = opened(reference)
    assert (classifier.scores, classifier.input.size, classifier.input.channels) == ("probabilities", (8, 8), "grey")
    grey = torch.from_numpy(digits.images[500:700] / 16).float()[:, None].expand(-1, 3, -1, -1)
    answered = classifier.answering(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))(grey).argmax(dim=1)
    assert (answered.numpy() == model.predict(digits.data[500:700] / 16)).mean() > 0.99


def test_the_identity_is_the_files(tmp_path: Path) -> None:
    first, again = write(tmp_path / "a.onnx"), write(tmp_path / "b.onnx")
    assert opened(first).identity == opened(again).identity
    WEIGHTS[0, 0] += 1
    assert opened(write(tmp_path / "c.onnx")).identity != opened(first).identity
    WEIGHTS[0, 0] -= 1
    assert opened(first).parameters == 9 + 2


# Bad files


def test_a_damaged_or_missing_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.onnx"
    with pytest.raises(DeitkitError, match="does not exist"):
        opened(str(path))
    whole = Path(write(path)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DeitkitError, match="no ONNX model that onnxruntime"):
        opened(str(path))


def test_an_input_that_is_no_image_is_shown(tmp_path: Path) -> None:
    helper, types = onnx.helper, onnx.TensorProto
    for kind, shape in ((types.INT64, ["n", 128]), (types.FLOAT, ["n", 5, 8, 8]), (types.FLOAT, ["n", "f"])):
        graph = helper.make_graph(
            [helper.make_node("Identity", ["tokens"], ["out"])], "g",
            [helper.make_tensor_value_info("tokens", kind, shape)], [helper.make_tensor_value_info("out", kind, shape)],
        )  # fmt: skip
        with pytest.raises(DeitkitError, match="no input that takes images") as caught:
            opened(save(tmp_path / "t.onnx", graph, {}))
        assert "tokens" in caught.value.problems[0]


def test_uint8_pixels_cannot_be_normalised(tmp_path: Path) -> None:
    with pytest.raises(DeitkitError, match="uint8 pixels, which cannot be normalised"):
        opened(write(tmp_path / "t.onnx", kind="UINT8"), mean=(0.5, 0.5, 0.5))


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference = write(tmp_path / "t.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeitkitError, match="not installed") as caught:
        opened(reference)
    assert "deitkit[onnx]" in caught.value.remedy
