"""Reaching FiftyOne and its database, and what is said where they cannot be reached."""

from __future__ import annotations

import sys
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
        (RuntimeError("no mongod"), None, "FIFTYONE_DATABASE_URI="),
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
