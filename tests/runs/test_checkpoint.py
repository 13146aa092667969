"""Checkpoints exist whole or not at all."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deitkit.errors import DeitkitError
from deitkit.runs import checkpoint
from deitkit.runs.checkpoint import list_checkpoints, load_checkpoint, load_latest, save_checkpoint

ROOT = Path(__file__).parents[2]


def save(root: Path, step: int, *, keep: int = 2, name: str | None = None) -> Path:
    return save_checkpoint(
        root, step=step, model={"w": torch.full((3,), float(step))}, state={"progress": {"step": step}},
        metrics_bytes=10 * step, keep=keep, name=name,
    )  # fmt: skip


def said() -> tuple[list[str], object]:
    lines: list[str] = []
    return lines, lines.append


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    loaded = load_checkpoint(save(tmp_path, 7))
    assert (loaded.step, loaded.metrics_bytes, loaded.state) == (7, 70, {"progress": {"step": 7}})
    assert torch.equal(loaded.model["w"], torch.full((3,), 7.0))


def test_only_the_last_are_kept_and_the_best_apart(tmp_path: Path) -> None:
    save(tmp_path, 1, name="best")
    for step in (1, 2, 3, 4):
        save(tmp_path, step, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000003", "step-000000004"]
    assert (tmp_path / "best" / "manifest.json").is_file()


@pytest.mark.parametrize("file", ["model.safetensors", "state.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_checkpoint_is_named_and_skipped_for_the_one_before(tmp_path: Path, file: str, damage: str) -> None:
    save(tmp_path, 1)
    broken = save(tmp_path, 2) / file
    content = broken.read_bytes()
    if damage == "remove":
        broken.unlink()
    elif damage == "truncate":
        broken.write_bytes(content[: len(content) // 2])
    else:
        middle = content.index(b"sha256") if file == "manifest.json" else len(content) // 2
        broken.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    lines, say = said()
    loaded = load_latest(tmp_path, say=say)  # type: ignore[arg-type]
    assert loaded is not None and loaded.step == 1
    assert len(lines) == 1 and "step-000000002" in lines[0]


def test_a_checkpoint_without_a_manifest_does_not_exist(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "manifest.json").unlink()
    assert load_latest(tmp_path, say=lambda text: None) is None


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_a_state_of_foreign_code_is_refused_even_with_a_matching_manifest(tmp_path: Path) -> None:
    folder, target = save(tmp_path, 1), tmp_path / "executed"
    torch.save(Payload(target), folder / "state.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["state.pt"] = checkpoint._sha256(folder / "state.pt")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DeitkitError, match="foreign code and was not executed"):
        load_checkpoint(folder)
    assert not target.exists()


def test_a_full_disk_leaves_the_last_checkpoint_intact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.torch, "save", full)
    with pytest.raises(DeitkitError, match="the disk is full") as caught:
        save(tmp_path, 2)
    assert "--resume" in caught.value.remedy
    loaded = load_latest(tmp_path, say=lambda text: pytest.fail(text))
    assert loaded is not None and loaded.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]


def test_a_real_limit_on_file_sizes_is_a_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE makes the kernel refuse the bytes, as a full disk does."""
    script = (
        "import resource, sys, torch; from pathlib import Path; from deitkit.runs.checkpoint import save_checkpoint\n"
        "from deitkit.errors import DeitkitError\n"
        "def save(step): save_checkpoint(Path(sys.argv[1]), step=step, model={'w': torch.zeros(200_000)},"
        " state={}, metrics_bytes=0, keep=2)\n"
        "save(1)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: save(2)\n"
        "except DeitkitError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert "the disk is full" in done.stdout and "--resume" in done.stdout, done.stderr
    loaded = load_latest(tmp_path, say=lambda text: pytest.fail(text))
    assert loaded is not None and loaded.step == 1


def test_damaged_newer_checkpoints_drive_no_good_one_out(tmp_path: Path) -> None:
    save(tmp_path, 8, keep=1)
    (save(tmp_path, 10, keep=2) / "state.pt").write_bytes(b"cut")
    lines, say = said()
    checkpoint.set_damaged_aside(tmp_path, say=say)  # type: ignore[arg-type]
    assert len(lines) == 1 and (tmp_path / "damaged-step-000000010").is_dir()
    save(tmp_path, 9, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000009"]
    loaded = load_latest(tmp_path, say=lambda text: pytest.fail(text))
    assert loaded is not None and loaded.step == 9
