"""What cannot be exported so is refused before anything is imported."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from deitkit.errors import DeitkitError
from deitkit.models.export.wanted import OLDEST_OPSET, Wanted

PLAIN: dict[str, Any] = {"precision": "fp32", "opset": OLDEST_OPSET, "preprocess": False, "licence": ""}


@pytest.mark.parametrize(
    ("to", "changed", "words"),
    [
        ("onx", {}, "Did you mean onnx"), ("onnx", {"precision": "int4"}, "unknown precision"),
        ("timm", {"precision": "fp16"}, "--precision is for ONNX alone"),
        ("torch", {"preprocess": True}, "--preprocess is for ONNX alone"),
        ("onnx", {"opset": 11}, "opset 11 is too old"),
        ("onnx", {"licence": "mit"}, "a licence stands on a model card"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(to: str, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(DeitkitError, match=words) as caught:
        Wanted.of(to, **{**PLAIN, **changed})
    assert caught.value.remedy or caught.value.choices


@pytest.mark.parametrize(("to", "package", "extra"), [("onnx", "onnxscript", "onnx"), ("hf", "transformers", "hf")])
def test_a_missing_package_names_what_installs_it(
    to: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DeitkitError, match=f"needs {package}, which is not installed") as caught:
        Wanted.of(to, **PLAIN)
    assert f"pip install 'deitkit[{extra}]'" in caught.value.remedy
