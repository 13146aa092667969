"""`deitkit data download` through the command line's own entry, from a host on this machine."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from deitkit.catalog import DATASETS
from deitkit.cli.app import run
from deitkit.data.download import part
from deitkit.data.download.hosts import HOSTS, DownloadPlan
from tests.data.web import Host

Deitkit = Callable[..., tuple[int, str, str]]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def deitkit(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deitkit:
    """`data download` in an empty folder; gives exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("DEITKIT_DATA", "DEITKIT_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("deitkit.data.download.fetch.ATTEMPTS", 1)

    def call(*words: object) -> tuple[int, str, str]:
        code = run(["data", "download", *(str(word) for word in words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def archive_of(files: dict[str, bytes], *, level: int = 9) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), level, mtime=0)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Serves ten classes of two training images and one test image each in the place of CIFAR-10."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), (10, 200, 30)).save(buffer, "PNG")
    places = ("train/{}/0.png", "train/{}/1.png", "test/{}/0.png")
    names = [place.format(name) for place in places for name in CLASSES]
    with Host({"cifar10.tar.gz": archive_of(dict.fromkeys(names, buffer.getvalue()))}) as serving:
        monkeypatch.setitem(HOSTS, "cifar10", DownloadPlan((serving.file("cifar10.tar.gz", makes=("train", "test")),)))
        yield serving


def test_a_download_ends_with_what_was_found_and_the_next_command(deitkit: Deitkit, host: Host) -> None:
    code, out, err = deitkit("cifar10")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["train", "20", "10"] in rows and ["val", "10", "10"] in rows
    assert "downloading cifar10.tar.gz" in err and "unpacking cifar10.tar.gz" in err
    assert "train has 20 images; Table 6 has 50,000" in err
    assert err.splitlines()[-1] == "next: deitkit finetune --dataset cifar10"
    assert [path.name for path in sorted(Path("data/cifar10").glob("[!.]*"))] == ["test", "train"]


def test_a_second_download_says_that_it_is_here_and_asks_nobody(deitkit: Deitkit, host: Host) -> None:
    deitkit("cifar10")
    host.asked.clear()
    code, out, err = deitkit("cifar10")
    assert (code, host.asked) == (0, [])
    assert "here already in data/cifar10" in err and "train" in out


def test_json_is_one_document_on_stdout(deitkit: Deitkit, host: Host) -> None:
    code, out, _ = deitkit("cifar10", "--data", "my images", "--json")
    report = json.loads(out)
    assert code == 0
    assert (report["status"], report["path"]) == ("downloaded", "my images")
    row = host.file("cifar10.tar.gz")
    assert report["files"] == [{"url": row.url, "checksum": row.checksum}]
    assert report["splits"] == {"train": {"images": 20, "classes": 10}, "val": {"images": 10, "classes": 10}}
    assert report["next"] == "deitkit finetune --dataset cifar10 --data 'my images'"


def test_it_goes_where_training_looks_for_it(
    deitkit: Deitkit, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEITKIT_DATA", str(tmp_path / "shelf"))
    assert deitkit("cifar10")[0] == 0
    assert (tmp_path / "shelf" / "cifar10" / "train").is_dir()


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_mirror_takes_the_host_s_place(
    how: str, deitkit: Deitkit, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = HOSTS["cifar10"].files
    gone = replace(row, url="https://gone.invalid/cifar10.tar.gz")
    monkeypatch.setitem(HOSTS, "cifar10", DownloadPlan((gone,)))
    if how == "environment":
        monkeypatch.setenv("DEITKIT_MIRROR", host.address)
    assert deitkit("cifar10", *(["--mirror", host.address] if how == "option" else []))[0] == 0
    assert [request["path"] for request in host.asked] == ["/cifar10.tar.gz"]


def test_images_that_came_another_way_are_left_alone_when_they_are_as_published(
    deitkit: Deitkit, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    deitkit("cifar10")
    Path("data/cifar10/.deitkit-download.json").unlink()
    monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], train_size=20, test_size=10))
    host.asked.clear()
    code, _, err = deitkit("cifar10")
    assert (code, host.asked) == (0, []) and "here already" in err
    Path("data/cifar10/train/cat/0.png").unlink()
    code, _, err = deitkit("cifar10")
    assert (code, host.asked) == (2, []) and "already has train, test" in err


def test_the_real_flowers_are_opened_after_the_download(
    deitkit: Deitkit, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shared_data / "flowers102"
    images = {f"jpg/{path.name}": path.read_bytes() for path in sorted((folder / "jpg").iterdir())}
    files = {name: (folder / name).read_bytes() for name in ("setid.mat", "imagelabels.mat")}
    with Host({**files, "102flowers.tgz": archive_of(images, level=0)}) as host:
        real = {file.name: file for file in HOSTS["flowers102"].files}
        plan = DownloadPlan((real["setid.mat"], real["imagelabels.mat"], host.file("102flowers.tgz", makes=("jpg",))))
        monkeypatch.setitem(HOSTS, "flowers102", plan)
        code, out, _ = deitkit("flowers102", "--mirror", host.address, "--json")
    report = json.loads(out)
    assert code == 0
    assert report["splits"] == {"train": {"images": 204, "classes": 102}, "val": {"images": 102, "classes": 102}}
    assert any("2,040" in note for note in report["notes"])


# Nothing to fetch


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cars", ["tanganke/stanford_cars", "jessicali9530/stanford-cars-dataset", "cars_test_annos_withlabels.mat"]),
        ("imagenet", ["image-net.org", "1d675b47d978889d74fa0da5fadfb00e", "devkit", "kaggle.com"]),
    ],
)
def test_where_no_host_serves_it_the_steps_are_said(name: str, words: list[str], deitkit: Deitkit) -> None:
    code, out, err = deitkit(name, "--data", "/my data")
    assert (code, out) == (2, "")
    assert all(word in err for word in words)
    assert "1. " in err and "2. " in err and "'/my data'" in err and "ROOT" not in err
    assert f"deitkit data info {name}" in err
    code, out, _ = deitkit(name, "--json")
    assert code == 2 and len(json.loads(out)["problems"]) == len(HOSTS[name].steps)


def test_real_labels_without_imagenet_say_where_its_images_are(deitkit: Deitkit, shared_data: Path) -> None:
    with Host({"real.json": (shared_data / "imagenet" / "real.json").read_bytes()}, content_type="text/plain") as host:
        code, _, err = deitkit("imagenet_real", "--mirror", host.address)
    assert code == 0
    assert Path("data/imagenet/real.json").is_file()
    assert "deitkit data download imagenet" in err
    assert "next: deitkit evaluate RUN --dataset imagenet_real" in err


def test_bundled_digits_need_no_download(deitkit: Deitkit) -> None:
    code, _, err = deitkit("digits")
    assert code == 0 and "nothing to download" in err and "finetune --dataset digits" in err


def test_an_unknown_name_is_told_its_neighbour(deitkit: Deitkit) -> None:
    code, _, err = deitkit("cifar1O")
    assert code == 2 and "Did you mean cifar10?" in err and "flowers102" in err


# Bad days


def test_offline_it_says_what_to_do(deitkit: Deitkit, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = deitkit("cifar10", "--mirror", "http://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert "no network" in err and "copy it to data/cifar10/cifar-10-python.tar.gz and repeat the command" in err


def test_an_interruption_says_how_to_go_on(deitkit: Deitkit, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: part.PartialFile) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(part.PartialFile, "place", interrupted)
        code, _, err = deitkit("cifar10", "--data", "my images")
    assert code == 130
    assert Path("my images/cifar10.tar.gz.part").is_file()
    command = next(line for line in err.splitlines() if "this goes on" in line).partition(": ")[2]
    host.asked.clear()
    assert run(shlex.split(command)[1:]) == 0
    assert host.asked == []  # all of it had arrived
    assert Path("my images/train").is_dir()


def test_a_killed_process_is_continued_by_the_next(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    file = "HostedFile(url, checksum, None, ())"
    code = (
        "import sys; from pathlib import Path; from deitkit.data.download.fetch import fetch\n"
        "from deitkit.data.download.hosts import HostedFile\n"
        f"url, checksum = sys.argv[1:3]; fetch({file}, Path(sys.argv[3]))"
    )
    with Host({"big": content}, cuts=[1_000_000]) as host:
        row = host.file("big")
        host.on_answer = lambda: time.sleep(0 if len(host.asked) == 1 else 30 if len(host.asked) == 2 else 0)
        process = subprocess.Popen([sys.executable, "-c", code, row.url, row.checksum, str(tmp_path)])
        while len(host.asked) < 2 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (tmp_path / "big.part").read_bytes() == content[:1_000_000]
        subprocess.run([sys.executable, "-c", code, row.url, row.checksum, str(tmp_path)], check=True)
        assert (tmp_path / "big").read_bytes() == content
        assert host.ranges_asked[-1] == "bytes=1000000-"
