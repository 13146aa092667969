"""A kill at any moment leaves what the same command takes up, with the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash_points import JOBS

pytestmark = pytest.mark.slow
# Every fourth point, so that the suite ends within the hour; 1 tries all.
STRIDE = os.environ.get("DEITKIT_CRASH_POINT_STRIDE", "4")


@pytest.mark.parametrize("job", JOBS)
def test_a_kill_before_any_change_of_the_file_system_loses_nothing(job: str, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.crash_points", job, str(tmp_path), STRIDE]
    done = subprocess.run(words, capture_output=True, text=True, timeout=1200, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["points"] > 5
    assert not found["failures"], "\n".join(found["failures"][:5])
