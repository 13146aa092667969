"""`deitkit analyze`: predictions or tokens -> a report, shown, and saved in the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render
from deitkit.cli.classifiers import Reference
from deitkit.cli.classifiers import predictions_of as predictions_of

if TYPE_CHECKING:
    from deitkit.analysis.report import Matrix, Report, Table

LONG = 40  # rows: of a longer table a screen shows the first few, and the CSV has all
FEW = 10

Dataset = Annotated[str, typer.Option("--dataset", help="Another data set than the first run's.")]
DataPath = Annotated[str, typer.Option("--data", help="Where the images are.")]
Split = Annotated[str, typer.Option("--split", help="train or val.")]
Output = Annotated[str, typer.Option("--output", "-o", help="Folder of the report [default: reports/ of the run].")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def disagreement(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs or model folders.")],
    teacher: Annotated[str, typer.Option("--teacher", help="A teacher's run or model folder, compared, too.")] = "",
    dataset: Dataset = "", data: DataPath = "", split: Split = "val", output: Output = "", device: Device = "auto",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """How often classifiers decide differently: the paper's Table 4 for yours.

    The rate is the share of images whose most probable classes differ; the ground truth counts as a classifier, so its
    row is the top-1 error. 95 % intervals are Wilson's. Predictions that a run already has are used as they are;
    missing ones are made and kept. Source: Touvron et al. 2020, Table 4.

    Example: deitkit analyze disagreement runs/quickstart/twin runs/quickstart/student_32
    """
    from deitkit.analysis.disagreement import compare

    references = [*([teacher] if teacher else []), *runs]
    tables = predictions_of(references, dataset=dataset, data=data, split=split, device=device)
    show(compare(tables), reports_folder(runs[-1], output), as_json=as_json)


def tokens(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A distilled run or model folder.")],
    limit: Annotated[int | None, typer.Option("--limit", help="At most so many images.")] = None,
    dataset: Dataset = "", data: DataPath = "", split: Split = "val", output: Output = "", device: Device = "auto",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """How alike the class and the distillation token are, by depth.

    The cosine of the two: of the parameters alone (embedding), with position embedding (input), after every block, and
    after the final norm; mean and standard deviation over the images. The paper gives 0.06 before the first layer and
    0.93 after the last. Source: Touvron et al. 2020, Sec. 4.

    Example: deitkit analyze tokens runs/quickstart/student_32
    """
    report = measure_tokens(run, limit=limit, dataset=dataset, data=data, split=split, device=device)
    show(report, reports_folder(run, output), as_json=as_json)


def measure_tokens(
    run: str, *, limit: int | None = None, dataset: str = "", data: str = "", split: str = "val", device: str = "auto"
) -> Report:
    """The tokens' cosines of one model on its own data (or the data named)."""
    from deitkit.analysis.tokens import tokens_report
    from deitkit.cli.use import data_settings, open_for
    from deitkit.distributed import pick_device
    from deitkit.predict import token_batches
    from deitkit.weights import load_model

    model = load_model(run)
    source, _ = open_for(model, data_settings(run, dataset=dataset, data=data), split)
    batches = token_batches(model, source, device=pick_device(device), limit=limit)
    return tokens_report(batches, classifier=Path(run).name, images=f"{source.dataset}/{split}")


def reports_folder(reference: str, output: str) -> Path:
    """Where a report goes: reports/ of the run, whatever of it is referred to, or the folder asked for."""
    return Path(output) if output else Reference.parse(reference).folder / "reports"


def show(report: Report, folder: Path, *, as_json: bool) -> None:
    """Save a report and print it."""
    from deitkit.analysis.save import save_report

    saved = save_report(report, folder)
    if as_json:
        render.print_json(report)
        return
    print_report(report)
    render.say(f"wrote {', '.join(path.name for path in saved)} to {folder}")


def print_report(report: Report, *, without: tuple[str, ...] = ()) -> None:
    """A report's tables; where a matrix has published values, they stand in brackets beside the measured ones."""
    from deitkit.analysis.report import Matrix

    matrices = {figure.name: figure for figure in report.figures if isinstance(figure, Matrix)}
    for table in report.tables:
        if table.name not in without:
            footers, texts = [], _texts(table, matrices.get(table.name))
            if len(texts) > LONG:
                footers.append(f"{FEW} of {len(texts):,} rows; all are in {report.name}_{table.name}.csv")
                texts = texts[:FEW]
            if table.name in matrices:
                footers.append(matrices[table.name].references_title)
            render.print_table(
                f"{report.title}: {_inside(table.title)}", table.columns, texts, footer="\n".join(filter(None, footers))
            )


def _inside(title: str) -> str:
    """A title as the middle of a sentence: its first word small, but for a name with capitals of its own."""
    first = title.partition(" ")[0]
    return title[:1].lower() + title[1:] if first[1:] == first[1:].lower() else title


def _texts(table: Table, matrix: Matrix | None) -> list[list[str]]:
    texts = table.texts()
    if matrix is not None and matrix.references_title:
        for row, references in zip(texts, matrix.references, strict=True):
            row[1:] = [
                text if reference is None else f"{text} ({reference:.1f})"
                for text, reference in zip(row[1:], references, strict=True)
            ]
    return texts
