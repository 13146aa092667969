"""A process that kills commands before each of their changes of the file system, and has each one repeated.

    python -m tests.crash_points JOB FOLDER [STRIDE]

deitkit is imported once; every command runs in a fork of this process. Python's audit events come before each open for
writing, rename, new folder, removal and truncation; the n-th one below FOLDER is where SIGKILL strikes. Prints a line
of JSON: how many points were tried, and what went wrong at which.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deitkit.runs.folder import Run

CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link", "os.symlink"})
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
RECIPE = """
[model]
name = "deit_nano"
image_size = 8
distilled = true
options = { embed_dim = 16, depth = 1, num_heads = 2, patch_size = 4 }
[loss]
second_token = "label"
[data]
dataset = "digits"
crop_ratio = 1.0
[stream]
batch_size = 384
[schedule]
warmup_epochs = 0
[train]
epochs = 1
log_every = 1
[checkpoint]
every_steps = 2
keep = 1
"""


@dataclass(frozen=True)
class Job:
    """`prepare` makes what is there before, `command` is killed, `after` repeats it, `result` is what must be equal."""

    prepare: Callable[[Path], None]
    command: Callable[[Path], list[str]]
    result: Callable[[Path], Any]
    again: Callable[[Path, Any], list[str]] | None = None


def train_words(folder: Path, *more: str, seed: int = 2) -> list[str]:
    recipe = folder / "tiny.toml"
    options = ["--seed", str(seed), "--workers", "0", "--device", "cpu", "-o", str(folder / "run"), *more]
    return ["pretrain", "--recipe", str(recipe), *options]


def write_recipe(folder: Path) -> None:
    (folder / "tiny.toml").write_text(RECIPE)


def save_beside(folder: Path) -> None:
    """As a large model is saved: in a thread, while training goes on."""
    from deitkit.runs import saver

    saver.LARGE = 0
    write_recipe(folder)


def digests(folder: Path, *patterns: str) -> dict[str, str]:
    found = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def run_result(folder: Path) -> Any:
    """Weights, the names of everything in the run, and its numbers without the clock's."""
    run = Run(folder / "run")
    clock = {"images_per_s", "data_wait_s", "seconds", "memory_mb"}
    lines = [{key: value for key, value in line.items() if key not in clock} for line in run.metrics()]
    names = sorted(str(path.relative_to(run.path)) for path in run.path.rglob("*"))
    result = {key: value for key, value in (run.result() or {}).items() if key != "seconds"}
    return [digests(run.path, "model/*", "predictions/*", "notes.txt"), lines, names, result]


def begin_overwriting(folder: Path) -> None:
    write_recipe(folder)
    inside(train_words(folder, seed=1), folder)
    (folder / "run" / "notes.txt").write_text("mine")
    (folder / "old.json").write_text(json.dumps(run_result(folder)))


def take_up_overwriting(folder: Path, _: Any) -> list[str]:
    """The new run goes on; or the old one is whole, and is overwritten again."""
    if Run(folder / "run").recipe().train.seed == 2:
        return train_words(folder, "--resume")
    old, now = json.loads((folder / "old.json").read_text()), json.loads(json.dumps(run_result(folder)))
    if [old[0], old[1], old[3]] != [now[0], now[1], now[3]]:
        raise AssertionError("the old run is half gone")
    return train_words(folder, "--overwrite")


def begin_upscaling(folder: Path) -> None:
    write_recipe(folder)
    inside(train_words(folder), folder)
    inside(["upscale", str(folder / "run"), "--to", "16", "-o", str(folder / "larger")], folder)
    (folder / "larger" / "README.md").write_text("mine")


def begin_recording(folder: Path) -> None:
    write_recipe(folder)
    inside(train_words(folder), folder)


def record_words(folder: Path) -> list[str]:
    words = ["tape", "record", "--recipe", str(folder / "tiny.toml"), "--teacher", str(folder / "run")]
    more = ["--set", "loss.second_token=teacher", "--set", "teacher.chunk=1", "--set", "teacher.check=false"]
    return [*words, *more, "--labels", "hard", "--workers", "0", "--device", "cpu", "-o", str(folder / "tape")]


