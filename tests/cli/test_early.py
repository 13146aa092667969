"""What is told before anything heavy is imported: the first word, and what is named wrongly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deitkit import distributed
from deitkit.cli import early
from deitkit.cli.app import command_of, run
from deitkit.cli.verbs import VERBS, Group, Verb
from deitkit.errors import DeitkitError
from tests.cli.terminal import Terminal

ROOT = Path(__file__).parents[2]
# torch that takes its time, and says when it is asked for.
SLOW_TORCH = """
import sys, time
print("TORCH", file=sys.stderr, flush=True)
time.sleep(1)
raise SystemExit(7)
"""


@pytest.fixture
def slow_torch(tmp_path: Path) -> Path:
    """A folder in front of all others, in which torch is found."""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "torch.py").write_text(SLOW_TORCH)
    return tmp_path / "first"


def said(*words: str, path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "deitkit", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60).stderr


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["upscale", "timm:deit_tiny_patch16_224", "--to", "384"], "upscale: write a model for another resolution ..."),
        (["analyze", "tokens", "timm:deit_tiny_patch16_224"], "tokens: how alike the class and"),
        (["data", "verify", "digits"], "verify: decode every image ..."),
    ],
)
def test_the_first_word_comes_before_torch(words: list[str], first: str, slow_torch: Path) -> None:
    told = said(*words, path=slow_torch)
    assert told.startswith(first), told


def test_a_sign_turns_on_a_terminal_and_leaves_nothing(slow_torch: Path) -> None:
    (slow_torch / "torch.py").write_text("import time\ntime.sleep(1)\nraise SystemExit(7)\n")  # writes nothing itself
    words = ("upscale", "timm:deit_tiny_patch16_224", "--to", "384")
    terminal = Terminal(ROOT, *words, columns=40, PYTHONPATH=f"{slow_torch}{os.pathsep}{ROOT}")
    terminal.shows("/ upscale: write a model for another r")
    assert terminal.end() == 7
    assert "upscale" not in terminal.picture()


def test_what_is_answered_at_once_says_no_more(tmp_path: Path) -> None:
    assert said("recipes", "list", path=tmp_path) == "next: deitkit recipes show NAME\n"


def all_verbs() -> dict[str, Verb]:
    groups = {name: row.verbs for name, row in VERBS.items() if isinstance(row, Group)}
    alone = {name: row for name, row in VERBS.items() if isinstance(row, Verb)}
    return alone | {f"{group} {name}": row for group, verbs in groups.items() for name, row in verbs.items()}


@pytest.mark.parametrize("name", all_verbs())
def test_every_device_is_checked_while_it_is_parsed(name: str) -> None:
    command = command_of(name, all_verbs()[name])
    assert all(parameter.callback is not None for parameter in command.params if parameter.name == "device")


@pytest.mark.skipif(early._may_have_cuda(), reason="this machine may have a CUDA device")
@pytest.mark.parametrize("words", ["pretrain --data photos --dry-run", "quickstart --dry-run", "plan pretrain"])
def test_a_device_that_is_not_here_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), "--device", "cuda"]) == 2
    shown = capsys.readouterr()
    assert "no CUDA device" in shown.err and not shown.out


def test_devices_are_those_that_torch_is_asked_for() -> None:
    assert early.DEVICES == distributed.DEVICES
    assert early.known_device("auto") == "auto"
    with pytest.raises(DeitkitError, match="unknown device 'gpu'"):
        early.known_device("gpu")


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_gpus_are_none(hidden: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with pytest.raises(DeitkitError, match="no CUDA device"):
        early.known_device("cuda:1")


def test_a_driver_of_amd_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(early.Path, "exists", lambda self: str(self) == "/dev/kfd")
    assert early.known_device("cuda") == "cuda"
