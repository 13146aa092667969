"""The verdict of a run, with which its page begins. Runs no model, compares nothing anew."""

from __future__ import annotations

from deitkit.analysis.report import Report
from deitkit.models.forms import decisive_head
from deitkit.predictions.verdict import LABELS_VIEW, command_words, labels_words, table_verdict
from deitkit.report.folder import RunFolder
from deitkit.report.run_tables import ReportedRun


def run_verdict(subject: ReportedRun, disagreement: Report | None) -> list[str]:
    """How often right and where weak, who is right more often, which labels to check; without predictions what the last
    evaluation says."""
    main = subject.main
    if main is None:
        return _so_far(subject.folder)
    doubted = 0 if main.doubted is None else int(main.doubted.sum())
    command = command_words(
        "explore", str(subject.folder.run.path), split=main.split, more=["--view", LABELS_VIEW]
    )  # fmt: skip
    first = disagreement.verdict[:1] if disagreement else ()
    return [*table_verdict(main), *first, *labels_words(doubted, command)]


def _so_far(folder: RunFolder) -> list[str]:
    if not folder.evaluations:
        return []
    last = folder.evaluations[-1]
    head = decisive_head(last["top1"])
    by = f" by the {head} head" if len(last["top1"]) > 1 else ""
    return [f"{100 * last['top1'][head]:.1f} % right{by} at epoch {last.get('epoch', 0):g}, on the validation images."]
