"""Whatever stands on the command line, it is done or refused with exit code 2: never a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from deitkit.cli.app import run
from tests.runs.test_manage import make

pytestmark = pytest.mark.slow
WORDS = (
    "", " ", "empty", "x.pth", "file", "nope", "a/[b]", "timm:nope", "hf-hub:x", "x" * 5000, "\udcff", "a\nb", "../..",
    "@best", ":class", "run@", "run:", "run@999", "run:nope", "bad.safetensors", "bad.pth", "~nobody/x", "/dev/null",
)  # fmt: skip
VERBS = (
    "evaluate W", "predict W --model run", "predict file --model W", "upscale W --to 32 -o up --dry-run",
    "finetune --from W --dataset digits --dry-run --json", "analyze tokens W", "analyze disagreement run W",
    "analyze positions W", "analyze errors W", "runs show W", "runs compare run W", "report W -o p.html",
    "distill --recipe quickstart/student --teacher W --dry-run --json", "recipes show W",
    "recipes diff quickstart/twin W",
    "pretrain --recipe W --dry-run --json", "data verify W", "data info W", "data stats W", "tape show W",
    "teacher check W --dataset digits", "runs tag W a", "runs prune W", "runs resume W", "data preview W -o q.png",
)  # fmt: skip
NUMBERS = ("-1", "0", "1e400", "nan", "x", "9" * 5000, "²")
OPTIONS = ("--epochs", "--batch-size", "--lr", "--weight-decay", "--seed", "--workers", "--image-size", "--time")
KEYS = (
    "optim.lr", "optim.betas", "data.crop_ratio", "data.std", "augment.crop_scale", "train.epochs", "stream.mix_group",
    "model.options", "model.image_size", "schedule.warmup_epochs", "ema.decay", "checkpoint.keep", "nope", "nope.nope",
)  # fmt: skip
SETS = ("[" * 1000 + "]" * 1000, "optim.lr", "=", "model.options={depth=-1}", "model.options={num_heads=0}", "a=b=c")
DRY = ("pretrain", "--recipe", "quickstart/twin", "--dry-run", "--json")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "run")
    for folder in ("x.pth", "empty"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "bad.safetensors").write_bytes(bytes(20))
    (tmp_path / "bad.pth").write_bytes(b"PK\3\4junk")
    return tmp_path


def refused(words: list[str]) -> None:
    assert run(words) in (0, 2), words


@pytest.mark.parametrize("verb", VERBS)
def test_a_word_of_any_kind_is_taken_or_refused(verb: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for word in WORDS:
        refused([word if part == "W" else part for part in verb.split()])
        assert "Traceback" not in capsys.readouterr().err


def test_a_number_of_any_kind_is_taken_or_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in NUMBERS:
        for option in OPTIONS:
            refused([*DRY, option, number])
        for key in KEYS:
            refused([*DRY, "--set", f"{key}={number}"])
        refused(["upscale", "run", "--to", number, "-o", "up"])
        refused(["analyze", "resolutions", "run", "--sizes", number, "--no-speed", "--no-accuracy"])
    for text in SETS:
        refused([*DRY, "--set", text])
    assert "Traceback" not in capsys.readouterr().err
