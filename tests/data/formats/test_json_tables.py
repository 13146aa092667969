"""Tables of a JSON file, read piece by piece, against the standard library's reader of the whole."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from deitkit.data.formats import json_tables
from deitkit.data.formats.json_tables import read_tables

HARD = ['},{"id": 1}', "]", '"', "\\", "é ☃", "}}", "[{", ""]  # in names: where a piece might be cut


def tables(rows: int) -> dict[str, object]:
    draw = random.Random(0)
    names = [f"{draw.choice(HARD)}{row}{draw.choice(HARD)}" for row in range(rows)]
    return {
        "info": {"year": 2018, "of": [1, {"a": None}]},
        "images": [{"id": row, "file_name": name, "more": {"x": [{}, {"y": row}]}} for row, name in enumerate(names)],
        "empty": [],
        "annotations": [{"image_id": row} if row % 7 else row for row in range(rows)],
        "categories": [{"id": 1, "name": "},"}],
    }


@pytest.mark.parametrize("chunk", [1, 37, 5_000, 2**20])
@pytest.mark.parametrize("indent", [None, 1])
def test_columns_are_those_of_the_whole_file_wherever_it_is_cut(
    tmp_path: Path, chunk: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_tables, "CHUNK", chunk)
    monkeypatch.setattr(json_tables, "FEW", 20)
    whole = tables(300)
    path = tmp_path / "tables.json"
    path.write_text(json.dumps(whole, indent=indent, ensure_ascii=bool(indent)), encoding="utf-8")
    found = read_tables(path, {"images": ("id", "file_name"), "annotations": ("image_id",), "empty": ("id",)})
    assert found.pop("images") == {key: [row[key] for row in whole["images"]] for key in ("id", "file_name")}  # type: ignore[attr-defined]
    known = [row["image_id"] if isinstance(row, dict) else None for row in whole["annotations"]]  # type: ignore[attr-defined]
    assert (found.pop("annotations"), found.pop("empty")) == ({"image_id": known}, {"id": []})
    assert found == {"info": whole["info"], "categories": whole["categories"]}


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a": [{"x": 1},]}', '{"a": [{"x": 1} {"x": 2}]}', '{"a": []} x', '{"a" []}', '{"a": [{"x": 1}', "[1"],
)
def test_what_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 -- whichever the place
        read_tables(tmp_path / "a.json", {"a": ("x",)})
