"""`deitkit data download`: a data set from its public host, or the steps where there is none."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deitkit.catalog import DATASETS
from deitkit.cli import render
from deitkit.cli.options import AsJson
from deitkit.cli.progress import Progress
from deitkit.data.download.hosts import HOSTS, DownloadPlan
from deitkit.data.download.receive import missing_files, receive
from deitkit.errors import DeitkitError, one_of
from deitkit.recipe.pick import catalog_name

if TYPE_CHECKING:
    from deitkit.recipe.schema import Data

CHECK = "`deitkit data info {name} --data {root}` then says what was found"


@dataclass(frozen=True)
class FetchOptions:
    """Where it comes from, and what is kept of it."""

    mirror: Annotated[
        str, typer.Option("--mirror", envvar="DEITKIT_MIRROR", help="Address that serves the same file names.")
    ] = ""
    keep_archives: Annotated[bool, typer.Option("--keep-archives", help="Keep archives once they are unpacked.")] = (
        False
    )


def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A data set that `deitkit data list` shows.")],
    data: Annotated[str, typer.Option("--data", help="The folder [default: $DEITKIT_DATA/NAME, or ./data/NAME].")] = "",
    *,
    fetched: FetchOptions,
    as_json: AsJson = False,
) -> None:
    """Download a data set, or say step by step how to get it where no public host serves it.

    An interrupted download goes on where it was. Every file has a published checksum; archives are unpacked whole or
    not at all, and nothing that is there already is overwritten. A file that you copied into the folder yourself is
    used instead of a download.

    Example: deitkit data download cifar10
    Example: deitkit data download flowers102 --data /data/flowers102
    Example: deitkit data download cars --keep-archives
    """
    name = one_of(catalog_name(name), list(DATASETS), what="data set")
    if DATASETS[name].bundled:
        show({"dataset": name, "status": "bundled", "next": next_command(name, data)}, as_json=as_json)
        return
    from deitkit.data.open import find_data
    from deitkit.recipe.schema import Data

    settings, plan = Data(dataset=name, path=data or None), HOSTS[name]
    root = find_data(settings) or Path()
    missing = missing_files(plan, root)
    found = look(settings, root)
    status, files = "here already", []
    if not ((plan.files and not missing) or as_published(name, found)):
        fetch_all(plan, root, name=name, data=data, **vars(fetched))
        status, found = "downloaded", look(settings, root)
        files = [{"url": file.url, "checksum": file.checksum} for file in missing]
    steps = plan.steps_for(root) if not found["splits"] else ()
    report = {"dataset": name, "status": status, "path": root, "files": files, **found, "steps": steps}
    show({**report, "terms": DATASETS[name].terms, "next": next_command(name, data)}, as_json=as_json)


def fetch_all(plan: DownloadPlan, root: Path, *, name: str, data: str, mirror: str, keep_archives: bool) -> None:
    """Carry the plan out with progress on stderr; an interruption says how to go on.

    Raises:
        DeitkitError: no host serves it; the steps are listed.
    """
    if not plan.files:
        remedy = CHECK.format(name=name, root=shlex.quote(str(root)))
        raise DeitkitError(plan.why, value=name, problems=plan.steps_for(root), remedy=remedy)
    render.say(f"{DATASETS[name].title} -> {root}; terms: {DATASETS[name].terms}")
    watch = Progress(of_bytes=True)
    try:
        receive(plan, root, mirror=mirror, keep_archives=keep_archives, progress=watch)
    except KeyboardInterrupt:
        words = ["deitkit", "data", "download", name]
        words += ["--data", data] * bool(data) + ["--mirror", mirror] * bool(mirror)
        words += ["--keep-archives"] * keep_archives
        watch.stop()
        render.say(f"what has arrived is kept; this goes on: {shlex.join(words)}")
        raise
    finally:
        watch.stop()


def look(settings: Data, root: Path) -> dict[str, Any]:
    """Images and classes of each split that opens, and what there is to say about those that do not."""
    from deitkit.data.open import open_source, size_notes

    info = DATASETS[settings.dataset]
    splits: dict[str, dict[str, int]] = {}
    notes: list[str] = []
    for split in ["train", "val"] if info.train_size else ["val"]:
        if not root.exists():
            break
        try:
            source = open_source(settings, split)
        except DeitkitError as error:
            notes.append(f"{split}: {error.what}")
            continue
        splits[split] = {"images": len(source), "classes": len(source.class_names)}
        notes += [*source.notes, *size_notes(settings, source)]
    return {"splits": splits, "notes": notes}


def as_published(name: str, found: dict[str, Any]) -> bool:
    """Whether every split is there with the published numbers of images and classes."""
    info = DATASETS[name]
    published = {"train": info.train_size, "val": info.test_size}
    return bool(found["splits"]) and all(
        found["splits"].get(split) == {"images": size, "classes": info.classes}
        for split, size in published.items()
        if size
    )


def next_command(name: str, data: str) -> str:
    """What to do with it: data without training images are for evaluation."""
    where = f" --data {shlex.quote(data)}" if data else ""
    verb = "finetune" if DATASETS[name].train_size else "evaluate RUN"
    return f"deitkit {verb} --dataset {name}{where}"


def show(report: dict[str, Any], *, as_json: bool) -> None:
    """The result: a table on stdout, talk on stderr; or one JSON document."""
    if as_json:
        render.print_json(report)
        return
    name, status = report["dataset"], report["status"]
    render.say(f"{name}: {status}" + (f" in {report['path']}" if "path" in report else ", nothing to download"))
    splits = report.get("splits", {})
    if splits:
        rows = [[split, counts["images"], counts["classes"]] for split, counts in splits.items()]
        render.print_table(DATASETS[name].title, ["split", "images", "classes"], rows)
    for note in (*report.get("notes", ()), *report.get("steps", ())):
        render.say(f"  {note}")
    render.say(f"next: {report['next']}")
