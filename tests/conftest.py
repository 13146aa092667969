"""Fixtures of the whole suite."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data beside the checkout; a test that needs it skips where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def shared_facts() -> Path:
    """The paper's tables beside the checkout."""
    folder = SHARED / "facts"
    if not folder.is_dir():
        pytest.skip("the shared facts folder is not beside this checkout")
    return folder


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)
