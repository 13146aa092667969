"""The HTTP API against `deitkit.predict`, and its limits: what is too much or no image is refused, and it goes on."""

from __future__ import annotations

import base64
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import deitkit
from deitkit.cli import serve as verb
from deitkit.errors import DeitkitError
from deitkit.models.load import load_classifier
from deitkit.serve.answerer import Answerer
from tests.serve.conftest import CLASSES, encoded

pytest.importorskip("fastapi")
pytest.importorskip("python_multipart")

from starlette.testclient import TestClient

from deitkit.serve.app import Limits, create_app

MAX_PIXELS = 10_000


@pytest.fixture
def client(model: str) -> TestClient:
    answerer = Answerer(load_classifier(model), torch.device("cpu"), MAX_PIXELS)
    app = create_app(answerer, name="mine", hosts=["testserver"], limits=Limits(megabytes=1, images=4))
    return TestClient(app)


def form(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("images", file) for file in files]


def test_several_images_are_answered_as_predict_answers_them(
    client: TestClient, model: str, pictures: list[Path]
) -> None:
    reply = client.post(
        "/predict", params={"top": 2}, files=form(*((str(path), path.read_bytes()) for path in pictures))
    )
    expected = [image.as_dict() for image in deitkit.predict(model, pictures, top=2, device="cpu")]
    assert reply.status_code == 200 and reply.json()["model"] == "mine"
    for ours, theirs in zip(reply.json()["images"], expected, strict=True):
        assert ours["image"] == theirs["image"]
        for head, found in theirs["heads"].items():
            assert [guess["class"] for guess in ours["heads"][head]] == [guess["class"] for guess in found]
            assert [guess["confidence"] for guess in ours["heads"][head]] == pytest.approx(
                [guess["confidence"] for guess in found], rel=1e-5
            )


def test_one_image_may_be_the_body(client: TestClient) -> None:
    reply = client.post("/predict", content=encoded(), headers={"content-type": "image/png"})
    (image,) = reply.json()["images"]
    assert set(image["heads"]) == {"class", "distillation", "fused"}
    assert {guess["class"] for guess in image["heads"]["fused"]} == set(CLASSES)


def test_a_bad_file_among_good_ones_has_a_problem_and_alone_is_422(client: TestClient) -> None:
    reply = client.post("/predict", files=form(("good.png", encoded()), ("bad.png", b"no picture")))
    good, bad = reply.json()["images"]
    assert reply.status_code == 200 and "heads" in good and "bad.png" in bad["problem"]
    assert client.post("/predict", content=b"no picture").status_code == 422
    assert client.post("/explain", content=encoded()[:60]).status_code == 422
    assert "no image" in client.post("/predict").json()["detail"]


def test_too_many_bytes_pixels_or_images_are_refused(client: TestClient) -> None:
    assert client.post("/predict", content=b"x" * (2**20 + 1)).status_code == 413

    def unannounced() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 2**16

    assert client.post("/predict", content=unannounced()).status_code == 413
    assert client.post("/predict", files=form(*[("a.png", encoded())] * 5)).status_code == 400
    wide = client.post("/predict", content=encoded(side=101))
    assert wide.status_code == 422 and "101 x 101" in wide.json()["images"][0]["problem"]
    assert client.post("/predict", content=bomb()).status_code == 422
    assert client.get("/healthz").json() == {"status": "ok", "model": "mine"}


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")


def test_an_image_is_explained_with_what_each_token_reads(client: TestClient) -> None:
    answer: dict[str, Any] = client.post("/explain", files=form(("a.png", encoded()))).json()
    titles = [picture["title"] for picture in answer["pictures"]]
    assert titles == ["what the model sees", "what the class token reads", "what the distillation token reads"]
    for picture in answer["pictures"]:
        image = Image.open(io.BytesIO(base64.b64decode(picture["uri"].partition(",")[2])))
        assert min(image.size) >= 224 and len(set(image.convert("L").tobytes())) > 1
    assert answer["neighbours"] == [] and isinstance(answer["heads_disagree"], bool)


def test_a_page_of_another_host_does_not_reach_it(client: TestClient) -> None:
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 400


def test_the_api_describes_itself_and_the_page_needs_nothing_from_elsewhere(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert {"/predict", "/explain", "/model", "/healthz"} <= described["paths"].keys()
    assert "multipart/form-data" in described["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert client.get("/model").json()["classes"] == list(CLASSES)
    page = client.get("/").text
    assert "deitkit" in page and "http://" not in page and "https://" not in page


def test_a_second_server_on_the_port_and_a_host_of_elsewhere_are_refused() -> None:
    with verb.listening("127.0.0.1", 0) as first:
        with pytest.raises(DeitkitError, match="is in use") as caught:
            verb.listening("127.0.0.1", first.getsockname()[1])
        assert "--port" in caught.value.remedy
    with pytest.raises(DeitkitError, match="cannot listen on 192"):
        verb.listening("192.0.2.7", 0)


def test_a_missing_package_is_named_before_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(DeitkitError, match="needs uvicorn") as caught:
        verb.serve("runs/nothing")
    assert caught.value.remedy == "pip install 'deitkit[serve]'"


def test_neighbours_of_a_model_without_a_run_are_refused(model: str) -> None:
    with pytest.raises(DeitkitError, match="is no run"):
        verb.answerer_of(model, device="cpu", max_pixels=MAX_PIXELS, neighbours=True)
