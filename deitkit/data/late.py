"""Arrow's modules, each imported when something of it is first used: listing data sets, checking names take none."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Late:
    """A module by its name. Arrow ships no types, so nothing is lost to a checker of types."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)


pa, pc, pq = Late("pyarrow"), Late("pyarrow.compute"), Late("pyarrow.parquet")
arrow_csv, arrow_json = Late("pyarrow.csv"), Late("pyarrow.json")
