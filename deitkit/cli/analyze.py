"""`deitkit analyze`: predictions or tokens -> a report, shown, and saved in the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deitkit.cli import render

if TYPE_CHECKING:
    from deitkit.analysis.report import Report
    from deitkit.predictions import Predictions

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


def predictions_of(
    references: list[str],
    *,
    dataset: str = "",
    data: str = "",
    split: str = "val",
    device: str = "auto",
    keep_logits: bool = False,
) -> list[Predictions]:
    """Each classifier's predictions on the first one's data (or the data named): found, or made and kept."""
    from deitkit import predict as prediction
    from deitkit.cli.use import data_settings, open_for, predictions_path
    from deitkit.data.augment import Reading
    from deitkit.distributed import pick_device
    from deitkit.predictions import Predictions
    from deitkit.weights import load_model

    settings = data_settings(references[0], dataset=dataset, data=data)
    found, picked = [], pick_device(device)
    for reference in references:
        path = predictions_path(reference, settings.dataset, split, data=data)
        if path.is_file() and not data:
            found.append(Predictions.load(path))
            continue
        render.say(f"{reference} has no predictions on {settings.dataset} {split} yet: making them")
        model = load_model(reference)
        source, classes = open_for(model, settings, split)
        table = prediction.predict(
            model.student.to(picked), model.info, source, name=Path(reference).name, device=picked,
            keep_logits=keep_logits, reading=Reading.of(settings), classes=classes,
        )  # fmt: skip
        table.save(path)
        found.append(table)
    return found


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
    """Where a report goes: the run's reports/, or the folder asked for."""
    return Path(output) if output else Path(reference) / "reports"


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
        if table.name in without:
            continue
        texts = table.texts()
        matrix = matrices.get(table.name)
        if matrix is not None and matrix.references_title:
            for texts_row, references in zip(texts, matrix.references, strict=True):
                texts_row[1:] = [
                    text if reference is None else f"{text} ({reference:.1f})"
                    for text, reference in zip(texts_row[1:], references, strict=True)
                ]
        footer = matrix.references_title if matrix is not None else ""
        render.print_table(f"{report.title}: {table.title.lower()}", table.columns, texts, footer=footer)
