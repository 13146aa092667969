"""Tapes, packs, receipts of downloads and tables of images, changed at random."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deitkit.cli.app import run as deitkit
from deitkit.data.download.hosts import DownloadPlan, HostedFile
from deitkit.data.download.receive import RECEIPTS, missing_files
from deitkit.data.formats.shards import PACK
from deitkit.data.open import open_source
from deitkit.data.pack.pack import pack
from deitkit.errors import DeitkitError
from deitkit.recipe.schema import Data
from deitkit.tape import Tape, TapeHeader, TapeLayout
from deitkit.tape.layout import ERRORS
from deitkit.tape.parts import recorders, write_part
from tests.fuzz.mutations import changed_bytes, changed_json, fuzz, refuse_crashes

FEW, MANY = 60, 1500
COUNTS = [FEW, pytest.param(MANY, marks=pytest.mark.slow)]


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    layout = TapeLayout(10, 4, 6, "soft", 2)
    header = TapeHeader(
        {"data.images": 24, "model.image_size": [16, 16], "train.seed": 0}, ["runs/teacher"], ["00", None][:1],
        {"teacher.tau": 3.0}, layout, {"version of torch": "2.8"}, {"recipe": "r", "class_names": ["a", "b"]},
    )  # fmt: skip
    header.write(tmp_path / "tape")
    columns = {name: np.zeros((12, width), dtype) for name, (dtype, width) in layout.columns.items()}
    write_part(tmp_path / "tape", 0, range(3), layout.pack(columns, np.zeros(len(ERRORS))))
    return tmp_path / "tape"


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_tapes_header(tape: Path, count: int, capsys: pytest.CaptureFixture[str]) -> None:
    content = (tape / "tape.json").read_bytes()

    def read(words: bytes) -> object:
        (tape / "tape.json").write_bytes(words)
        deitkit(["tape", "show", str(tape), "--json"])
        if code := deitkit(["tape", "show", str(tape)]):
            raise DeitkitError(f"exit code {code}")
        return code

    found = fuzz("tape.json", content, changed_json, read, count=count)
    capsys.readouterr()
    refuse_crashes(found)


@pytest.mark.parametrize("count", COUNTS)
def test_a_tapes_part(tape: Path, count: int) -> None:
    (part,) = tape.glob("epoch-*/*.bin")
    opened = Tape.open(tape)

    def read(content: bytes) -> object:
        part.write_bytes(content)
        opened.gaps(range(2))
        return opened.refuse_gaps(range(1), 3), opened.errors(verify=True)

    refuse_crashes(fuzz("part of a tape", part.read_bytes(), changed_bytes, read, count=count))


def test_names_that_no_recorder_gives(tape: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tape / "epoch-99999999999").mkdir()
    folder = tape / "epoch-00000"
    for name in ("groups-00000005-00000002.00000000.bin", "groups-00000001-00000001.00000000.bin"):
        (folder / name).write_bytes(b"")
    for name, content in (
        ("recording-here-x.json", "{}"), (f"recording-{socket.gethostname()}-{10**30}.json", '{"epochs": [0, 1]}'),
        ("recording-there-1.json", '{"epochs": [0, 1, 2]}'), ("recording-there-2.json", "["),
    ):  # fmt: skip
        (tape / name).write_text(content)
    assert recorders(tape) == []
    assert deitkit(["tape", "show", str(tape)]) == 0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (number, len(split), len(name))).save(root / split / name / f"{number}.png")
    return root


@pytest.mark.parametrize("count", COUNTS)
def test_a_pack(images: Path, tmp_path: Path, count: int) -> None:
    data = Data(dataset="folder", path=str(images))
    pack([open_source(data, split) for split in ("train", "val")], tmp_path / "p", data=data)
    path = tmp_path / "p" / PACK
    packed = Data(dataset="folder", path=str(tmp_path / "p"))

    def read(content: bytes) -> object:
        path.write_bytes(content)
        sources = [open_source(packed, split) for split in ("train", "val")]
        return [(source.fingerprint, source.read(len(source) - 1), source.class_names) for source in sources]

    refuse_crashes(fuzz(PACK, path.read_bytes(), changed_json, read, count=count))


@pytest.mark.parametrize("count", COUNTS)
def test_receipts_of_downloads(tmp_path: Path, count: int) -> None:
    (tmp_path / "a.txt").write_text("a")
    file = HostedFile("https://example.org/a.txt", "sha256:00", 1)
    plan = DownloadPlan((file,))
    receipt = {"url": file.url, "checksum": file.checksum, "downloaded": True, "entries": ["a.txt"]}

    def read(content: bytes) -> object:
        (tmp_path / RECEIPTS).write_bytes(content)
        if missing_files(plan, tmp_path):
            raise DeitkitError("fetched anew")
        return None

    refuse_crashes(fuzz("receipts", json.dumps({"a.txt": receipt}).encode(), changed_json, read, count=count))


@pytest.mark.parametrize("count", [FEW, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_table_of_images(images: Path, tmp_path: Path, ending: str, count: int) -> None:
    mark = "," if ending == "csv" else "\t"
    rows = [("image", "label", "split")]
    rows += [(str(path), path.parent.name, path.parent.parent.name) for path in sorted(images.rglob("*.png"))]
    content = "".join(mark.join(row) + "\n" for row in rows).encode()
    path = tmp_path / f"t.{ending}"

    def read(changed: bytes) -> object:
        path.write_bytes(changed)
        return open_source(Data(dataset="folder", path=str(path)), "train").fingerprint

    refuse_crashes(fuzz(f"table, {ending}", content, changed_bytes, read, count=count))
