"""Teachers that a Python function makes, good ones and broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deitkit.errors import DeitkitError
from deitkit.recipe.schema import TeacherTable
from deitkit.teachers import Classifier, open_classifier, open_teacher
from deitkit.teachers.factory import parse
from tests.teachers.conftest import WriteFactory, recipe, seen

ABC = ("a", "b", "c")
MEANS = """
class Means(nn.Module):
    class_names = ["c", "a", "b"]
    mean, std = (0.5, 0.5, 0.5), [0.25, 0.25, 0.25]
    def forward(self, images):
        return images.mean((2, 3))

def make():
    return Means()
"""


def opened(reference: str) -> Classifier:
    return open_classifier(reference, TeacherTable(model=reference), size=(8, 8))


def test_what_the_module_says_of_itself_is_heeded(write_factory: WriteFactory) -> None:
    spec = recipe(write_factory(MEANS))
    teacher = open_teacher(spec, ABC)
    pixels = torch.rand(4, 3, 32, 32)
    expected = ((pixels - 0.5) / 0.25).mean((2, 3))[:, [1, 2, 0]]
    torch.testing.assert_close(teacher(seen(pixels, spec), group=4), expected, rtol=1e-4, atol=1e-5)
    assert any("was executed" in note for note in teacher.facts.notes)


def test_a_callable_may_answer_with_numpy(write_factory: WriteFactory) -> None:
    reference = write_factory("def make():\n    return lambda images: images.mean((2, 3)).numpy()\n")
    images = torch.randn(4, 3, 32, 32)
    teacher = open_teacher(recipe(reference, classes="data"), ABC)
    assert torch.equal(teacher(images, group=4), images.mean((2, 3)))
    assert any("ImageNet's was assumed" in note for note in teacher.facts.notes)


def test_a_module_can_be_named_without_a_file() -> None:
    classifier = open_classifier("torchvision.models:squeezenet1_1", TeacherTable(model="m"), size=(64, 64))
    assert classifier.outputs == 1000 and classifier.class_names is None


def test_arguments_stand_behind_a_question_mark() -> None:
    parts = parse("a/b.py:make?weights=runs/x=1:2.safetensors&width=3")
    assert (parts.place, parts.function) == ("a/b.py", "make")
    assert parts.arguments == {"weights": "runs/x=1:2.safetensors", "width": "3"}


def test_the_fingerprint_follows_weights_source_and_arguments(write_factory: WriteFactory, tmp_path: Path) -> None:
    source = (
        "def make(weights, scale='1'):\n"
        "    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))\n"
        "    net.load_state_dict(torch.load(weights))\n    return net\n"
    )
    reference = write_factory(source)
    for name in ("one", "two"):
        net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
        torch.save(net.state_dict(), tmp_path / name)
    (tmp_path / "same").write_bytes((tmp_path / "one").read_bytes())
    one, same, two = (opened(f"{reference}?weights={tmp_path / name}").identity for name in ("one", "same", "two"))
    assert one == opened(f"{reference}?weights={tmp_path / 'one'}").identity == same != two
    assert opened(f"{reference}?weights={tmp_path / 'one'}&scale=2").identity != one
    write_factory(source + "# another source\n")
    assert opened(f"{reference}?weights={tmp_path / 'one'}").identity != one


def test_what_lies_beside_the_file_can_be_imported(write_factory: WriteFactory, tmp_path: Path) -> None:
    (tmp_path / "beside_the_teacher.py").write_text("CLASSES = ['x', 'y', 'z']\n")
    reference = write_factory(
        "import beside_the_teacher\n\ndef make():\n    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
        "    net.class_names = beside_the_teacher.CLASSES\n    return net\n"
    )
    assert opened(reference).class_names == ("x", "y", "z")


# Broken ones


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return None", "returns NoneType: no torch module"),
        ("return 'resnet'", "returns str"),
        ("return nn.Linear", "returns the class Linear"),
        ("raise RuntimeError('no weights there')", "raises RuntimeError: no weights there"),
        ("return lambda images: 1 / 0", "fails on images .* ZeroDivisionError"),
        ("return lambda images: images", "no classifier"),
        ("return lambda images: images.mean((2, 3)).argmax(1)", "no classifier"),
        ("return lambda images: images.mean((2, 3))[:1]", "no classifier"),
        ("return lambda images: {'scores': images}", "fails on images"),
        ("return nn.LazyLinear(3)", "has parameters without values"),
        ("net = nn.Flatten()\n    net.mean = 0.5\n    return net", "says of itself what cannot be"),
    ],
)
def test_a_broken_factory_is_an_error_that_says_what_it_did(body: str, what: str, write_factory: WriteFactory) -> None:
    with pytest.raises(DeitkitError, match=what) as caught:
        opened(write_factory(f"def make():\n    {body}\n"))
    assert "own_teacher.py:make" in caught.value.what and caught.value.remedy


def test_a_file_that_cannot_be_imported_is_an_error_with_the_place(write_factory: WriteFactory) -> None:
    with pytest.raises(DeitkitError, match="ModuleNotFoundError: No module named 'no_such_module'") as caught:
        opened(write_factory("import no_such_module\n"))
    assert "own_teacher.py" in caught.value.what
    with pytest.raises(DeitkitError, match="cannot be imported: SyntaxError"):
        opened(write_factory("def make(:\n"))


def test_a_missing_function_shows_those_that_are_there(write_factory: WriteFactory, tmp_path: Path) -> None:
    reference = write_factory("def make():\n    pass\n")
    for wrong, what in (
        (f"{reference}r", "has no function maker. Did you mean make"),
        (reference[:-5], "which function"),
    ):
        with pytest.raises(DeitkitError, match=what) as caught:
            opened(wrong)
        assert caught.value.choices == (reference,)
    with pytest.raises(DeitkitError, match="does not exist"):
        opened(f"{tmp_path}/nowhere.py:make")
    with pytest.raises(DeitkitError, match="arguments are NAME=VALUE"):
        opened(f"{reference}?weights")
    with pytest.raises(DeitkitError, match="raises TypeError"):
        opened(f"{reference}?unknown=1")


def test_tensors_of_the_network_are_not_taken_for_what_it_says(write_factory: WriteFactory) -> None:
    source = (
        "class Own(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.register_buffer('mean', torch.full((1, 3, 1, 1), 0.5))\n"
        "    def forward(self, images):\n        return (images - self.mean).mean((2, 3))\n\n"
        "def make():\n    return Own()\n"
    )
    assert opened(write_factory(source)).input.mean == (0.485, 0.456, 0.406)
