"""Reading back what deitkit wrote: only regular files of a bounded size, and every fault an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deitkit.errors import DeitkitError
from deitkit.records import read_bounded, read_json


def test_a_file_within_its_bound_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12")
    assert read_bounded(tmp_path / "a", most=2, remedy="") == b"12"


@pytest.mark.parametrize("name", ["missing", "large", "pipe", "folder", "null\0"])
def test_what_is_no_file_or_too_large_is_refused_at_once(name: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"123")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DeitkitError, match="cannot be read") as caught:
        read_bounded(tmp_path / name, most=2, remedy="write it anew")
    assert caught.value.remedy == "write it anew"


def test_a_value_of_another_type_is_named_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"steps": "many"}')
    with pytest.raises(DeitkitError, match="steps"):
        read_json(tmp_path / "a.json", dict[str, int], remedy="")