def begin_packing(folder: Path) -> None:
    from PIL import Image

    for split in ("train", "val"):
        for number in range(12):
            path = folder / "images" / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (20 * number, 9, 9)).save(path)


def pack_words(folder: Path) -> list[str]:
    return ["data", "pack", str(folder / "images"), "-o", str(folder / "packed")]


def begin_repacking(folder: Path) -> None:
    begin_packing(folder)
    inside(pack_words(folder), folder)
    (folder / "images" / "train" / "a" / "0.png").rename(folder / "images" / "train" / "b" / "0.png")


def everything(folder: Path, name: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in (folder / name).rglob("*"))


JOBS = {
    "train": Job(write_recipe, train_words, run_result, lambda folder, _: train_words(folder, "--resume")),
    "train_and_save_beside": Job(
        save_beside, train_words, run_result, lambda folder, _: train_words(folder, "--resume")
    ),
    "overwrite": Job(
        begin_overwriting, lambda folder: train_words(folder, "--overwrite"), run_result, take_up_overwriting
    ),
    "upscale": Job(
        begin_upscaling,
        lambda folder: ["upscale", str(folder / "run"), "--to", "32", "-o", str(folder / "larger"), "--overwrite"],
        lambda folder: [digests(folder, "larger/*"), everything(folder, "larger")],
    ),
    "tape": Job(
        begin_recording, record_words, lambda folder: digests(folder, "tape/epoch-*/*.bin", "tape/validation-*")
    ),
    "pack": Job(
        begin_packing, pack_words, lambda folder: [digests(folder, "packed/*.tar"), everything(folder, "packed")]
    ),
    "pack_overwrite": Job(
        begin_repacking,
        lambda folder: [*pack_words(folder), "--overwrite"],
        lambda folder: [digests(folder, "packed/*.tar"), everything(folder, "packed")],
    ),
}


def inside(words: list[str], folder: Path, *, kill_at: int = 0) -> int:
    """The command in a fork. Returns how many changes it made, or -9 where it was killed.

    Raises:
        RuntimeError: it failed, with what it said.
    """
    log, count = folder.parent / "log.txt", folder.parent / "count.txt"
    count.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        _become(words, folder, log, count, kill_at)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{' '.join(words)} ended with {code}: {log.read_text()[-1500:]}")
    return code or int(count.read_text())


def _become(words: list[str], folder: Path, log: Path, count: Path, kill_at: int) -> None:
    from deitkit.cli.app import run

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    changes, root, code = 0, str(folder), 1

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event not in CHANGES and not (event == "open" and (arguments[2] or 0) & WRITING):
            return
        relative = event in ("os.remove", "os.rmdir") and arguments[1] != -1  # as shutil.rmtree goes
        if relative or str(arguments[0]).startswith(root):
            changes += 1
            if changes == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(note)
    try:
        code = run(words)
        count.write_text(str(changes))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def try_all(job: Job, root: Path, *, stride: int = 1) -> tuple[int, list[str]]:
    """How many points there are, and what failed at every `stride`-th of them."""
    before, folder = root / "before", root / "here"
    folder.mkdir(parents=True)
    job.prepare(folder)
    shutil.copytree(folder, before)
    points = inside(job.command(folder), folder)
    wanted, failures = job.result(folder), []
    for point in range(1 + points % stride, points + 1, stride):
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        try:
            if inside(job.command(folder), folder, kill_at=point) != -signal.SIGKILL:
                failures.append(f"{point}: it was not killed")
            inside(job.again(folder, wanted) if job.again else job.command(folder), folder)
            if (found := job.result(folder)) != wanted:
                failures.append(f"{point}: {found} instead of {wanted}")
        except Exception as error:
            failures.append(f"{point}: {error}")
    return points, failures


def main() -> None:
    import torch

    import deitkit.cli.upscale
    import deitkit.tape.record
    import deitkit.training.fit  # noqa: F401  (imported before the forks)

    torch.set_num_threads(1)
    stride = int(sys.argv[3]) if sys.argv[3:] else 1
    points, failures = try_all(JOBS[sys.argv[1]], Path(sys.argv[2]).resolve() / sys.argv[1], stride=stride)
    print(json.dumps({"points": points, "failures": failures}))  # noqa: T201


if __name__ == "__main__":
    main()
